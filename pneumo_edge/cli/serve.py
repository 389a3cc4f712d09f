"""``pneumo-edge serve``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pneumo_edge import bundled
from pneumo_edge._util import extras
from pneumo_edge.cli import options
from pneumo_edge.errors import ServiceError
from pneumo_edge.imaging import images

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from socket import socket

    from pneumo_edge.runtime.classifier import Classifier
    from pneumo_edge.service.guard import Address, Token


def serve(
    model: options.Model = bundled.DEFAULT,
    engine: options.Engine = None,
    threads: options.Threads = 1,
    workers: options.Workers = None,
    host: Annotated[
        str | None,
        typer.Option(show_default="127.0.0.1", help="Address to listen on. Only this machine can reach the default."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, show_default="8000", help="Port to listen on; 0 chooses a free one."),
    ] = None,
    unix_socket: Annotated[
        Path | None, typer.Option(help="Listen on a Unix socket at this path instead of an address.")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:PORT]",
            help="Another host name that requests may use, such as that of a proxy or one in the local network; "
            "repeatable.",
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with a token that clients must send. Use it for an address that others can reach."),
    ] = None,
    no_token: Annotated[
        bool, typer.Option("--no-token", help="Serve everyone who can reach the address, without a token.")
    ] = False,
    max_body: options.MaxBody = options.MAX_BODY,
    max_pixels: Annotated[int, options.max_pixels(images.MAX_PIXELS)] = images.MAX_PIXELS,
    queue: Annotated[int, typer.Option(min=0, help="Images that may wait while others are classified.")] = 8,
    timeout: Annotated[
        float,
        typer.Option(
            parser=options.quantity(options.TIMES),
            metavar="TIME",
            help="Longest time for an image to arrive, and then for its classification, such as 30s.",
        ),
    ] = "30s",  # type: ignore[assignment]
    min_rate: Annotated[
        float,
        typer.Option(
            parser=options.quantity(options.SIZES),
            metavar="SIZE",
            help="Lowest rate per second at which an image may arrive, on average from the fifth second.",
        ),
    ] = "1kB",  # type: ignore[assignment]
    max_connections: Annotated[
        int,
        typer.Option(min=8, max=10_000, help="Connections at a time; fewer if the limit of open files is lower."),
    ] = 256,
) -> None:
    """Classify chest X-rays over HTTP, with a web page that takes images.

    Stop it with SIGTERM (exit code 0) or Ctrl-C (130); it first finishes
    the images it has started. No image is written to disk or logged.
    """
    _check_libraries()
    from pneumo_edge._util import cores
    from pneumo_edge.runtime.classifier import Classifier
    from pneumo_edge.service import server
    from pneumo_edge.service.app import create_app
    from pneumo_edge.service.guard import Addresses
    from pneumo_edge.service.limits import Limits, connections_within_file_limit

    _check_options(unix_socket, host, port, token_file, no_token)
    allowed = [_address(text) for text in allow_host or ()]
    token = _token(token_file)
    host, port = "127.0.0.1" if host is None else host, 8000 if port is None else port
    connections = min(max_connections, connections_within_file_limit())
    limits = Limits(int(max_body), max_pixels, queue, timeout / options.TIMES["s"], min_rate, connections)
    classifier = Classifier(model, engine=engine, threads=threads, max_pixels=max_pixels)
    addresses = Addresses(None if unix_socket else host, allowed)
    app = create_app(classifier, workers or cores.workers(threads), limits, addresses, token)
    with _listen(unix_socket, host, port) as listening:
        _announce(listening, host, token, no_token, classifier)
        server.run(app, listening, limits)


def _check_libraries() -> None:
    for library in ("starlette", "uvicorn", "httptools", "prometheus_client"):
        extras.check(library, "serve")


def _check_options(
    unix_socket: Path | None, host: str | None, port: int | None, token_file: Path | None, no_token: bool
) -> None:
    """Refuse options that cannot be combined."""
    if unix_socket and (host is not None or port is not None):
        raise typer.BadParameter("A Unix socket has no address: omit --host and --port.", param_hint="--unix-socket")
    if token_file and no_token:
        raise typer.BadParameter("Give --no-token or --token-file, not both.", param_hint="--no-token")


def _listen(unix_socket: Path | None, host: str, port: int) -> AbstractContextManager[socket]:
    from pneumo_edge.service import sockets

    return sockets.listen_on_path(unix_socket) if unix_socket else sockets.listen(host, port)


def _announce(listening: socket, host: str, token: Token | None, no_token: bool, classifier: Classifier) -> None:
    """Print address and warnings. Refuse an address that others can reach without a token or ``--no-token``."""
    from pneumo_edge.service import sockets

    if not sockets.is_local(listening):
        _check_open(host, token is not None, no_token)
    options.warn_phantom(classifier)
    options.warn_unverified(classifier)
    typer.echo(f"Listening on {sockets.url(listening)} (stop with Ctrl-C)")


def _address(text: str) -> Address:
    from pneumo_edge.service.guard import Address

    address = Address.parse(text)
    if not address:
        raise typer.BadParameter(f"{text!r} is not a host name with or without a port", param_hint="--allow-host")
    return address


def _token(path: Path | None) -> Token | None:
    if not path:
        return None
    from pneumo_edge.service import tokens
    from pneumo_edge.service.guard import Token

    token = Token(tokens.read(path))
    if tokens.is_exposed(path):
        typer.echo(f"warning: every user of this machine can read {path}. Run: chmod 600", err=True)
    return token


def _check_open(host: str, has_token: bool, is_without: bool) -> None:
    """Require a token, or ``--no-token``, for an address that others can reach."""
    if not has_token and not is_without:
        raise ServiceError(
            f"other machines can reach {host}", "a token for an address other than a loopback address",
            "Give --token-file FILE, or --no-token if everyone who can reach it may use it",
        )  # fmt: skip
    who = "everyone with the token" if has_token else f"everyone who can reach {host}"
    typer.echo(
        f"warning: {who} can send images and read results, without encryption. Omit --host, or put a proxy with "
        "encryption in front",
        err=True,
    )
