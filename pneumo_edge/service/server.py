"""Runs the service: a socket, a server, and an orderly end."""

from __future__ import annotations

import ipaddress
import logging
import math
import signal
import socket
import sys

import uvicorn
from starlette.applications import Starlette

from pneumo_edge.errors import ServiceError
from pneumo_edge.service.limits import Limits


def listen(host: str, port: int) -> socket.socket:
    """Open a socket that listens; with port 0, on a port that is free.

    Raises:
        ServiceError: The address is not one of this machine, or the port is taken or not allowed.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:
        # Python puts the address in brackets behind what the system says.
        reason = (getattr(error, "strerror", None) or str(error)).partition(" (")[0]
        raise ServiceError(
            f"cannot listen on port {port} of {host} ({reason})",
            "an address of this machine and a free port",
            "Give another with --host or --port; --port 0 finds a free one",
        ) from error


def url(listening: socket.socket) -> str:
    """Where a browser finds what listens on a socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def is_loopback(listening: socket.socket) -> bool:
    """Tell whether only this machine can reach a socket."""
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


def run(app: Starlette, listening: socket.socket, limits: Limits) -> None:
    """Serve until SIGTERM or Ctrl-C; then take no new request, and finish those that were begun.

    Raises:
        SystemExit: After SIGTERM, with the code 0: that is how a service is stopped.
        KeyboardInterrupt: After Ctrl-C.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    # uvicorn tells of its start and end in lines of its own.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    config = uvicorn.Config(
        app, http="h11", ws="none", loop="asyncio", lifespan="on", log_config=None, access_log=False,
        server_header=False, proxy_headers=False, timeout_graceful_shutdown=math.ceil(2 * limits.seconds) + 1,
    )  # fmt: skip
    # When it has ended, uvicorn gives the signal that ended it to the handler that was there before.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.Server(config).run(sockets=[listening])
