"""``pneumo-edge report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pneumo_edge.cli import options
from pneumo_edge.cli.benchmark import show_runs

#: Ending of the verdict in numbers.
_VERDICT = ".json"


def report(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULTS.json...", help="Raw results that `benchmark` wrote; several are shown side by side."
        ),
    ],
    scores: Annotated[
        Path | None,
        typer.Option(
            metavar="SCORES.json",
            readable=False,
            help="Scores of several trainings of the networks on the same test images, from `evaluate --split test`: "
            "the report then also compares networks, over their trainings.",
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="The file to write; the ending sets the format: .html (with figures), .md, .csv, or .json (verdict).",
        ),
    ] = Path("report.html"),
) -> None:
    """Write the report of a benchmark from its raw results.

    A device that measures needs no plotting library: copy its results.json
    to this machine. Results of several machines, versions or dates make one
    report, in which the same units are next to each other. A .json verdict,
    like verdict.json of `benchmark`, is made from one results file. With
    --scores, accuracy is that of all trainings of a network, and claims are
    about networks.
    """
    from pneumo_edge.benchmarks import report as reports
    from pneumo_edge.benchmarks import results as raw
    from pneumo_edge.benchmarks import verdict_file
    from pneumo_edge.benchmarks.report.runs import gather
    from pneumo_edge.benchmarks.summary import summarise
    from pneumo_edge.scoring import scores as scores_file

    endings = (*reports.SUFFIXES, _VERDICT)
    if out.suffix not in endings:
        raise typer.BadParameter(f"{str(out)!r} does not end in {', '.join(endings)}", param_hint="--out")
    if out.suffix == _VERDICT and len(results) > 1:
        raise typer.BadParameter(f"a verdict is made from one results file, not {len(results)}", param_hint="--out")
    options.check_out(out, [*results, *([scores] if scores else [])])
    if out.suffix == _VERDICT:
        with options.usage():
            verdict_file.check_replaceable(out)
    trained = scores_file.read(scores) if scores else None
    runs = gather([summarise(raw.read(path)) for path in results], trained)
    show_runs(runs)
    if out.suffix == _VERDICT:
        run = runs[0]
        verdict_file.write(out, verdict_file.of(run.summary, run.verdict, results[0], run.networks, scores))
        typer.echo(f"Verdict: {out}")
    else:
        reports.write(runs, out)
        typer.echo(f"Report: {out}")
