"""Running the service in one process: its address, its token, and its signals."""

from __future__ import annotations

import gc
import ipaddress
import logging
import signal
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from threadpoolctl import threadpool_limits

from recbole_margo.errors import ConfigError
from recbole_margo.serving.guard import CurrentBundle
from recbole_margo.serving.service import create_app
from recbole_margo.store.reading import read_small

TOKEN_BYTES = 4096
SECONDS_IDLE, SECONDS_TO_END, CONNECTIONS = 30, 20, 1000


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
