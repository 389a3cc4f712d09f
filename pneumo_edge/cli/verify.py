"""``pneumo-edge verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pneumo_edge.cli import options


def verify(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL", help="Model files with their proofs beside them.")],
    data: Annotated[
        Path | None,
        typer.Option(
            envvar="PNEUMO_EDGE_DATA",
            show_default=False,
            help="The data the model was trained on, to verify on its whole validation split; by default on the "
            "images of the reference set beside the model.",
        ),
    ] = None,
) -> None:
    """Hold model files to the bounds of their format once more, on this machine.

    It takes no TensorFlow: what the Keras model said is in the reference set
    that `export` puts beside its files. Each file is run in a process of its
    own, so that one that crashes an engine ends in an error like any other.
    Exit code 5 where a bound is missed.
    """
    from converters.verify import verify_apart
    from pneumo_edge.cache import cache_folder

    for model in models:
        # A user without a home verifies a file by its reference set all the same.
        verification = verify_apart(model, data, cache_folder() if data else Path())
        typer.echo(f"{model}: verified on {verification.images_from}")
        for engine, measured in verification.measured.items():
            typer.echo(f"  {engine}: {options.describe_measured(measured)}")
