"""``pneumo-edge supplement``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pneumo_edge import bundled
from pneumo_edge._util import jobs
from pneumo_edge.cli import options

if TYPE_CHECKING:
    from pneumo_edge.benchmarks.supplement.records import Unavailable


def supplement(
    results: Annotated[Path, typer.Argument(metavar="RESULTS.json", help="Raw results that `benchmark` wrote here.")],
    models: Annotated[list[str], typer.Argument(metavar="MODEL|DIR", help="The same files; or some of them.")],
    data: options.Data,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            help="Measure this alone; may be given again: installation, limit, operators, energy, throughput, "
            "cross-check. By default all of it."
        ),
    ] = None,
) -> None:
    """Add to a benchmark's results why a file is slow, what it costs, and what other instruments read.

    It measures the machine's limit of multiply-adds, operators and where
    their time goes, energy where the system shows it, throughput over
    threads and processes, the installed size of each engine, and times
    the files in turns with litert-benchmark, onnxruntime's profiler and
    MLPerf LoadGen. All goes into RESULTS.json, and `report` shows it;
    LoadGen's own logs lie beside it, in the folder loadgen.
    """
    from pneumo_edge.api.datasets import open_data
    from pneumo_edge.benchmarks import results as raw
    from pneumo_edge.benchmarks import verdict_file
    from pneumo_edge.benchmarks.supplement import cross_check, run
    from pneumo_edge.benchmarks.supplement.measures import MEASURES

    for name in measure or ():
        if name not in MEASURES:
            raise typer.BadParameter(f"{name!r} is not one of {', '.join(MEASURES)}", param_hint="--measure")
    raw.read(results)
    paths = [bundled.find(model) for model in models]
    again = "Run the command again with --measure for what is still missing"
    with jobs.alone(results, "supplement", again), verdict_file.following(results):
        measured = run.measure(
            raw.read(results),
            paths,
            open_data(data, "", tell=options.tell),
            measure or MEASURES,
            results.parent / "loadgen",
            keep=lambda each: raw.write(results, each),
            tell=_tell,
        )
    if measured.supplement and "cross-check" in (measure or MEASURES):
        for check in measured.supplement.cross_checks:
            for each in cross_check.agreements(check):
                ratio = f"{each.ratio.value:.2f} times [{each.ratio.low:.2f}, {each.ratio.high:.2f}]"
                typer.echo(
                    f"{each.outcome.upper()}: {each.instrument} reads {each.theirs_ms:.2f} ms, "
                    f"this benchmark {each.ours_ms:.2f} ms: {ratio}, {check.unit.name}"
                )
    typer.echo(f"Added to {results}; draw it with `pneumo-edge report {results}`.")


def _tell(unavailable: Unavailable) -> None:
    typer.echo(f"not available: {unavailable.measure} of {unavailable.subject}: {unavailable.reason}", err=True)
