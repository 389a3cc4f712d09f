"""``pneumo-edge verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pneumo_edge import bundled
from pneumo_edge.cli import options
from pneumo_edge.errors import ExitCode, PneumoEdgeError, printable


def verify(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL",
            help=f"Model files with their proofs beside them, or bundled models ({', '.join(bundled.NAMES)}).",
        ),
    ],
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
    that `export` puts beside its files; those of the bundled models are in the
    package. Each file is run in a process of its own, so that one that crashes
    an engine ends in an error like any other.
    Every file is named with what became of it. Exit code 5 where one misses a
    bound, else 3 where one cannot be verified.
    """
    from pneumo_edge._util.cache import cache_folder
    from pneumo_edge.converters.verify import verify_in_subprocess

    worst = ExitCode.OK
    for path in map(bundled.find, models):
        try:
            # A user without a home verifies a file by its reference set all the same.
            verification = verify_in_subprocess(path, data, cache_folder() if data else Path())
        except PneumoEdgeError as error:
            worst = max(worst, error.exit_code)
            # Most errors name the file themselves.
            named = "" if printable(path) in str(error) else f"{printable(path)}: "
            typer.echo(f"error: {named}{error}", err=True)
            continue
        typer.echo(f"{printable(path)}: verified on {verification.images_from}, {verification.processor}")
        for engine, measured in verification.measured.items():
            typer.echo(f"  {engine}: {options.describe_measured(measured)}")
    if worst:
        raise typer.Exit(worst)
