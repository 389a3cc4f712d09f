"""Wraps every request: the headers of its answer, the log, the metrics, and the state of its connection."""

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
    """Sets the headers of every response, writes the log, counts, and catches every exception.

    The log has the method, the path (if it is one of the service's), the status and the time, but nothing that was
    sent: ``curl --upload-file``, for example, puts a file's name into the path.

    Args:
        app: The application that answers.
        paths: The paths of the service.
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
            log.info("%s %s: the client disconnected", method, path)
            return
        except Exception as error:
            # Log only where it was raised: the text of an exception may quote what was sent.
            where = "".join(traceback.format_tb(error.__traceback__))
            log.error("%s %s: %s (a bug or a damaged model file)\n%s", method, path, type(error).__name__, where)
            if not exchange.status:
                detail = "the service failed; expected a prediction. Check the service's log and report the error."
                response = problems.respond(HTTPStatus.INTERNAL_SERVER_ERROR, detail)
                await response(scope, exchange.receive, exchange.send)
        seconds = time.perf_counter() - begun
        self._answered(method, path, exchange.status, seconds)
        log.info("%s %s %d %.0f ms", method, path, exchange.status, 1000 * seconds, extra={"kind": exchange.status})


class _Exchange:
    """One request and its answer; informs the connection about them."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.status = 0
        self._receive = receive
        self._send = send
        headers = Headers(scope=scope)
        is_plain = "transfer-encoding" not in headers
        self._is_whole = is_plain and headers.get("content-length", "0") == "0"
        # Missing under another server than this package's.
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
                # The rest of the body is not read: the connection ends with this answer.
                headers["Connection"] = "close"
        await self._send(message)
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if is_last and self._connection:
            self._connection.end()
