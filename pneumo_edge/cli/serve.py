"""``pneumo-edge serve``."""

from __future__ import annotations

from typing import Annotated

import typer

from pneumo_edge import bundled, extras, images
from pneumo_edge.cli import options


def serve(
    model: Annotated[str, typer.Option(help=options.MODEL_HELP)] = bundled.DEFAULT,
    engine: options.Engine = None,
    threads: options.Threads = 1,
    workers: options.Workers = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; by default one that only this machine can reach.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
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
) -> None:
    """Judge chest X-rays over HTTP, with a page to drop them on.

    Ends with SIGTERM (exit code 0) or Ctrl-C (130) when the images that it
    has begun are judged. No image is written to disk or logged.
    """
    for library in ("starlette", "uvicorn"):
        extras.check(library, "serve")
    from pneumo_edge import cores
    from pneumo_edge.runtime.classifier import Classifier
    from pneumo_edge.service import server
    from pneumo_edge.service.app import create_app
    from pneumo_edge.service.limits import Limits

    limits = Limits(int(max_body), max_pixels, queue, timeout / options.TIMES["s"])
    classifier = Classifier(model, engine=engine, threads=threads, max_pixels=max_pixels)
    app = create_app(classifier, workers or max(1, cores.available() // threads), limits)
    with server.listen(host, port) as listening:
        if not classifier.spec.data.real:
            typer.echo(options.PHANTOM, err=True)
        if not server.is_loopback(listening):
            typer.echo(
                f"warning: whoever can reach {host} can send images and read verdicts: there is no password and no "
                "encryption. Leave out --host, or put a proxy that has both in front",
                err=True,
            )
        typer.echo(f"Listening on {server.url(listening)} (Ctrl-C ends it)")
        server.run(app, listening, limits)
