"""``pneumo-edge verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pneumo_edge import bundled
from pneumo_edge.cli import datasets, options, screen
from pneumo_edge.errors import ExitCode, PneumoEdgeError, printable
from pneumo_edge.runtime.engines import ENGINES


@datasets.read_by_options(models=True)
def verify(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL",
            help=f"Model files with their .proof.json beside them, or bundled models ({', '.join(bundled.NAMES)}).",
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            envvar="PNEUMO_EDGE_DATA",
            show_default=False,
            help="The data the model was trained on, to verify on its whole validation split. By default the images "
            "of the reference set beside the model are used.",
        ),
    ] = None,
    engine: Annotated[
        list[str] | None,
        options.choice(
            ENGINES,
            "Verify on this engine; repeatable. By default on the engines of the file's format that are installed.",
        ),
    ] = None,
    reading: datasets.Reading = datasets.AS_IT_IS,
) -> None:
    """Re-run the acceptance checks of model files on this machine.

    This needs no TensorFlow: the answers of the Keras model are in the
    reference set that `export` writes beside its files. That of `adopt` has
    the file's own answers on the machine that adopted it. The package has
    the reference sets of the bundled models. Each file runs in its own process,
    so a file that crashes an engine is reported like any other error. The
    result of every file is printed. The exit code is 5 if a file fails a
    check, and 3 if a file cannot be verified.
    """
    from pneumo_edge._util.cache import cache_folder
    from pneumo_edge.converters.verify import verify_in_subprocess

    read = datasets.optional_source(data, reading)
    worst = ExitCode.OK
    for path in map(bundled.find, models):
        try:
            # Without --data no cache folder is needed, so a user without a home folder can verify as well.
            verified = verify_in_subprocess(path, read, cache_folder() if data else Path(), engine or ())
        except PneumoEdgeError as error:
            worst = max(worst, error.exit_code)
            # Most errors already name the file.
            named = "" if printable(path) in str(error) else f"{printable(path)}: "
            typer.echo(f"error: {named}{error}", err=True)
            continue
        verification = verified.verification
        screen.show(f"{printable(path)}: verified on {verification.images_from}, {verification.processor}", "good")
        for described, measured in verification.measured.items():
            typer.echo(f"  {described}: {options.describe_measured(measured)}")
        if verified.remark:
            options.tell(f"warning: {verified.remark}")
    if worst:
        raise typer.Exit(worst)
