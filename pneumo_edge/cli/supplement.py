"""``pneumo-edge supplement``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pneumo_edge import bundled
from pneumo_edge._util import jobs
from pneumo_edge.cli import datasets, options

if TYPE_CHECKING:
    from pneumo_edge.benchmarks.supplement.records import Unavailable


@datasets.read_by_options(models=True)
def supplement(
    results: Annotated[
        Path, typer.Argument(metavar="RESULTS.json", help="Raw results that `benchmark` wrote on this machine.")
    ],
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL|DIR", help="The model files of that benchmark, or some of them.")
    ],
    data: options.Data,
    reading: datasets.Reading = datasets.AS_IT_IS,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            help="Measure only this; repeatable: installation, limit, operators, energy, throughput, cross-check. By "
            "default all of them."
        ),
    ] = None,
) -> None:
    """Add to benchmark results: operator times, energy, throughput, and cross-checks with other tools.

    It measures the machine's peak rate of multiply-adds, the time of each
    operator, energy (if the system reports it), throughput by threads and
    processes, and the installed size of each engine. It also times the files
    in turn with litert-benchmark, onnxruntime's profiler and MLPerf LoadGen.
    The numbers go into RESULTS.json, and `report` shows them. LoadGen's own
    logs are beside that file, in the folder loadgen.
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
    again = "Run the command again with --measure for each missing measurement"
    with jobs.alone(results, "supplement", again), verdict_file.following(results):
        measured = run.measure(
            raw.read(results),
            paths,
            open_data(datasets.source(data, reading), models=paths, tell=options.tell),
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
