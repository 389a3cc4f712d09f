"""``pneumo-edge benchmark``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pneumo_edge._util import cores
from pneumo_edge.benchmarks.protocol import MIN_PROCESSES, PRESETS
from pneumo_edge.cli import datasets, options, screen
from pneumo_edge.errors import ExitCode
from pneumo_edge.runtime.engines import ENGINES, USUAL

if TYPE_CHECKING:
    from pneumo_edge.api.benchmark import Benchmark
    from pneumo_edge.benchmarks.report.runs import Runs


def _check_engines(names: list[str] | None) -> list[str]:
    for name in names or ():
        if name not in ENGINES:
            raise typer.BadParameter(f"{name!r} is not one of {', '.join(ENGINES)}")
    return names or list(USUAL)


@datasets.read_by_options(models=True)
def benchmark(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL|DIR",
            help=options.MODELS_HELP,
        ),
    ],
    data: options.OptionalData = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            metavar="|".join(ENGINES),
            callback=_check_engines,
            help=f"Measure on this engine; repeatable. By default on {', '.join(USUAL)}, where installed.",
        ),
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            max=cores.MOST,
            help="Threads for one inference; repeatable, to measure with each number. By default 1.",
        ),
    ] = None,
    preset: Annotated[
        str,
        options.choice(
            PRESETS,
            "Least calls of each kind and least time of inference for each model, after MLPerf Mobile: "
            f"{', '.join(f'{p.queries} and {p.seconds:g} s' for p in PRESETS.values())}.",
        ),
    ] = "quick",
    processes: Annotated[
        int,
        typer.Option(
            min=1, help=f"Fresh processes, each of which times every model; fewer than {MIN_PROCESSES} prove no claim."
        ),
    ] = MIN_PROCESSES,
    queries: Annotated[
        int | None, typer.Option(min=1, help="Calls of each kind, instead of the preset's; fewer prove no claim.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="Seconds of inference, instead of the preset's; fewer prove no claim.")
    ] = None,
    reading: datasets.Reading = datasets.AS_IT_IS,
    seed: Annotated[int, typer.Option(help="Seed of the order and of the choice of images.")] = 0,
    input_shape: options.InputShapes = None,
    input_value: options.InputValues = None,
    out: Annotated[Path, typer.Option(help="Folder for results.json, verdict.json, report.md and report.html.")] = Path(
        "reports"
    ),
    resume: Annotated[bool, typer.Option("--resume", help="Resume the interrupted benchmark in --out.")] = False,
) -> None:
    """Measure model files: accuracy on the test split, latency, peak memory, size.

    Any .tflite and .onnx files can be timed. Accuracy needs --data, and
    files that pneumo-edge made. Without --data, phantom images are timed.

    The exit code is 0 if everything that can run here was measured, and 4
    if a file or an engine failed. Each failure is printed with its reason;
    the others are measured. The page with figures needs the extra "report";
    on another machine, `report` draws it from results.json.
    """
    from pneumo_edge.api import benchmark as api

    options.check_folder(out)
    measured = api.benchmark(
        models,
        datasets.optional_source(data, reading),
        engines=engine,
        threads=threads or 1,
        preset=preset,
        processes=processes,
        queries=queries,
        seconds=seconds,
        seed=seed,
        input_shapes=dict(input_shape or ()),
        input_values=dict(input_value or ()),
        out=out,
        resume=resume,
        tell=options.tell,
    )
    _print(measured)
    if any(skip.failed for skip in measured.results.skipped):
        raise typer.Exit(ExitCode.SOME_UNJUDGED)


def _print(measured: Benchmark) -> None:
    from pneumo_edge.api.benchmark import can_draw
    from pneumo_edge.benchmarks.report.runs import Run

    show_runs((Run("", measured.summary, measured.verdict),))
    if not can_draw():
        typer.echo('The page with figures takes the extra "report": draw it elsewhere with `pneumo-edge report`.')
    typer.echo(f"Raw results: {measured.results_file}")
    typer.echo(f"Verdict: {measured.verdict_file}")
    for path in measured.reports:
        typer.echo(f"Report: {path}")


def show_runs(runs: Runs) -> None:
    """Print what a report says, in brief: warnings, a table of the units, and a sentence for each claim."""
    from pneumo_edge.benchmarks.report import brief
    from pneumo_edge.benchmarks.report.compose import compose

    for title, _ in compose(runs).warnings:
        screen.show(f"WARNING: {title}", "bad", bold=True)
    screen.show_table(brief.table(runs), brief.LEAST)
    typer.echo()
    for run in runs:
        if run.letter:
            typer.echo(f"Run {run.letter}")
        for sentence, tone in (*brief.claims(run), *brief.speeds(run)):
            screen.show(sentence, tone)
