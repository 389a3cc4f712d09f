"""``pneumo-edge web``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pneumo_edge import bundled
from pneumo_edge.cli import options


def web(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            show_default=bundled.DEFAULT,
            help=f"Bundled models ({', '.join(bundled.NAMES)}), or model files, .tflite or .onnx. "
            "The page begins with the first.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the site; one that was built before is replaced.")] = Path(
        "site"
    ),
    runtime: Annotated[
        Path | None,
        typer.Option(
            help="Folder node_modules with the WebAssembly runtimes, for a machine without npm or network; by default "
            "npm fetches them into the cache."
        ),
    ] = None,
) -> None:
    """Build a static site that classifies chest X-rays in the browser.

    The site needs no server of ours and no network after the first visit.
    An X-ray never leaves the page. Before use, the page compares its
    answers with those of Python, and refuses a browser that differs.
    """
    from pneumo_edge.web import build

    with options.usage():
        build.check_target(out)
    site = build.build(models or [bundled.DEFAULT], out, runtime, options.warn_unverified)
    typer.echo(f"{site.folder}: {', '.join(site.models)}, {site.size / 1e6:.1f} MB")
    typer.echo(f"Serve it over https, or try it: python -m http.server --bind 127.0.0.1 --directory {site.folder}")
