"""Manages connections between the sockets and uvicorn: their number, their deadlines, and how they close.

uvicorn does not limit the time for a request's head, and reads without limit after a refusal. It closes a connection
while the client still sends, so the client gets a reset instead of the answer. At the limit of open files, asyncio's
own accept loop writes a traceback for each of thousands of attempts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from enum import Enum
from http import HTTPStatus
from itertools import islice
from typing import Any

from pneumo_edge.service import problems
from pneumo_edge.service.limits import Limits
from pneumo_edge.service.problems import LATER, RequestError

log = logging.getLogger(__name__)

#: Most seconds for the head of a request, from the start of the connection or the end of the last answer; most bytes.
HEAD_SECONDS, HEAD_BYTES = 10.0, 32 * 1024
#: Most bytes of a body on the wire, with chunk framing and trailers: a constant, plus a factor per byte of content.
#: One-byte chunks have six. uvicorn buffers up to 200 kB that the application has not read yet.
_FRAMING_BYTES, _FRAMING_FACTOR = 256 * 1024, 8
#: Bytes that are read at a time: of data that is not parsed, of data that is, and of a body with more framing than
#: content. An iteration of the loop reads once from each connection, and each one-byte chunk takes microseconds.
_PLAIN, _PARSED, _TINY = 128 * 1024, 8 * 1024, 512
#: Seconds without a byte after which an answered client is assumed to have read the answer.
_SILENCE = 2.0
#: Seconds before a connection that sends a head or a body may be dropped for another; and bytes that are added to each
#: body when the slowest is searched for.
_SETTLED, _HEAD_START = 0.1, 1000
#: Connections that are accepted in one iteration of the loop.
_BATCH = 32
#: Seconds between two checks of the deadlines.
_TICK = 0.25
#: If the system has no resources left: seconds without accepting, and connections that are dropped.
_PAUSE, _FREED = 0.1, 8
#: Seconds for the last answers to reach their clients when the service ends.
_FAREWELL = 1.0

_FULL = RequestError(
    HTTPStatus.SERVICE_UNAVAILABLE, "the service has reached its limit of connections", "a free connection", LATER,
    {"Retry-After": "1"},
)  # fmt: skip
_SLOW_HEAD = RequestError(
    HTTPStatus.REQUEST_TIMEOUT, f"the head of the request did not arrive within {HEAD_SECONDS:g} seconds",
    "a complete request", LATER,
)  # fmt: skip
_LARGE_HEAD = RequestError(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head of the request is too large", f"at most {HEAD_BYTES:,} bytes",
    "Send fewer headers",
)  # fmt: skip
_LARGE_FRAMING = RequestError(
    HTTPStatus.BAD_REQUEST, "the body has far more framing than content", "a body with a Content-Length, or in chunks",
    "Send larger chunks",
)  # fmt: skip


_NO_HTTP = RequestError(
    HTTPStatus.BAD_REQUEST, "the request cannot be parsed", "HTTP/1.1 with a standard method",
    "Use an HTTP client",
)  # fmt: skip


class State(Enum):
    """What a connection waits for."""

    #: For the client: the head of a request.
    HEAD = "head"
    #: For the client: the body of a request.
    BODY = "body"
    #: For the service: the answer.
    ANSWER = "answer"
    #: For the client to read the answer and close. What it still sends is discarded.
    CLOSING = "closing"


class Connection(asyncio.BufferedProtocol):
    """One client, between its socket and uvicorn's protocol.

    The application reports the progress of a request (:meth:`begin`, :meth:`take`, :meth:`arrive`, :meth:`end`).
    """

    def __init__(self, door: Door, accepted: socket.socket, refusal: RequestError | None = None) -> None:
        self.state = State.HEAD
        self.since = door.now()
        self.content = 0
        self._door = door
        self._socket = accepted
        self._refusal = refusal
        self._inner: Any = None
        self._transport: asyncio.Transport | None = None
        self._deadline: float | None = self.since + HEAD_SECONDS
        #: When the client must have read enough of the answer.
        self._write_deadline: float | None = None
        self._wire = 0
        self._paused_by_inner = False
        self._is_fresh = True
        self._is_dropped = False
        self._is_plain = False

    # Called by the application

    def begin(self, has_body: bool, is_plain: bool) -> None:
        """The head of a request has arrived; a plain body has no chunks in it."""
        self._is_fresh = False
        self._is_plain = is_plain
        if self.state is not State.CLOSING:
            self._enter(State.BODY if has_body else State.ANSWER)

    def take(self, count: int) -> None:
        """Count bytes of a body's content that have arrived."""
        self.content += count

    def arrive(self) -> None:
        """The body is complete."""
        if self.state is State.BODY:
            self._enter(State.ANSWER)

    def end(self) -> None:
        """The answer was sent, and the connection stays open."""
        if self.state is not State.CLOSING:
            self._enter(State.HEAD, HEAD_SECONDS)

    # Called by the acceptor

    def rate(self, now: float) -> float:
        """Return bytes per second of the arriving body; a head start avoids dropping new ones."""
        return (self.content + _HEAD_START) / max(now - self.since, 1e-3)

    def is_silent(self) -> bool:
        """Whether everything that the client sent has been read."""
        try:
            return not self._socket.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def check(self, now: float) -> None:
        """Refuse or close the connection if a deadline has passed."""
        if self._write_deadline is not None and now > self._write_deadline:
            self.abort()
        elif self._deadline is not None and now > self._deadline:
            if self.state is State.HEAD:
                self._refuse(_SLOW_HEAD if self._wire else None)
            elif self.state is not State.CLOSING or now > self.since + self._door.limits.seconds or not self._unread():
                self.abort()

    def drop(self) -> None:
        """Close at once to make room for another connection."""
        if self._transport and self.state is not State.CLOSING:
            if self._is_fresh or self._wire:
                self._transport.write(problems.raw(_FULL))
            if not self._transport.get_write_buffer_size():
                self._transport.close()
                return
        self.abort()

    def abort(self) -> None:
        """Close without waiting for anything."""
        self._is_dropped = True
        if self._transport:
            self._transport.abort()

    def close(self) -> None:
        """Send the answer, then wait for a limited time until the client closes, because it may still be sending."""
        if self.state is State.CLOSING or not self._transport:
            return
        self._enter(State.CLOSING, _SILENCE)
        self._wire = 0
        self._write_deadline = None
        inner, self._inner = self._inner, None
        if inner:
            asyncio.get_running_loop().call_soon(inner.connection_lost, None)
        with contextlib.suppress(OSError):  # the client has disconnected
            self._transport.write_eof()

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection was established."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._is_dropped:
            transport.abort()
            return
        if self._refusal:
            self._refuse(self._refusal)
            return
        self._inner = self._door.make_protocol(self)
        self._inner.connection_made(_Facade(self, transport))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer that the loop reads into, until it calls :meth:`buffer_updated`."""
        # All connections share it, because the loop reads and hands over the data in one step.
        if self.state is State.CLOSING or (self.state is State.BODY and self._is_plain):
            return self._door.buffer
        is_framing = self.state is State.BODY and self._wire > _PARSED + 2 * self.content
        return self._door.buffer[: _TINY if is_framing else _PARSED]

    def buffer_updated(self, nbytes: int) -> None:
        """Handle bytes that were read."""
        self._wire += nbytes
        if self.state is State.CLOSING:
            self._deadline = self._door.now() + _SILENCE
            if self._wire > self._door.limits.discarded or self._door.now() > self.since + self._door.limits.seconds:
                self.abort()
            return
        if self.state is State.HEAD and self._wire > HEAD_BYTES:
            self._refuse(_LARGE_HEAD)
        elif self.state is State.BODY and self._wire > _FRAMING_BYTES + _FRAMING_FACTOR * self.content:
            self._refuse(_LARGE_FRAMING)
        elif self._inner:
            self._feed(bytes(self._door.buffer[:nbytes]))

    def _feed(self, data: bytes) -> None:
        try:
            self._inner.data_received(data)
        except Exception as error:
            # asyncio would log it with what was sent.
            log.error("the HTTP parser failed with %s", type(error).__name__)
            self.abort()

    def eof_received(self) -> bool:
        """The client has stopped sending: an incomplete request will never be complete."""
        return False

    def pause_writing(self) -> None:
        """The client does not read as fast as it is written to."""
        self._write_deadline = self._door.now() + self._door.limits.seconds
        if self._inner:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """The client has read most of the answer."""
        self._write_deadline = None
        if self._inner:
            self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is closed."""
        inner, self._inner = self._inner, None
        if inner:
            inner.connection_lost(error)
        self._transport = None
        self._door.forget(self)

    # Called by uvicorn

    def fail_to_parse(self) -> None:
        """The client did not send HTTP."""
        self._refuse(_NO_HTTP)

    def pause_reading(self, paused: bool) -> None:
        """Pause or resume reading for uvicorn."""
        self._paused_by_inner = paused
        self._read_or_not()

    def _enter(self, state: State, seconds: float | None = None) -> None:
        if not self._transport or self._transport.is_closing():
            return
        now = self._door.now()
        self._door.note(self, state)
        self.since = now
        self._deadline = None if seconds is None else now + seconds
        if state is not State.ANSWER:
            self._wire = 0
        if state is State.BODY:
            self.content = 0
        self.state = state
        self._read_or_not()

    def _read_or_not(self) -> None:
        if not self._transport or self._transport.is_closing():
            return
        # Data that arrives before the answer is sent has no other limit.
        if self.state is State.ANSWER or (self._paused_by_inner and self.state is not State.CLOSING):
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _refuse(self, refusal: RequestError | None) -> None:
        """Answer instead of uvicorn, if it has not started to, and close."""
        if refusal and self._transport:
            self._door.refused(refusal)
            self._transport.write(problems.raw(refusal))
        self.close()

    def _unread(self) -> bool:
        """Whether the client has not yet received the whole answer."""
        return bool(self._transport and self._transport.get_write_buffer_size())


