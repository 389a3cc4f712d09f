"""``pneumo-edge export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pneumo_edge.errors import ExitCode


def export(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of finished training runs.")],
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="all, a target (tflite, onnx), a name (fp32, fp16, int8), or both (tflite-int8); repeatable.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the model files.")] = Path("models"),
    data: Annotated[
        Path | None, typer.Option(help="The data the run was trained on; by default where it lay then.")
    ] = None,
) -> None:
    """Convert trained runs to model files, and verify each of them.

    Each file is held against the Keras model on validation images. One that
    misses a bound of its format is not kept, and the command ends with exit
    code 5.
    """
    from converters.export import export as convert
    from converters.formats import select
    from pneumo_edge.cache import cache_folder

    rows = select(formats or ["all"])
    missed = 0
    for run in runs:
        for outcome in convert(run, rows, out, cache_folder(), data):
            if outcome.missed:
                missed += 1
                typer.echo(f"error: {outcome.missed}", err=True)
            elif outcome.spec and outcome.spec.verification:
                worst = max(m["max_difference"] for m in outcome.spec.verification.measured.values())
                agreement = min(m["agreement"] for m in outcome.spec.verification.measured.values())
                engines = ", ".join(outcome.spec.verification.engines)
                absent = set(outcome.row.engines) - set(outcome.spec.verification.engines)
                note = f"; NOT verified on {', '.join(sorted(absent))} (not installed)" if absent else ""
                typer.echo(
                    f"{outcome.path}: {outcome.path.stat().st_size / 1e6:.2f} MB, verified on {engines}: "
                    f"largest difference {worst:.2g}, same decision on {agreement:.1%}{note}"
                )
    if missed:
        raise typer.Exit(ExitCode.GATE_MISSED)
