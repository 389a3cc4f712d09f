"""Runs the service: the server, its connections, and an orderly shutdown."""

from __future__ import annotations

import math
import signal
import socket
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pneumo_edge._util import memory
from pneumo_edge.service import logs
from pneumo_edge.service.connections import Connection, Door, State
from pneumo_edge.service.frame import CONNECTION
from pneumo_edge.service.limits import Limits


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol for one connection, with this service's answer to a request that cannot be parsed."""

    def __init__(self, connection: Connection, **options: Any) -> None:
        super().__init__(**options)
        self._connection = connection

    def on_header(self, name: bytes, value: bytes) -> None:
        # The parser keeps the spaces after a value, which are not part of it (RFC 9110 5.5).
        super().on_header(name, value.strip(b" \t"))

    def send_400_response(self, msg: str) -> None:
        self._connection.fail_to_parse()


class _Server(uvicorn.Server):
    """uvicorn parses and answers; the ``Door`` in front of it accepts and limits connections."""

    def __init__(self, config: uvicorn.Config, door: Door) -> None:
        super().__init__(config)
        self._door = door

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        self._door.open(self._make_protocol)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._door.shut()
        await super().shutdown()
        await self._door.empty()

    def _make_protocol(self, connection: Connection) -> Any:
        state = {**self.lifespan.state, CONNECTION: connection}
        return _Protocol(connection, config=self.config, server_state=self.server_state, app_state=state)


def run(app: Starlette, listening: socket.socket, limits: Limits) -> None:
    """Serve until SIGTERM or Ctrl-C; then accept no new request, and finish those in progress.

    Args:
        app: From :func:`pneumo_edge.service.app.create_app`.
        listening: A listening socket.
        limits: The limits of the application, including the number of connections.

    Raises:
        KeyboardInterrupt: After Ctrl-C.
    """
    logs.set_up()
    memory.return_freed()
    # httptools parses a chunk in a fiftieth of h11's time (0.12 and 5.5 us): one-byte chunks do not stall others.
    config = uvicorn.Config(
        app, http=_Protocol, ws="none", loop="asyncio", lifespan="on", log_config=None, access_log=False,
        server_header=False, proxy_headers=False, timeout_graceful_shutdown=math.ceil(2 * limits.seconds) + 1,
    )  # fmt: skip
    door = Door(listening, limits)
    app.state.metrics.add_connections(
        {state.value: lambda state=state: door.count(state) for state in State}, door.counts
    )
    server = _Server(config, door)
    # uvicorn handles SIGTERM while it runs, and raises it again for this handler when it ends.
    signal.signal(signal.SIGTERM, lambda *_: setattr(server, "should_exit", True))
    server.run(sockets=[listening])
