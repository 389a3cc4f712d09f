"""``pneumo-edge kit``: make, check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pneumo_edge.cli import options, screen
from pneumo_edge.errors import ExitCode, printable

#: What is run where the first word is no verb of these.
_DEFAULT = "make"
#: Departures of a step that are shown.
_SHOWN = 3


class _Verbs(TyperGroup):
    """``kit MODEL`` is ``kit make MODEL``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Verbs, no_args_is_help=True, help="Write what a port to another language needs, and grade such a port."
)


@app.command()
def make(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=options.MODEL_HELP)],
    out: Annotated[Path, typer.Option(help="The folder to write; an earlier kit is replaced.")] = Path("kit"),
    c_array: Annotated[
        bool, typer.Option("--c-array", help="Also write the model file as an array in C, to link it in.")
    ] = False,
    engine: options.Engine = None,
) -> None:
    """Write a kit: model, ModelSpec, labels, test vectors, and ports to begin with.

    Its README describes every step from the image file to the answer. The
    test vectors are phantom images as files, their pixels after each step,
    every output and the answer. `kit MODEL` is short for `kit make MODEL`.
    """
    from pneumo_edge.kit import write
    from pneumo_edge.runtime.classifier import Classifier

    with options.usage():
        write.check_target(out)
    classifier = Classifier(model, engine=engine)
    options.warn_unverified(classifier)
    written = write.write(classifier, out, c_array=c_array)
    typer.echo(
        f"{printable(out)}: {written.model}, {len(written.vectors)} images and {len(written.decisions)} decision "
        f"cases, computed by {written.engine}"
    )
    typer.echo(f"Next: read {printable(out / 'README.md')}")


@app.command()
def check(
    vectors: Annotated[Path, typer.Argument(metavar="VECTORS", help="The folder of a kit, or its vectors.json.")],
    results: Annotated[Path, typer.Argument(metavar="RESULTS.json", help="What the port wrote.")],
) -> None:
    """Grade a port by its results, and name the first step at which it departs.

    Each step is computed again from the port's own result of the step before,
    so that a mistake shows where it is made. The exit code is 5 if the port
    departs.
    """
    from pneumo_edge.kit.check import check as grade

    graded = grade(vectors, results)
    first = graded.departs_at
    for step in graded.steps:
        images = step.reported + step.refusals
        if not images:
            typer.echo(f"{step.step}: not reported")
            continue
        state = f"departs on {len(step.departures)} of {images}" if step.departures else f"{images} pass"
        measured = f"largest difference {step.largest:.3g}, tolerance {step.tolerance}"
        line = f"{step.step}: {state}; {measured if step.reported else 'only refusals are reported'}"
        screen.show(line, "bad" if step.departures else "good")
        if step is first:
            for departure in step.departures[:_SHOWN]:
                typer.echo(f"  {printable(departure)}")
    name = printable(graded.port)
    if first:
        mistakes = [each.mistake for each in first.departures if each.mistake]
        common = f": {max(set(mistakes), key=mistakes.count)}" if mistakes else ""
        screen.show(f"{name} departs first at the step {first.step}{common}", "bad", error=True)
        raise typer.Exit(ExitCode.GATE_MISSED)
    tested = "every step" if not graded.unreported else f"every step but {', '.join(graded.unreported)}, not reported"
    screen.show(f"{name} passes {tested}", "open" if graded.unreported else "good")
