"""Errors of requests as JSON problem details (RFC 9457)."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus

from starlette.responses import Response

from pneumo_edge.errors import ImageError, ImageTooLargeError, NotAnImageError, PneumoEdgeError

MEDIA_TYPE = "application/problem+json"
#: Remedies for some of the refusals.
SEND = 'Send only the image: curl --header "Content-Type: image/jpeg" --data-binary @x-ray.jpeg'
LATER = "Send it again later"
#: No resources of other sites, nothing inline, no caching, no embedding in other pages.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
#: The HTTP status of an image that cannot be classified, by its error; the first match is used.
_STATUSES: tuple[tuple[type[ImageError], HTTPStatus], ...] = (
    (ImageTooLargeError, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (NotAnImageError, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
    (ImageError, HTTPStatus.UNPROCESSABLE_ENTITY),
)


@dataclass(frozen=True)
class Problem:
    """Why there is no prediction (RFC 9457): the status, its name, and one line that says what to do."""

    status: int
    title: str
    detail: str


class RequestError(PneumoEdgeError):
    """A request that is refused.

    Args:
        status: The HTTP status.
        given: As for every error of this package.
        expected: As for every error of this package.
        remedy: As for every error of this package.
        headers: Headers that go with the status.
    """

    def __init__(
        self, status: HTTPStatus, given: str, expected: str, remedy: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(given, expected, remedy)
        self.status = status
        self.headers = headers or {}


def status_of(error: ImageError) -> HTTPStatus:
    """Return the HTTP status for an image that cannot be classified."""
    return next(status for kind, status in _STATUSES if isinstance(error, kind))


def respond(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Make the response for a problem."""
    return Response(_encode(status, detail), status, headers, MEDIA_TYPE)


@functools.cache
def raw(error: RequestError) -> bytes:
    """Make the complete HTTP/1.1 response for a problem that closes the connection before a request was read.

    Args:
        error: One of a few constant errors: a flood of connections gets the same bytes each time.
    """
    body = _encode(error.status, str(error))
    headers = {
        **HEADERS, **error.headers,
        "Content-Type": MEDIA_TYPE, "Content-Length": str(len(body)), "Connection": "close",
    }  # fmt: skip
    lines = [f"HTTP/1.1 {error.status:d} {error.status.phrase}", *(f"{name}: {text}" for name, text in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _encode(status: int, detail: str) -> bytes:
    return json.dumps(asdict(Problem(status, HTTPStatus(status).phrase, detail))).encode()
