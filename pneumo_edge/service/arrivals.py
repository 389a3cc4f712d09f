"""Reads request bodies within limits on the size, the time and the rate of each, and on the memory of all."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from starlette.requests import Request

from pneumo_edge.service.limits import Limits
from pneumo_edge.service.problems import LATER, SEND, RequestError

#: Seconds before the minimum rate of a body is enforced.
_GRACE = 5.0


class _Arrival:
    """One body that is being read."""

    def __init__(self, timer: asyncio.Timeout) -> None:
        self.body = bytearray()
        self.refusal: RequestError | None = None
        self._timer = timer

    def refuse(self, refusal: RequestError) -> None:
        """End the reading of this body, from another task."""
        self.refusal = refusal
        if not self._timer.expired():
            self._timer.reschedule(asyncio.get_running_loop().time())


class Arrivals:
    """Reads the bodies of requests into memory.

    Args:
        limits: Limits on each body, and on the bytes of all that are arriving at a time.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._arrivals: set[_Arrival] = set()
        self.bytes = 0

    async def read(self, request: Request) -> bytes:
        """Return the complete body of a request.

        Raises:
            RequestError: The body is too large, too slow or empty, or there is no memory for it.
        """
        limits, now = self._limits, asyncio.get_running_loop().time
        if int(request.headers.get("content-length", 0)) > limits.body:
            raise _too_large(limits)
        begun = now()
        latest = begun + limits.seconds
        arrival: _Arrival | None = None
        whole, body = False, b""
        try:
            async with asyncio.timeout_at(min(latest, begun + _GRACE)) as timer:
                arrival = _Arrival(timer)
                self._arrivals.add(arrival)
                async for part in request.stream():
                    self._add(arrival, part)
                    timer.reschedule(min(latest, begun + _GRACE + len(arrival.body) / limits.rate))
            whole = True
        except TimeoutError:
            refusal = arrival.refusal if arrival else None
            raise refusal or _too_slow(limits, now() >= latest) from None
        finally:
            if arrival:
                self._arrivals.discard(arrival)
                body = bytes(arrival.body) if whole else b""
                self.bytes -= len(arrival.body)
                # An exception's frames and its arrival refer to each other; free the memory without the collector.
                arrival.body.clear()
        if not body:
            raise RequestError(HTTPStatus.UNPROCESSABLE_ENTITY, "the body is empty", "an image", SEND)
        return body

    def _add(self, arrival: _Arrival, part: bytes) -> None:
        if arrival.refusal:
            raise arrival.refusal
        if len(arrival.body) + len(part) > self._limits.body:
            raise _too_large(self._limits)
        arrival.body += part
        self.bytes += len(part)
        if self.bytes > self._limits.arriving:
            # Refuse the largest body: that frees the most, and it is rarely an X-ray.
            largest = max(self._arrivals, key=lambda each: 0 if each.refusal else len(each.body))
            refusal = RequestError(
                HTTPStatus.SERVICE_UNAVAILABLE, "too many bytes are being sent at the same time",
                f"at most {self._limits.arriving:,} bytes of all bodies together", LATER, {"Retry-After": "1"},
            )  # fmt: skip
            if largest is arrival:
                raise refusal
            largest.refuse(refusal)


def _too_large(limits: Limits) -> RequestError:
    return RequestError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is too large", f"at most {limits.body:,} bytes",
        "Save the image at a lower resolution",
    )  # fmt: skip


def _too_slow(limits: Limits, is_late: bool) -> RequestError:
    given = (
        f"the body did not arrive within {limits.seconds:g} seconds" if is_late
        else f"the body arrived at less than {limits.rate:,.0f} bytes per second"
    )  # fmt: skip
    return RequestError(HTTPStatus.REQUEST_TIMEOUT, given, "a faster connection, or a smaller image", LATER)
