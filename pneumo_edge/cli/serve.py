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
    model: Annotated[str, typer.Option(help=options.MODEL_HELP)] = bundled.DEFAULT,
    engine: options.Engine = None,
    threads: options.Threads = 1,
    workers: options.Workers = None,
    host: Annotated[
        str | None,
        typer.Option(
            show_default="127.0.0.1", help="Address to listen on; by default one that only this machine can reach."
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, show_default="8000", help="Port to listen on; 0 takes a free one."),
    ] = None,
    unix_socket: Annotated[
        Path | None, typer.Option(help="Listen on a Unix socket at this path, instead of an address.")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:PORT]",
            help="A name that the service may be asked by, beside its own address: that of a proxy, or one in the "
            "local network. May be given several times.",
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with a token; only clients that send it are served. For an address that others reach."),
    ] = None,
    no_token: Annotated[
        bool, typer.Option("--no-token", help="Serve whoever reaches the address, without a token.")
    ] = False,
    max_body: Annotated[
        float, typer.Option(parser=options.quantity(options.SIZES), metavar="SIZE", help="Largest file, such as 20MB.")
    ] = "50MB",  # type: ignore[assignment]
    max_pixels: Annotated[
        int, typer.Option(min=1, max=images.MAX_PIXELS, help="Largest image; refused before it is decoded.")
    ] = images.MAX_PIXELS,
    queue: Annotated[int, typer.Option(min=0, help="Images that may wait beside those being judged.")] = 8,
    timeout: Annotated[
        float,
        typer.Option(
            parser=options.quantity(options.TIMES),
            metavar="TIME",
            help="Most time for an image to arrive, and again from there to its verdict, such as 30s.",
        ),
    ] = "30s",  # type: ignore[assignment]
    min_rate: Annotated[
        float,
        typer.Option(
            parser=options.quantity(options.SIZES),
            metavar="SIZE",
            help="Least size that must arrive of an image in a second, on average from the fifth second.",
        ),
    ] = "1kB",  # type: ignore[assignment]
    max_connections: Annotated[
        int,
        typer.Option(min=8, max=10_000, help="Connections at a time; fewer where the limit of open files is lower."),
    ] = 256,
) -> None:
    """Judge chest X-rays over HTTP, with a page to drop them on.

    Ends with SIGTERM (exit code 0) or Ctrl-C (130) when the images that it
    has begun are judged. No image is written to disk or logged.
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
    """Refuse options that do not go together."""
    if unix_socket and (host is not None or port is not None):
        raise typer.BadParameter(
            "A Unix socket has no address: leave out --host and --port.", param_hint="--unix-socket"
        )
    if token_file and no_token:
        raise typer.BadParameter("Give it, or --token-file, not both.", param_hint="--no-token")


def _listen(unix_socket: Path | None, host: str, port: int) -> AbstractContextManager[socket]:
    from pneumo_edge.service import sockets

    return sockets.listen_on_path(unix_socket) if unix_socket else sockets.listen(host, port)


def _announce(listening: socket, host: str, token: Token | None, no_token: bool, classifier: Classifier) -> None:
    """Say where the service is and what to know of it, unless it is open to others and nobody said so."""
    from pneumo_edge.service import sockets

    if not sockets.is_local(listening):
        _check_open(host, token is not None, no_token)
    if not classifier.spec.data.real:
        typer.echo(options.PHANTOM, err=True)
    options.warn_unverified(classifier)
    typer.echo(f"Listening on {sockets.url(listening)} (Ctrl-C ends it)")


def _address(text: str) -> Address:
    from pneumo_edge.service.guard import Address

    address = Address.parse(text)
    if not address:
        raise typer.BadParameter(f"{text!r} is not a name, with or without a port", param_hint="--allow-host")
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
    """See to it that an address that others reach is open to all only where that was said."""
    if not has_token and not is_without:
        raise ServiceError(
            f"{host} can be reached from elsewhere", "a token for an address other than a loopback one",
            "Give --token-file FILE, or --no-token where whoever reaches it may use it",
        )  # fmt: skip
    who = "whoever has the token" if has_token else f"whoever can reach {host}"
    typer.echo(
        f"warning: {who} can send images and read verdicts, and there is no encryption. Leave out --host, or put a "
        "proxy that has it in front",
        err=True,
    )
