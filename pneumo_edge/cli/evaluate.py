"""``pneumo-edge evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from pneumo_edge.api import arguments
from pneumo_edge.cli import datasets, options, screen
from pneumo_edge.errors import ExitCode
from pneumo_edge.runtime.engines import ENGINES

if TYPE_CHECKING:
    from pneumo_edge.data.sources import SplitName
    from pneumo_edge.scoring.summary import Metrics

#: The metrics that a terminal shows; the page has all.
_SHOWN = ("auc", "accuracy", "sensitivity", "specificity")
#: The same of more than two classes.
_SHOWN_OF_CLASSES = ("auc", "least_auc", "accuracy", "balanced_accuracy")


@datasets.read_by_options(split="--split-shares", models=True)
def evaluate(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL|DIR|STUDY",
            help=f"{options.MODELS_HELP} Or a study, for the files that were exported from it.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            envvar="PNEUMO_EDGE_DATA",
            help="The data set, as for `train`; required to score, except for a study: by default that of the study.",
        ),
    ] = None,
    split: Annotated[
        str,
        options.choice(arguments.SCORED_SPLITS, "val (drawn from train by patient, as `train` does) or test."),
    ] = "val",
    external: Annotated[
        bool,
        typer.Option(
            "--external",
            help="The data set is another population: score all its images, and say whether each model may be used "
            "there.",
        ),
    ] = False,
    engine: Annotated[
        str | None, options.choice(ENGINES, "Score on this engine; by default the best one installed.")
    ] = None,
    threads: options.Threads = 1,
    reading: datasets.Reading = datasets.AS_IT_IS,
    scores: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", readable=False, help="Score no images; recompute the metrics from this scores.json."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            show_default=False,
            help="Folder for scores.json, metrics.json, evaluation.md, roc.png and reliability.png; by default "
            "reports/evaluation-SPLIT (or -external), in the folder of a study, or the folder of --scores.",
        ),
    ] = None,
) -> None:
    """Score model files on a split and report every metric with its interval.

    Files already in the folder's scores.json are not scored again. So an
    interrupted run resumes with the same command, and models can be added
    later. Score the test split once for each final model, after all choices
    are made. With --external, the first sentence says whether a model may be
    used on another population.

    The exit code is 0 if every file that can run here was scored, and 4 if
    some failed; each failure is printed with its reason.
    """
    from pneumo_edge.api import evaluate as api

    if (scores is None) == (not models):
        raise typer.BadParameter(
            "give either model files to score, or --scores to recompute from", param_hint="MODEL|DIR|STUDY"
        )
    if out:
        options.check_folder(out)
    if scores is not None:
        evaluation = api.evaluate_scores(scores, out)
    elif data is None and api.study_of([Path(model) for model in models or ()]) is None:
        raise typer.BadParameter("required to score model files", param_hint="--data")
    else:
        evaluation = api.evaluate(
            models or (),
            datasets.optional_source(data, reading),
            split=cast("SplitName", split),
            external=external,
            engine=engine,
            threads=threads,
            out=out,
            tell=options.tell,
        )
    _print(evaluation.metrics)
    typer.echo(f"Metrics: {evaluation.files.metrics}\nPage: {evaluation.files.page}")
    if any(skipped.failed for skipped in evaluation.skipped):
        raise typer.Exit(ExitCode.SOME_UNJUDGED)


def _print(computed: Metrics) -> None:
    from pneumo_edge._util.document import Cell, Table
    from pneumo_edge.benchmarks.report import cells
    from pneumo_edge.scoring import summary

    if not computed.data.real:
        screen.show(options.PHANTOM_METRICS, "bad", bold=True)
    if few := summary.shortage(computed.data):
        typer.echo(f"warning: {few}", err=True)
    if wrong := summary.worse_than_chance(computed):
        typer.echo(f"warning: {wrong}", err=True)
    titles = summary.titles(computed.models[0].metrics)
    shown = _SHOWN if titles is summary.METRIC_TITLES else _SHOWN_OF_CLASSES
    rows = []
    for each in computed.models:
        model = each.model
        found = (each.metrics[name] for name in shown)
        numbers = (cells.interval(one) if one else Cell("-") for one in found)
        rows.append((Cell(model.file), Cell(str(model.seed)), Cell(model.engine), *numbers))
    screen.show_table(Table(("File", "Seed", "Engine", *(titles[name] for name in shown)), 3, tuple(rows)))
    for each in computed.models:
        if each.external:
            text = each.external.sentence.replace("`", "")
            screen.show(text, "good" if each.external.use == "yes" else "bad" if each.external.use == "no" else "open")
    if computed.baselines:
        alone = ", ".join(f"{baseline.measure} {baseline.auc.value:.3f}" for baseline in computed.baselines)
        typer.echo(f"\nAUC of one property of the image alone: {alone}")
