"""What every request passes: the token, the limit on its body, counting, and the access log."""

from __future__ import annotations

import hmac
import json
import logging
import time
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recbole_margo.errors import BundleError
from recbole_margo.serving.bundle import open_bundle
from recbole_margo.serving.recommender import Recommender

LOG = logging.getLogger("recbole_margo.serving")
ACCESS = logging.getLogger("recbole_margo.access")
# What a load balancer asks has no token.
OPEN_PATHS = frozenset({"/health", "/ready"})


class CurrentBundle:
    """The recommender that requests are answered from, until another bundle takes its place.

    A request keeps the one that it began with.

    Args:
        folder: of the bundle, or a link to one; read anew by `reload`.

    Raises:
        BundleError: there is no bundle that can be opened.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recommender = Recommender(open_bundle(folder.resolve()))

    def reload(self) -> bool:
        """Open the folder again and answer from it; tell whether that went well.

        A bundle that cannot be opened leaves everything as it is.
        """
        try:
            self.recommender = Recommender(open_bundle(self.folder.resolve()))
        except (BundleError, OSError) as error:
            LOG.error("the bundle stays as it is: %s", error)
            return False
        LOG.warning("answering from %s", self.folder.resolve())
        return True


class RequestMetrics:
    """Counts and times of requests by route, for Prometheus."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "recbole_margo_requests", "Requests", ["route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "recbole_margo_seconds", "Seconds a request", ["route"], registry=self.registry
        )

    def add(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Return all in Prometheus' text format."""
        found: bytes = generate_latest(self.registry)
        return found


class Guard:
    """ASGI middleware around the service.

    The access log has method, route, status and time, and no ids.

    Args:
        app: what it stands before.
        current: from whose bundle requests are answered; a request keeps the one it begins with.
        body_bytes: longest body.
        token: what requests must bring as `Authorization: Bearer`; none: nothing.
        metrics: where requests are counted.
    """

    def __init__(
        self,
        app: ASGIApp,
        current: CurrentBundle,
        body_bytes: int,
        token: str | None,
        metrics: RequestMetrics,
    ) -> None:
        self.app = app
        self.current = current
        self.body_bytes = body_bytes
        self.expected = None if token is None else f"Bearer {token}".encode()
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope.setdefault("state", {})["recommender"] = self.current.recommender
        started, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._answer(scope, receive, noted)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            seconds = time.perf_counter() - started
            self.metrics.add(route, status, seconds)
            line = {"method": scope["method"], "route": route, "status": status}
            ACCESS.info(json.dumps({**line, "ms": round(seconds * 1000, 2)}))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if not self._may(scope["path"], headers):
            await _refuse(401, "expected the header Authorization: Bearer TOKEN", scope, send)
            return
        left = self.body_bytes

        async def limited() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, self._too_long())  # which FastAPI hands on
            return message

        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self.body_bytes:
            await _refuse(413, self._too_long(), scope, send)
            return
        await self.app(scope, limited, send)

    def _too_long(self) -> str:
        return f"expected a body of at most {self.body_bytes:,} bytes"

    def _may(self, path: str, headers: dict[bytes, bytes]) -> bool:
        if self.expected is None or path in OPEN_PATHS:
            return True
        return hmac.compare_digest(headers.get(b"authorization", b""), self.expected)


async def _refuse(status: int, message: str, scope: Scope, send: Send) -> None:
    async def nothing() -> Any:
        return {"type": "http.disconnect"}

    await JSONResponse({"error": message}, status)(scope, nothing, send)
