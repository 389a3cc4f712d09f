"""``pneumo-edge evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from pneumo_edge import bundled
from pneumo_edge._util import jobs
from pneumo_edge.cli import datasets, options
from pneumo_edge.cli.benchmark import tell_skipped
from pneumo_edge.errors import ExitCode
from pneumo_edge.runtime.engines import ENGINES

if TYPE_CHECKING:
    from pneumo_edge.data.sources import SplitName
    from pneumo_edge.scoring.models import Skipped
    from pneumo_edge.scoring.summary import Metrics

_SPLITS = ("val", "test")


def evaluate(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL|DIR",
            help=options.MODELS_HELP,
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(envvar="PNEUMO_EDGE_DATA", help="The data set, as for `train`; needed to score.")
    ] = None,
    split: Annotated[
        str,
        options.choice(_SPLITS, "The images: val, drawn out of train by patient as `train` does it, or test."),
    ] = "val",
    engine: Annotated[
        str | None, options.choice(ENGINES, "Score on this engine; by default on the best one installed.")
    ] = None,
    threads: options.Threads = 1,
    patient_pattern: datasets.ModelsPatientPattern = None,
    scores: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", readable=False, help="Score nothing: compute everything again from this scores.json."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            show_default=False,
            help="Folder for scores.json, metrics.json, evaluation.md, roc.png and reliability.png; by default "
            "reports/evaluation-SPLIT, or the folder of --scores.",
        ),
    ] = None,
) -> None:
    """Score model files on a split, and report every metric with its interval.

    Files that the folder's scores.json holds already are not scored again,
    so an interrupted run goes on, and models can be added later. Score the
    test split once for each final model, when nothing is left to choose.

    Exit code 0 where every file was scored that can run here, 4 where some
    failed; each of those is named with the reason.
    """
    from pneumo_edge import scoring
    from pneumo_edge._util import extras
    from pneumo_edge.scoring import run
    from pneumo_edge.scoring import scores as scores_file

    if (scores is None) == (not models):
        raise typer.BadParameter(
            "give either model files to score, or --scores to compute from", param_hint="MODEL|DIR"
        )
    # What the page lacks should be known before minutes of scoring, not after.
    extras.need("matplotlib", "report")
    failed: list[Skipped] = []

    def tell(skipped: Skipped) -> None:
        tell_skipped(skipped)
        failed.extend([skipped] if skipped.failed else [])

    if scores is None and data is None:
        raise typer.BadParameter("needed to score model files", param_hint="--data")
    out = out or (scores.parent if scores else Path("reports", f"evaluation-{split}"))
    options.check_out_folder(out)
    for path in scoring.paths(out):
        options.check_out(path, [scores] if scores else ())
    with jobs.alone(out / "scores.json", "evaluation", jobs.SAME_COMMAND):
        if scores is not None:
            found = scores_file.read(scores)
        else:
            assert data
            paths = [bundled.find(model) for model in models or ()]
            found = run.score(
                paths,
                datasets.open_data(data, patient_pattern, paths),
                cast("SplitName", split),
                out / "scores.json",
                engine=engine,
                threads=threads,
                tell=tell,
                warn=lambda text: typer.echo(f"warning: {text}.", err=True),
            )
        computed, written = scoring.write(found, out)
    _print(computed)
    typer.echo(f"Metrics: {written.metrics}\nPage: {written.page}")
    if failed:
        raise typer.Exit(ExitCode.SOME_UNJUDGED)


def _print(computed: Metrics) -> None:
    from pneumo_edge.scoring.summary import shortage

    if not computed.data.real:
        typer.secho("These are PHANTOM images, not X-rays: of pneumonia the numbers say nothing.", fg="red", bold=True)
    if few := shortage(computed.data):
        typer.echo(f"warning: {few}", err=True)
    for each in computed.models:
        model = each.model
        typer.echo(
            f"{model.file} (seed {model.seed}, {model.engine}): AUC {each.metrics['auc']}, "
            f"accuracy {each.metrics['accuracy']}, sensitivity {each.metrics['sensitivity']}, "
            f"specificity {each.metrics['specificity']}"
        )
    for baseline in computed.baselines:
        typer.echo(f"{baseline.measure} alone: AUC {baseline.auc}")
