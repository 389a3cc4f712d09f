"""What goes around every request: the headers of its answer, the log, the metrics, and the state of its connection."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from http import HTTPMethod, HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pneumo_edge.service import problems
from pneumo_edge.service.connections import Connection

log = logging.getLogger(__name__)

#: The key under which the server puts a request's :class:`Connection` into its scope's state.
CONNECTION = "connection"


class Frame:
    """Puts the headers on every response, writes the log, counts, and lets no exception out.

    The log has the method, the path where it is one of the service's own, the status and the time: nothing that was
    sent. ``curl --upload-file`` puts a file's name into the path, for one.

    Args:
        app: What answers.
        paths: The service's own.
        answered: Called with the method, the path, the status and the seconds of each request.
    """

    def __init__(self, app: ASGIApp, paths: frozenset[str], answered: Callable[[str, str, int, float], None]) -> None:
        self._app = app
        self._paths = paths
        self._answered = answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, exchange = time.perf_counter(), _Exchange(scope, receive, send)
        method = scope["method"] if scope["method"] in set(HTTPMethod) else "METHOD"
        path = scope["path"] if scope["path"] in self._paths else "(another path)"
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            log.info("%s %s: the client went away", method, path)
            return
        except Exception as error:
            # Where, and not what: the text of an exception may quote what was sent.
            where = "".join(traceback.format_tb(error.__traceback__))
            log.error("%s %s: %s, which is a bug or a broken model file\n%s", method, path, type(error).__name__, where)
            if not exchange.status:
                detail = "the service failed; expected a verdict. Look at its log, and report it."
                response = problems.respond(HTTPStatus.INTERNAL_SERVER_ERROR, detail)
                await response(scope, exchange.receive, exchange.send)
        seconds = time.perf_counter() - begun
        self._answered(method, path, exchange.status, seconds)
        log.info("%s %s %d %.0f ms", method, path, exchange.status, 1000 * seconds, extra={"kind": exchange.status})


class _Exchange:
    """One request and its answer, told to the connection that they use."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.status = 0
        self._receive = receive
        self._send = send
        headers = Headers(scope=scope)
        is_plain = "transfer-encoding" not in headers
        self._is_whole = is_plain and headers.get("content-length", "0") == "0"
        # Not there under another server than this package's own.
        self._connection: Connection | None = scope.get("state", {}).pop(CONNECTION, None)
        if self._connection:
            self._connection.begin(not self._is_whole, is_plain)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._is_whole = not message.get("more_body", False)
            if self._connection:
                self._connection.take(len(message.get("body", b"")))
                if self._is_whole:
                    self._connection.arrive()
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers.update(problems.HEADERS)
            if not self._is_whole:
                # What is left of the body is not worth reading: the connection ends with this answer.
                headers["Connection"] = "close"
        await self._send(message)
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if is_last and self._connection:
            self._connection.end()