class _Facade(asyncio.Transport):
    """The transport that uvicorn uses; closing it lets the client read the answer first."""

    def __init__(self, connection: Connection, transport: asyncio.Transport) -> None:
        super().__init__()
        self._connection = connection
        self._transport = transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._connection.state is State.CLOSING or self._transport.is_closing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        self._connection.close()

    def abort(self) -> None:
        self._connection.abort()

    def pause_reading(self) -> None:
        self._connection.pause_reading(True)

    def resume_reading(self) -> None:
        self._connection.pause_reading(False)


class Door:
    """Accepts connections up to a limit, and drops the one that waited longest in favour of a new one.

    Args:
        listening: The listening socket; :meth:`shut` closes it.
        limits: Limits on the number of connections and on each of them.
    """

    def __init__(self, listening: socket.socket, limits: Limits) -> None:
        self.limits = limits
        self.buffer = memoryview(bytearray(_PLAIN))
        self.make_protocol: Callable[[Connection], Any] = lambda connection: None
        #: Connections accepted, refused at the limit, dropped for another, and rejected because no request could be
        #: read; failed attempts to accept one.
        self.counts = {"accepted": 0, "refused": 0, "dropped": 0, "rejected": 0, "failed": 0}
        self._listening = listening
        # By state, in the order in which they entered it.
        self._connections: dict[State, dict[Connection, None]] = {state: {} for state in State}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def now(self) -> float:
        """Return the time of the loop's clock in seconds."""
        return self._loop.time() if self._loop else 0.0

    def count(self, state: State) -> int:
        """Return the number of connections in a state."""
        return len(self._connections[state])

    def open(self, make_protocol: Callable[[Connection], Any]) -> None:
        """Start to accept connections."""
        self._loop = asyncio.get_running_loop()
        self.make_protocol = make_protocol
        self._listening.setblocking(False)
        self._loop.add_reader(self._listening, self._accept)
        self._loop.call_later(_TICK, self._look)

    def shut(self) -> None:
        """Stop accepting connections."""
        if self._loop and self._listening.fileno() >= 0:
            self._loop.remove_reader(self._listening)
        self._listening.close()

    async def empty(self) -> None:
        """Wait briefly until the last answers have been read, then close the remaining connections."""
        end = self.now() + _FAREWELL
        while any(self._connections.values()) and self.now() < end:
            await asyncio.sleep(0.02)
        for connection in list(self._all()):
            connection.abort()

    def note(self, connection: Connection, state: State) -> None:
        """Record that a connection enters another state."""
        self._connections[connection.state].pop(connection, None)
        self._connections[state][connection] = None

    def forget(self, connection: Connection) -> None:
        """Remove a closed connection."""
        self._connections[connection.state].pop(connection, None)

    def refused(self, refusal: RequestError) -> None:
        """Count a connection that is refused before it sent a request."""
        self.counts["refused" if refusal is _FULL else "rejected"] += 1
        log.info("(no request) %d", refusal.status, extra={"kind": refusal.status})

    def _all(self) -> Iterator[Connection]:
        for connections in self._connections.values():
            yield from connections

    def _accept(self) -> None:
        assert self._loop
        for _ in range(_BATCH):
            try:
                accepted, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._rest(error)
                return
            self._admit(accepted)

    def _admit(self, accepted: socket.socket) -> None:
        assert self._loop
        self.counts["accepted"] += 1
        accepted.setblocking(False)
        if accepted.family in (socket.AF_INET, socket.AF_INET6):
            # Head and body are two writes. Without this, the second waits for the client's delayed acknowledgement.
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        refusal = None
        served = sum(map(len, self._connections.values())) - self.count(State.CLOSING)
        if served >= self.limits.connections and not self._make_place():
            refusal = _FULL
        if self.count(State.CLOSING) >= self.limits.connections:
            self._drop(next(iter(self._connections[State.CLOSING])))
        connection = Connection(self, accepted, refusal)
        self.note(connection, State.HEAD)
        task = self._loop.create_task(self._connect(connection, accepted))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, connection: Connection, accepted: socket.socket) -> None:
        assert self._loop
        try:
            await self._loop.connect_accepted_socket(lambda: connection, accepted)
        except OSError:  # the client has gone
            accepted.close()
            self.forget(connection)

    def _make_place(self) -> bool:
        """Drop the least useful connection, if one may be dropped."""
        now = self.now()
        idle = self._connections[State.HEAD]
        idlest = next(iter(idle), None)
        # If the loop is behind, the request of a good client may still be unread.
        dropped = next(
            (each for each in islice(idle, _BATCH) if now - each.since >= _SETTLED and each.is_silent()), None
        )
        if not dropped:
            settled = [each for each in self._connections[State.BODY] if now - each.since >= _SETTLED]
            dropped = min(settled, key=lambda each: each.rate(now), default=idlest)
        if dropped:
            self._drop(dropped)
        return dropped is not None

    def _drop(self, connection: Connection) -> None:
        self.counts["dropped"] += 1
        connection.drop()
        # Its place is free now; its file descriptor is free one iteration of the loop later.
        self.forget(connection)

    def _rest(self, error: OSError) -> None:
        """Handle a lack of system resources: drop some connections, and try again a little later."""
        assert self._loop
        self.counts["failed"] += 1
        log.warning("cannot accept a connection: %s", error.strerror, extra={"kind": "accept"})
        for _ in range(_FREED):
            self._make_place()
        self._loop.remove_reader(self._listening)
        self._loop.call_later(_PAUSE, self._go_on)

    def _go_on(self) -> None:
        if self._loop and self._listening.fileno() >= 0:
            self._loop.add_reader(self._listening, self._accept)

    def _look(self) -> None:
        assert self._loop
        now = self.now()
        for connection in list(self._all()):
            connection.check(now)
        self._loop.call_later(_TICK, self._look)
