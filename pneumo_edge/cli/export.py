"""``pneumo-edge export``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pneumo_edge import keras_file
from pneumo_edge.backbones import LEAST_SIDE, MOST_SIDE
from pneumo_edge.cli import datasets, options, screen
from pneumo_edge.errors import ArgumentError, ExitCode
from pneumo_edge.formats import USUAL, select
from pneumo_edge.scaling import SCALINGS

if TYPE_CHECKING:
    from pneumo_edge.converters.export import Exported


@datasets.read_by_options(models=True)
def export(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN|STUDY|MODEL",
            help="Folders of finished runs, a study for its finished runs, or Keras models: .keras, .h5, SavedModel.",
        ),
    ],
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            show_default=False,
            help="A format (tflite-int8), all formats of a target (tflite, onnx) or of a name (fp32, int8, dynamic), "
            f"or all; repeatable. By default {', '.join(USUAL[:-1])} and {USUAL[-1]}. tflite-mixed, by this name "
            "alone: where int8 fails, the fewest operators that let it pass stay in float32.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            show_default=False,
            help="Folder for the model files; several runs of the same network, or models of one file name, get a "
            "folder each inside it. By default models, or models in the folder of a study.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="The data the run was trained on; by default at the path used for training. For a Keras model: "
            "labelled images."
        ),
    ] = None,
    reading: datasets.Reading = datasets.AS_IT_IS,
    input_range: Annotated[
        str | None,
        typer.Option(
            metavar="RANGE",
            help="For a Keras model: what pixels were scaled to before they went into it. "
            f"{', '.join(SCALINGS)}, LOW..HIGH, or mean=M;std=S.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        options.choice(keras_file.OUTPUTS, "For a Keras model: what its last layer gives; by default found out."),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            min=LEAST_SIDE,
            max=MOST_SIDE,
            help="For a Keras model of any size: height and width of the images, in pixels.",
        ),
    ] = None,
    accept_input_range: Annotated[
        bool, typer.Option("--accept-input-range", help="Keep --input-range although another one is right more often.")
    ] = False,
) -> None:
    """Convert trained runs to model files and verify each file.

    Each file is compared with the Keras model on validation images, on
    every installed engine of its format. A file that fails these acceptance
    checks, or that cannot be converted, is deleted, and the command ends
    with exit code 5. A file that exists and would be the same is not made
    again.

    A Keras model that was trained elsewhere gets its scaling of pixels
    inside the graph. If it is right more often with another scaling than
    with --input-range, the command ends with exit code 5.
    """
    from pneumo_edge.api.export import OwnOptions, check_own, convert, default_folder

    read = datasets.optional_source(data, reading)
    own = OwnOptions(input_range, output, image_size, accept_input_range)
    try:
        select(list(formats or USUAL))
    except ArgumentError as error:
        raise typer.BadParameter(str(error), param_hint="--format") from error
    try:
        check_own(runs, read, own)
    except ArgumentError as error:
        raise typer.BadParameter(str(error)) from error
    missed = 0
    absent: set[str] = set()
    folder = out or default_folder(runs)
    options.check_folder(folder)
    for outcome in convert(runs, formats or USUAL, folder, read, own, options.tell):
        _print(outcome)
        missed += outcome.missed is not None
        if outcome.spec and outcome.spec.verification:
            absent |= set(outcome.row.engines) - set(outcome.spec.verification.engines)
    for name in sorted(absent):
        typer.echo(f"NOT verified on {name}: {_why_absent(name)}")
    if missed:
        raise typer.Exit(ExitCode.GATE_MISSED)


def _print(outcome: Exported) -> None:
    if outcome.missed:
        options.tell(f"error: {outcome.missed}")
    elif outcome.spec and outcome.spec.verification:
        measured = next(iter(outcome.spec.verification.measured.values()))
        loss = f", AUC loss {measured['auc_loss']:.4f}" if "auc_loss" in measured else ""
        screen.show(
            f"{outcome.path}: passes{'' if outcome.made else ' (made before)'}, "
            f"{outcome.path.stat().st_size / 1e6:.2f} MB, same decision on {measured['agreement']:.1%} of "
            f"{measured['images']:.0f} images{loss}",
            "good",
        )


def _why_absent(engine: str) -> str:
    from pneumo_edge.runtime.engines import ENGINES

    newest = ENGINES[engine].newest_python
    if newest and sys.version_info[:2] > newest:
        return f"it has no wheel for Python {sys.version_info[0]}.{sys.version_info[1]}"
    return f'it is not installed (pip install "pneumo-edge[{ENGINES[engine].extra}]")'
