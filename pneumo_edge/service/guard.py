"""Refuses requests with another host name, from another site's page, or without the token."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from pneumo_edge.service import problems
from pneumo_edge.service.problems import RequestError

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>\d{1,5}))?", re.ASCII)
_UNSPECIFIED = frozenset(("0.0.0.0", "::"))
_PORTS = {"http": "80", "https": "443"}


@dataclass(frozen=True)
class Address:
    """A host and a port, from a ``Host`` header or an origin; a port of None means any, or the scheme's."""

    name: str
    port: str | None

    @classmethod
    def parse(cls, text: str) -> Address | None:
        """Parse an address, lower-cased and without brackets; None if the text is not one."""
        match = _HOST.fullmatch(text.lower())
        if not match:
            return None
        name = match["name"].strip("[]").removesuffix(".")
        return cls(_plain(name), match["port"]) if name else None

    @classmethod
    def of_origin(cls, text: str) -> Address | None:
        """Parse the address in an origin such as ``https://example.org:8443``, with its port; None for other text."""
        scheme, _, rest = text.lower().partition("://")
        address = cls.parse(rest) if scheme in _PORTS else None
        return address and cls(address.name, address.port or _PORTS[scheme])


def _plain(name: str) -> str:
    """Return a host name, with IP addresses in a normal form for comparison."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name
    return str(getattr(address, "ipv4_mapped", None) or address)


class Addresses:
    """The addresses of this service.

    Another site can point its own host name to the address of this machine (DNS rebinding). The browser then treats the
    site's page as a page of this service. The name in ``Host`` reveals it.

    Args:
        host: The host that the service listens on; None for a Unix socket.
        allowed: Additional names, ``NAME`` or ``NAME:PORT``: of a proxy, or in the local network.
    """

    def __init__(self, host: str | None, allowed: Iterable[Address] = ()) -> None:
        self._names = {_plain(host.lower().strip("[]"))} if host else set()
        self._is_loopback = not host or any(map(_is_loopback, self._names)) or bool(self._names & _UNSPECIFIED)
        self._allowed = frozenset(allowed)

    def has_host(self, host: Address, local: str | None) -> bool:
        """Whether a ``Host`` header names this service; ``local`` is the local address of the connection.

        The port is not compared: it changes through an SSH tunnel or a container, and another site cannot misuse it.
        """
        own = {*self._names, *([_plain(local)] if local else [])}
        if self._is_loopback and _is_loopback(host.name):
            return True
        return host.name in own or any(
            each.name == host.name and each.port in (None, host.port) for each in self._allowed
        )

    def has_origin(self, origin: Address, host: Address) -> bool:
        """Whether an origin is that of this service's page, requested with ``host``."""
        return any(
            each.name == origin.name and origin.port in ([each.port] if each.port else _PORTS.values())
            for each in (host, *self._allowed)
        )


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


class Token:
    """A secret that a client sends as ``Authorization: Bearer SECRET``."""

    def __init__(self, secret: str) -> None:
        self._digest = self._hash(secret)

    def fits(self, authorization: str | None) -> bool:
        """Whether a header has the secret; the time taken does not depend on how much of it is right."""
        scheme, _, secret = (authorization or "").partition(" ")
        is_right = hmac.compare_digest(self._hash(secret.strip()), self._digest)
        return scheme.lower() == "bearer" and is_right

    @staticmethod
    def _hash(secret: str) -> bytes:
        return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


class Guard:
    """Refuses requests of other sites' pages, without the token, or with an unsupported transfer coding.

    Args:
        app: The application that answers the other requests.
        addresses: The addresses of the service.
        token: The token that clients must send, or None.
        open_paths: Paths that need no token.
    """

    def __init__(self, app: ASGIApp, addresses: Addresses, token: Token | None, open_paths: Collection[str]) -> None:
        self._app = app
        self._addresses = addresses
        self._token = token
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http":
            try:
                self._check(scope)
            except RequestError as error:
                await problems.respond(error.status, str(error), error.headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = self._check_host(scope, headers)
        self._check_origin(headers, host)
        self._check_site(headers)
        self._check_token(scope, headers)
        _check_coding(headers)

    def _check_host(self, scope: Scope, headers: Headers) -> Address:
        texts = headers.getlist("host")
        host = Address.parse(texts[0]) if len(texts) == 1 else None
        server = scope.get("server")
        local = server[0] if server and server[1] is not None else None
        if not host or not self._addresses.has_host(host, local):
            raise _forbidden(
                "the Host header does not name this service", "the service's address",
                "Use the address that the service printed, or start it with --allow-host NAME",
            )  # fmt: skip
        return host

    def _check_origin(self, headers: Headers, host: Address) -> None:
        for text in headers.getlist("origin"):
            origin = Address.of_origin(text)
            if not origin or not self._addresses.has_origin(origin, host):
                raise _forbidden(
                    "the request comes from the page of another site (Origin)", "this service's own page, or a program",
                    "If that page is this service's page behind a proxy, start the service with --allow-host NAME",
                )  # fmt: skip

    def _check_site(self, headers: Headers) -> None:
        sites = {text.strip().lower() for text in headers.getlist("sec-fetch-site")}
        mode = headers.get("sec-fetch-mode", "").strip().lower()
        # Another port of this machine is the same site; a link from there may be followed.
        if "cross-site" in sites or ("same-site" in sites and mode != "navigate"):
            raise _forbidden(
                "the request comes from the page of another site (Sec-Fetch-Site)",
                "this service's own page, or a program", "Type the address into the browser",
            )  # fmt: skip

    def _check_token(self, scope: Scope, headers: Headers) -> None:
        if not self._token or scope["path"] in self._open_paths or self._token.fits(headers.get("authorization")):
            return
        raise RequestError(
            HTTPStatus.UNAUTHORIZED, "the token is missing or wrong", "the token in the service's --token-file",
            "Send it: Authorization: Bearer TOKEN", {"WWW-Authenticate": 'Bearer realm="pneumo-edge"'},
        )  # fmt: skip


def _check_coding(headers: Headers) -> None:
    """Refuse transfer codings except chunks (RFC 9112 6.1): uvicorn would pass on compressed bytes as the body."""
    codings = [text.strip().lower() for line in headers.getlist("transfer-encoding") for text in line.split(",")]
    if codings not in ([], ["chunked"]):
        raise RequestError(
            HTTPStatus.NOT_IMPLEMENTED, "the Transfer-Encoding is not just chunked",
            "an uncompressed body, optionally in chunks", problems.SEND,
        )  # fmt: skip


def _forbidden(given: str, expected: str, remedy: str) -> RequestError:
    return RequestError(HTTPStatus.FORBIDDEN, given, expected, remedy)
