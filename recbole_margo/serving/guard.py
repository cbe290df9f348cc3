"""The gate of every request: token, limits on body and time, counting, the access log."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recbole_margo.errors import BundleError
from recbole_margo.serving.bundle_files import open_bundle
from recbole_margo.serving.catalogue import Catalogue
from recbole_margo.serving.recommender import Recommender

LOG = logging.getLogger("recbole_margo.serving")
ACCESS = logging.getLogger("recbole_margo.access")
# What a load balancer asks has no token.
OPEN_PATHS = frozenset({"/health", "/ready"})
ASK_BROWSERS = {"WWW-Authenticate": 'Basic realm="recbole-margo"'}


class CurrentBundle:
    """The bundle that requests are answered from, until another one takes its place.

    A request keeps the one that it began with.

    Args:
        folder: of the bundle, or a link to one; read anew by `reload`.

    Raises:
        BundleError: there is no bundle that can be opened.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.catalogue = self._open()
        self._one_at_a_time = threading.Lock()

    def reload(self) -> bool:
        """Open the folder again and answer from it; tell whether that went well.

        A bundle that cannot be opened leaves everything as it is.
        """
        with self._one_at_a_time:
            try:
                self.catalogue = self._open()
            except (BundleError, OSError) as error:
                LOG.error("the bundle stays as it is: %s", error)
                return False
            LOG.warning("answering from %s", self.folder.resolve())
            return True

    def _open(self) -> Catalogue:
        opened = Catalogue(Recommender(open_bundle(self.folder.resolve())))
        opened.audit(0)  # which the first request need not wait for
        return opened


@dataclass(frozen=True)
class ServiceLimits:
    """The most that one request may ask for.

    Attributes:
        users: users of one request.
        history: items of a history, and ids of `allow` and of `deny`.
        body_bytes: length of a body.
        seconds: until its body is there and it is answered.
    """

    n: int = 100
    users: int = 100
    history: int = 1000
    body_bytes: int = 2**18
    seconds: float = 20.0


class Guard:
    """ASGI middleware around the service.

    The access log has time, method, route, status and duration, and no ids.

    Args:
        limits: on the body and the time of a request.
        token: what requests must bring as `Authorization: Bearer`, or as the password of `Basic`,
            which browsers ask their user for; none: nothing.
        registry: of Prometheus, for counts and times of requests by route.
    """

    def __init__(
        self,
        app: ASGIApp,
        current: CurrentBundle,
        limits: ServiceLimits,
        token: str | None,
        registry: CollectorRegistry,
    ) -> None:
        self.app = app
        self.current = current
        self.limits = limits
        self.token = None if token is None else token.encode()
        self._requests = Counter(
            "recbole_margo_requests", "Requests", ["route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "recbole_margo_seconds", "Seconds a request", ["route"], registry=registry
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope.setdefault("state", {})["catalogue"] = self.current.catalogue
        started, status = time.perf_counter(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        request = _BoundedBody(receive, self.limits.body_bytes)
        try:
            with anyio.move_on_after(self.limits.seconds) as deadline:
                await self._answer(scope, request, noted)
            if deadline.cancelled_caught and not status:
                late = "a body" if request.awaited else "an answer"
                message = f"expected {late} within {self.limits.seconds:g} seconds"
                await _refuse(408 if request.awaited else 503, message, scope, noted)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            seconds = time.perf_counter() - started
            self._requests.labels(route, status or 500).inc()
            self._seconds.labels(route).observe(seconds)
            line = {
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "method": scope["method"],
                "route": route,
                "status": status or 500,
                "ms": round(seconds * 1000, 2),
            }
            ACCESS.info(json.dumps(line))

    async def _answer(self, scope: Scope, request: _BoundedBody, send: Send) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if not self._may(scope["path"], headers):
            expected = "expected the header Authorization: Bearer TOKEN"
            await _refuse(401, expected, scope, send, ASK_BROWSERS)
            return
        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self.limits.body_bytes:
            await _refuse(413, request.too_long, scope, send)
            return
        await self.app(scope, request, send)

    def _may(self, path: str, headers: dict[bytes, bytes]) -> bool:
        if self.token is None or path in OPEN_PATHS:
            return True
        kind, _, brought = headers.get(b"authorization", b"").partition(b" ")
        if kind.lower() == b"basic":
            try:
                brought = base64.b64decode(brought, validate=True).partition(b":")[2]
            except binascii.Error:
                return False
        elif kind.lower() != b"bearer":
            return False
        return hmac.compare_digest(brought, self.token)


class _BoundedBody:
    """Receives a request whose body may not be longer than a limit."""

    def __init__(self, receive: Receive, most: int) -> None:
        self.too_long = f"expected a body of at most {most:,} bytes"
        self.awaited = False
        self._receive = receive
        self._left = most

    async def __call__(self) -> Message:
        self.awaited = True
        message = await self._receive()
        self.awaited = False
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise HTTPException(413, self.too_long)  # which FastAPI hands on
        return message


async def _refuse(
    status: int, message: str, scope: Scope, send: Send, headers: dict[str, str] | None = None
) -> None:
    async def nothing() -> Any:
        return {"type": "http.disconnect"}

    await JSONResponse({"error": message}, status, headers)(scope, nothing, send)
