"""The HTTP service over a bundle; needs the extra `serve` (FastAPI, uvicorn).

Every error is a JSON body `{"error": ...}` that says what was expected. Ids are raw ids of any
characters. A bundle is replaced as a whole, between two requests: see `CurrentBundle`.
"""

from __future__ import annotations

import gc
import ipaddress
import logging
import secrets
import signal
import socket
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import anyio
import uvicorn
from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from threadpoolctl import threadpool_limits

from recbole_margo.errors import ConfigError, DataError, UnknownIdError
from recbole_margo.serving.catalogue import Catalogue
from recbole_margo.serving.guard import CurrentBundle, Guard, ServiceLimits
from recbole_margo.serving.page import catalogue_page, user_page
from recbole_margo.serving.recommender import Recommendations
from recbole_margo.store.reading import read_small

# Requests for many lists that are computed at the same time.
BATCHES_AT_ONCE = 2
SHOWN, SHOWN_AUDITED = 50, 500
IMAGE_HEADERS = {"Cache-Control": "private, max-age=300", "X-Content-Type-Options": "nosniff"}
TOKEN_BYTES = 4096
SECONDS_IDLE, SECONDS_TO_END, CONNECTIONS = 30, 20, 1000


class RecommendRequest(BaseModel):
    """Whom to recommend to, and what."""

    users: list[str] | None = Field(None, description="raw ids of users")
    history: list[str] | None = Field(None, description="items of one new user")
    n: int = 10
    exclude_seen: bool = True
    allow: list[str] | None = Field(None, description="the only items that may be recommended")
    deny: list[str] | None = Field(None, description="items that may not be")
    on_unknown: str = Field("error", description="`error` or `popular`")


