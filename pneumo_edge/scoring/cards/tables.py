"""The tables of model cards and of their index, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from pneumo_edge._util import markdown
from pneumo_edge._util.document import Cell, Table
from pneumo_edge.backbones import backbone_title
from pneumo_edge.evaluation.comparison import p_value
from pneumo_edge.evaluation.metrics import Interval
from pneumo_edge.evaluation.seeds import OverSeeds
from pneumo_edge.scoring.summary import (
    METRIC_TITLES,
    OF_CLASS_TITLES,
    Data,
    Metrics,
    ModelComparison,
    ModelMetrics,
    SeedComparison,
    SeedGroup,
    titles,
)
from pneumo_edge.spec import ModelSpec

_IN_INDEX = ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity")


def training(spec: ModelSpec) -> str:
    """Numbers of training and validation images by class."""
    rows = [
        [split, *(number(spec.data.counts[split].get(name, 0)) for name in spec.class_names)]
        for split in ("train", "val")
        if split in spec.data.counts
    ]
    return _table(["split", *spec.class_names], rows)


def metrics(measured: ModelMetrics, seeds: SeedGroup | None) -> str:
    """All metrics of a file with intervals, and over the seeds of its recipe."""
    rows = [[title, _interval(measured.metrics[name]), name] for name, title in titles(measured.metrics).items()]
    for class_name, of_class in (measured.by_class or {}).items():
        rows += [[f"{class_name}: {title}", _interval(of_class[name]), ""] for name, title in OF_CLASS_TITLES.items()]
    for kind, part in measured.sensitivity_by_kind.items():
        rows.append([f"Sensitivity, {kind}", _interval(part.sensitivity), f"sensitivity_{kind}"])
    calibration = measured.calibration
    rows.append(["ECE", number(calibration.ece), "ece"])
    rows.append(["ECE of a perfectly calibrated model", _interval(calibration.by_chance), ""])
    if seeds is None:
        return _table(["", "this file"], [row[:2] for row in rows])
    over = [[title, value, _spread(seeds.metrics.get(name))] for title, value, name in rows]
    return _table(["", "this file", f"seeds {', '.join(map(str, seeds.seeds))}"], over)


def confusion(measured: ModelMetrics, data: Data) -> str:
    """The confusion matrix."""
    counts = measured.confusion
    if counts is None:
        assert measured.matrix
        return _table(
            ["", *(f"classified as {name}" for name in data.classes)],
            [[name, *map(number, row)] for name, row in zip(data.classes, measured.matrix.counts, strict=True)],
        )
    negative, positive = data.classes
    return _table(
        ["", f"classified as {positive}", f"classified as {negative}"],
        [
            [positive, number(counts.true_positives), number(counts.false_negatives)],
            [negative, number(counts.false_positives), number(counts.true_negatives)],
        ],
    )


def shortcuts(evaluation: Metrics) -> str:
    """Baselines that are unrelated to the lungs."""
    positive = list(evaluation.data.classes)[-1]
    rows = [
        [f"{each.measure} alone ({each.direction} in {positive})", str(each.auc), ""] for each in evaluation.baselines
    ]
    rows.append([f"always {evaluation.majority.class_name}", "", str(evaluation.majority.accuracy)])
    return _table(["", "AUC", "Accuracy"], rows)


def index(rows: Sequence[tuple[ModelMetrics, str]]) -> str:
    """One row for each model: its metrics, and a link to its card."""
    return _table(
        ["`--model`", "format", "card", "MB", *(METRIC_TITLES[name] for name in _IN_INDEX)],
        [
            [
                f"`{measured.model.backbone}`",
                measured.model.format,
                f"[{backbone_title(measured.model.backbone)}]({link})",
                f"{measured.model.size_bytes / 1e6:.2f}",
                *(_interval(measured.metrics[name]) for name in _IN_INDEX),
            ]
            for measured, link in rows
        ],
        labels=3,
    )


def comparison(each: ModelComparison, seeds: SeedComparison | None) -> str:
    """Two models on the same images, and over the seeds of their recipes."""
    discordant = f"{each.mcnemar.only_first_right} images correct with the first only, {each.mcnemar.only_second_right}"
    tests = {
        "auc": f"DeLong's, {p_value(each.delong.p)}",
        "accuracy": f"McNemar's exact, {p_value(each.mcnemar.p)}: {discordant} with the second only",
    }
    differences = {**each.differences, "auc": each.delong.difference}
    rows = [
        [METRIC_TITLES[name], tests.get(name, ""), _interval(differences[name], signed=True), name]
        for name in (*_IN_INDEX, "brier")
    ]
    if seeds is None:
        return _table(["", "test", "difference"], [row[:3] for row in rows], labels=2)
    over = [[*row, _spread(seeds.differences.get(name), signed=True)] for *row, name in rows]
    return _table(["", "test", "difference", f"seeds {', '.join(map(str, seeds.seeds))}"], over, labels=2)


def number(value: float) -> str:
    """A whole number with thousands separators, another number with three decimals."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _interval(interval: Interval | None, *, signed: bool = False) -> str:
    if interval is None:
        return "not defined"
    return interval.signed if signed else str(interval)


def _spread(spread: OverSeeds | None, *, signed: bool = False) -> str:
    return f"{_interval(spread.mean, signed=signed)} ± {spread.sd:.3f}" if spread else ""


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], labels: int = 1) -> str:
    return markdown.table(Table(tuple(columns), labels, tuple(tuple(map(Cell, row)) for row in rows)))
