"""``pneumo-edge export``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pneumo_edge.cli import datasets, options, screen
from pneumo_edge.errors import ArgumentError, ExitCode
from pneumo_edge.formats import USUAL, select

if TYPE_CHECKING:
    from pneumo_edge.converters.export import Exported


@datasets.read_by_options(models=True)
def export(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of finished training runs.")],
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            show_default=False,
            help="A format (tflite-int8), all formats of a target (tflite, onnx) or of a name (fp32, int8, dynamic), "
            f"or all; repeatable. By default {', '.join(USUAL[:-1])} and {USUAL[-1]}.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the model files.")] = Path("models"),
    data: Annotated[
        Path | None, typer.Option(help="The data the run was trained on; by default at the path used for training.")
    ] = None,
    reading: datasets.Reading = datasets.AS_IT_IS,
) -> None:
    """Convert trained runs to model files and verify each file.

    Each file is compared with the Keras model on validation images, on
    every installed engine of its format. A file that fails these acceptance
    checks, or that cannot be converted, is deleted, and the command ends
    with exit code 5. A file that exists and would be the same is not made
    again.
    """
    from pneumo_edge.api.export import convert

    read = datasets.optional_source(data, reading)
    try:
        select(list(formats or USUAL))
    except ArgumentError as error:
        raise typer.BadParameter(str(error), param_hint="--format") from error
    missed = 0
    absent: set[str] = set()
    with options.usage():
        for outcome in convert(runs, formats or USUAL, out, read):
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
