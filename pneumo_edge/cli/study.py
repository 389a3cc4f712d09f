"""``pneumo-edge study``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pneumo_edge.cli import options, screen

if TYPE_CHECKING:
    from pneumo_edge._util.document import Table, Tone
    from pneumo_edge.api.study import StudyShown
    from pneumo_edge.scoring.trainings import TrainingsCompared
    from pneumo_edge.studies import State

_TONES: dict[State, Tone] = {
    "finished": "good",
    "failed": "bad",
    "interrupted": "open",
    "not started": "",
    "in training": "open",
}
#: The metrics that a terminal shows; ``--json`` has all.
_SHOWN = ("auc", "accuracy", "sensitivity", "specificity")
#: The same of more than two classes.
_SHOWN_OF_CLASSES = ("auc", "least_auc", "accuracy", "balanced_accuracy")


def study(
    folder: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a study, as `train` makes it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print runs and comparison as JSON.")] = False,
) -> None:
    """Show the runs of a study, and compare its networks.

    Each run is finished, failed (with the reason), interrupted, in training
    or not started. The metrics of each network are means over its seeds with
    Student's 95 % interval. Networks with three finished runs or more are
    compared pair by pair, with intervals over other trainings and other
    patients.

    All numbers are of validation images, on which epochs and thresholds were
    chosen. For claims, export the study and evaluate it on the test split.
    """
    from pneumo_edge import studies
    from pneumo_edge._util import jobs, records
    from pneumo_edge.api.study import show

    shown = show(folder)
    if as_json:
        typer.echo(records.document(shown), nl=False)
        return
    _print_runs(shown)
    for run in shown.runs:
        if run.error:
            options.tell(f"{run.name} failed: {run.error}")
    if shown.compared:
        _print_compared(shown.compared)
    if jobs.is_running(folder / studies.RECORD_NAME):
        typer.echo("\nThe study is in training now")
    elif any(run.state != "finished" for run in shown.runs):
        typer.echo("\nRun the same command of train again to finish the study")


def _print_runs(shown: StudyShown) -> None:
    from pneumo_edge._util.document import Cell, Table
    from pneumo_edge.backbones import backbone_title

    titles = _titles([run.validation for run in shown.runs])
    rows = tuple(
        (
            Cell(backbone_title(run.backbone)),
            Cell(run.recipe),
            Cell(str(run.seed)),
            Cell(run.state, tone=_TONES[run.state]),
            Cell("" if run.epochs is None else str(run.epochs), value=run.epochs),
            *(Cell(f"{run.validation[name]:.4f}" if name in run.validation else "") for name in titles),
        )
        for run in shown.runs
    )
    screen.show_table(Table(("Network", "Recipe", "Seed", "State", "Epochs", *titles.values()), 4, rows))


def _print_compared(compared: TrainingsCompared) -> None:
    from pneumo_edge._util.document import Cell, Table
    from pneumo_edge.backbones import backbone_title
    from pneumo_edge.scoring import cells

    if compared.over_seeds:
        titles = _titles([group.metrics for group in compared.over_seeds])
        rows = tuple(
            (
                Cell(backbone_title(group.backbone)),
                Cell(group.recipe),
                Cell(", ".join(map(str, group.seeds))),
                *(cells.spread(group.metrics.get(name)) for name in titles),
            )
            for group in compared.over_seeds
        )
        typer.echo(
            "\nOver seeds, on validation images: mean ± standard deviation of a single run, and Student's 95 % "
            "interval of the mean"
        )
        screen.show_table(Table(("Network", "Recipe", "Seeds", *titles.values()), 3, rows))
    if compared.networks:
        typer.echo(
            "\nThe first network less the second, on validation images: 95 % intervals over other trainings and other "
            "patients"
        )
        screen.show_table(_pairs(compared))
    for note in compared.notes:
        typer.echo(f"\n{note}")


def _pairs(compared: TrainingsCompared) -> Table:
    from pneumo_edge._util.document import Cell, Table
    from pneumo_edge.backbones import backbone_title
    from pneumo_edge.scoring import cells

    rows = tuple(
        (
            Cell(f"{backbone_title(each.first_backbone)}, {each.first_recipe}"),
            Cell(f"{backbone_title(each.second_backbone)}, {each.second_recipe}"),
            cells.interval(each.auc, signed=True),
            cells.interval(each.accuracy, signed=True),
            *map(cells.claim, (each.different, each.first_as_accurate, each.second_as_accurate)),
        )
        for each in compared.networks
    )
    columns = ("First", "Second", "AUC", "Accuracy", "First more accurate", "First as accurate", "Second as accurate")
    return Table(columns, 2, rows)


def _titles(measured: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """The titles of the metrics that are shown, of two classes or of more."""
    from pneumo_edge.scoring import summary

    names = {name for each in measured for name in each}
    titles = summary.titles(names)
    shown = _SHOWN if titles is summary.METRIC_TITLES else _SHOWN_OF_CLASSES
    return {name: titles[name] for name in shown if name in names}