def create_app(
    current: CurrentBundle, limits: ServiceLimits | None = None, token: str | None = None
) -> FastAPI:
    """Return the service as an ASGI application.

    Args:
        token: what requests must bring as `Authorization: Bearer`; none: nothing.
    """
    allowed = limits or ServiceLimits()
    app = FastAPI(title="recbole-margo", version="1", docs_url=None, redoc_url=None)
    registry = CollectorRegistry()
    app.add_middleware(Guard, current=current, limits=allowed, token=token, registry=registry)
    _add_errors(app)
    _add_lists(app, allowed)
    _add_facts(app, allowed)
    _add_pages(app)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def counted() -> Response:
        """Return counts and times of requests in Prometheus' text format."""
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Tell that the process lives."""
        return {"status": "alive"}

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        """Tell from which bundle requests are answered."""
        facts = current.catalogue.bundle.facts
        return {"status": "ready", "model": facts.model, "dataset": facts.dataset}

    return app


async def catalogue_of(request: Request) -> Catalogue:
    """Return the catalogue that a request began with."""
    found: Catalogue = request.state.catalogue
    return found


Current = Annotated[Catalogue, Depends(catalogue_of)]


def _add_lists(app: FastAPI, allowed: ServiceLimits) -> None:
    batches = anyio.CapacityLimiter(BATCHES_AT_ONCE)

    @app.post("/recommend")
    async def recommend(body: RecommendRequest, catalogue: Current) -> JSONResponse:
        """Return lists for users, or for one new user who knows some items."""
        _limit("n", body.n, allowed.n)
        _limit("users", len(body.users or ()), allowed.users)
        for name, ids in (("history", body.history), ("allow", body.allow), ("deny", body.deny)):
            _limit(name, len(ids or ()), allowed.history)
        # In a thread, so that who asks for one list need not wait for who asks for a hundred.
        lists = await anyio.to_thread.run_sync(
            partial(catalogue.recommender.recommend, **body.model_dump()),
            abandon_on_cancel=True,
            limiter=batches,
        )
        return JSONResponse({"lists": [_plain_list(one) for one in lists]})

    @app.get("/recommend")
    async def recommend_user(catalogue: Current, user: str, n: int = 10) -> JSONResponse:
        """Return the list of one user."""
        _limit("n", n, allowed.n)
        return JSONResponse(_plain_list(catalogue.recommender.recommend([user], n)[0]))

    @app.get("/similar")
    async def similar(
        catalogue: Current, item: str, n: int = 10, modality: str | None = None
    ) -> JSONResponse:
        """Return the items most alike."""
        _limit("n", n, allowed.n)
        found = catalogue.recommender.similar_items(item, n, modality)
        return JSONResponse({"item": item, "items": [vars(one) for one in found]})


def _add_facts(app: FastAPI, allowed: ServiceLimits) -> None:
    @app.get("/explain")
    async def explain(catalogue: Current, user: str, item: str) -> JSONResponse:
        """Return the parts of a score, which add up to it."""
        return JSONResponse(catalogue.recommender.explain(user, item).as_plain())

    @app.get("/items/{item:path}")
    async def item_facts(catalogue: Current, item: str) -> JSONResponse:
        """Return what is known of an item."""
        return JSONResponse(asdict(catalogue.card(item)))

    @app.get("/thumbnail", response_class=Response)
    async def thumbnail(catalogue: Current, item: str) -> Response:
        """Return a small JPEG image of an item."""
        found = catalogue.thumbnail(catalogue.recommender.item_row(item))
        if not found:
            raise HTTPException(404, f"expected an item with an image, found {item!r:.80}")
        return Response(found, media_type="image/jpeg", headers=IMAGE_HEADERS)

    @app.get("/audit")
    async def audit(
        catalogue: Current, n: Annotated[int, Query(description="items a modality")] = 20
    ) -> JSONResponse:
        """Return how many rows of each modality fit their items, and the least reliable ones."""
        _limit("n", n, allowed.n)
        found = [asdict(part) for part in catalogue.audit(n)]
        return JSONResponse({"modalities": found})


def _add_pages(app: FastAPI) -> None:
    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def users(catalogue: Current, user: str = "", n: int = 12) -> HTMLResponse:
        _limit("n", n, SHOWN)
        return _page(*user_page(catalogue, user, n))

    @app.get("/catalogue", response_class=HTMLResponse, include_in_schema=False)
    async def audited(catalogue: Current, n: int = 50) -> HTMLResponse:
        _limit("n", n, SHOWN_AUDITED)
        nonce = secrets.token_urlsafe(16)
        return _page(catalogue_page(catalogue, n, nonce), script=f"'nonce-{nonce}'")


def _page(text: str, status: int = 200, script: str = "'none'") -> HTMLResponse:
    policy = (
        f"default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; script-src {script}; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}
    return HTMLResponse(text, status, headers)


def _limit(name: str, found: int, most: int) -> None:
    if found > most:
        raise ConfigError(f"{name}: expected at most {most}, found {found}")


def _plain_list(one: Recommendations) -> dict[str, Any]:
    return {
        "user": one.user,
        "popular": one.popular,
        "items": [vars(ranked) for ranked in one.items],
    }


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message}, status)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(ConfigError)
    @app.exception_handler(DataError)
    async def wrong(request: Request, error: Exception) -> Response:
        return _error(404 if isinstance(error, UnknownIdError) else 422, str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        found = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5]]
        return _error(422, "; ".join(found))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        return _error(error.status_code, str(error.detail))

    @app.exception_handler(Exception)
    async def defect(request: Request, error: Exception) -> Response:
        return _error(500, "an unexpected error; the log of the service has it")


@dataclass(frozen=True)
class ServiceAddress:
    """Where the service listens.

    Attributes:
        host: a name or an address.
        port: 0 takes one that is free.
    """

    host: str = "127.0.0.1"
    port: int = 8000

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host == "localhost":
            return True
        with suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return False


def serve(
    bundle: Path, address: ServiceAddress, token_file: Path | None = None, log_requests: bool = True
) -> None:
    """Answer requests until SIGTERM or Ctrl-C, which let those that began end.

    SIGHUP opens the bundle again; a link that leads to another one by then is followed.

    Args:
        bundle: folder of a bundle, or a link to one.
        token_file: a file with the token that requests must bring.

    Raises:
        BundleError: the bundle cannot be opened.
        ConfigError: others than this machine would reach it without a token, or the port is taken.
    """
    if token_file is None and not address.is_loopback:
        raise ConfigError(
            f"--host: others than this machine reach {address.host}: expected --token_file with a "
            "token that requests must bring, found none"
        )
    current = CurrentBundle(bundle)
    app = create_app(current, token=_token(token_file))
    listening = _listen(address)
    logging.getLogger("recbole_margo.access").setLevel(
        logging.INFO if log_requests else logging.WARNING
    )
    if hasattr(signal, "SIGHUP"):
        # In a thread, so that requests are answered meanwhile.
        signal.signal(
            signal.SIGHUP,
            lambda number, frame: threading.Thread(target=current.reload, daemon=True).start(),
        )
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=SECONDS_IDLE,
        timeout_graceful_shutdown=SECONDS_TO_END,
    )
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    logging.getLogger("recbole_margo.serving").warning(
        "Open http://%s:%d/ in a browser; Ctrl-C ends the service.", shown, port
    )
    # What there is now stays: no collection of garbage need look at it while a request waits.
    gc.collect()
    gc.freeze()
    # Lists of one user are too short for threads of BLAS to pay. uvicorn hands a signal on when the
    # requests have ended.
    with threadpool_limits(1), suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


def _listen(address: ServiceAddress) -> socket.socket:
    if not 0 <= address.port < 2**16:
        raise ConfigError(f"--port: expected a number from 0 to 65535, found {address.port}")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
        return listening
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"--host {address.host} --port {address.port}: expected an address that is free, found "
            f"{str(error).lower()}"
        ) from error


def _token(file: Path | None) -> str | None:
    if file is None:
        return None
    token = read_small(file, TOKEN_BYTES).strip()
    if not token or not token.isascii() or " " in token:
        raise ConfigError(f"{file}: expected a token, a line of letters and digits, found none")
    return token
