"""The figures of an evaluation, as PNG."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pneumo_edge._util import drawing, extras, files
from pneumo_edge.backbones import backbone_title
from pneumo_edge.data import shortcuts
from pneumo_edge.data.figures import PHANTOM_WARNING
from pneumo_edge.evaluation import metrics
from pneumo_edge.evaluation.metrics import Labels
from pneumo_edge.evaluation.metrics import Scores as Probabilities
from pneumo_edge.scoring.scores import EvaluationScores, FileScores, ScoredModel
from pneumo_edge.scoring.summary import Metrics, ModelMetrics, where

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe and Ito's palette, which is safe for colour-blind readers.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_INK, _WARNING = "#1c1d1f", "#B00020"
_DASHES = ((0, (1, 1.5)), (0, (4, 2)), (0, (6, 2, 1, 2)))
_MODEL_STYLES = ("-", (0, (3, 1)), (0, (1, 1)))
#: The upper left part of the ROC plane, where good models are.
_ZOOM = 0.3
_COLUMNS = 4
#: Characters of a class's name over a panel.
_MOST_TITLE = 40
_STYLE: dict[Any, Any] = {**drawing.STYLE, "text.color": _INK}


def draw_roc(scores: EvaluationScores, computed: Metrics, path: Path) -> None:
    """ROC curves of every model file and every shortcut, whole and enlarged; a dot marks a file's threshold.

    Colours stand for backbone and recipe, line styles for format and engine; seeds share both.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OSError: The file cannot be written.
    """
    if scores.data.task.positive_class is None:
        _draw_class_curves(scores, computed, path)
        return
    labels = scores.data.targets
    with _figure(computed, "ROC", (11, 5.6)) as figure:
        whole, enlarged = figure.subplots(1, 2)
        for axes in (whole, enlarged):
            _draw_curves(axes, scores, labels, _groups(scores, computed))
            axes.set_xlabel("1 - specificity")
            axes.set_ylabel("Sensitivity")
            axes.set_aspect("equal")
        whole.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), title="A dot marks the threshold of a file")
        enlarged.set(xlim=(-0.003, _ZOOM), ylim=(1 - _ZOOM, 1.003), title="Upper left corner, enlarged")
        figure.legend(*whole.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
        _save(figure, path)


def _draw_class_curves(scores: EvaluationScores, computed: Metrics, path: Path) -> None:
    """For more than two classes: a panel for each against the rest; a dot marks the decisions of a file."""
    names = scores.data.class_names
    columns = min(_COLUMNS, len(names))
    rows = -(-len(names) // columns)
    with _figure(computed, "ROC of each class against the rest", (3.4 * columns + 0.6, 3.6 * rows + 1.2)) as figure:
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for place, (name, axes) in enumerate(zip(names, panels, strict=False)):
            labels = (scores.data.targets == place).astype(np.int64)
            for members, colour, style in _styled(_groups(scores, computed)):
                for file in members:
                    probabilities = file.scores
                    axes.plot(*_curve(labels, probabilities[:, place]), color=colour, linestyle=style, linewidth=1.4)
                    counts = metrics.confusion(labels, metrics.decide(probabilities, None) == place)
                    dot = 1 - counts.specificity.value, counts.sensitivity.value
                    axes.plot(*dot, "o", color=colour, markeredgecolor="white", markersize=6, zorder=4)
            axes.set_title(name if len(name) <= _MOST_TITLE else f"{name[:_MOST_TITLE]}...")
            axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
            axes.set_xlabel("1 - specificity")
            axes.set_ylabel("Sensitivity")
            axes.label_outer()
        for axes in panels[len(names) :]:
            axes.set_axis_off()
        for members, colour, style in _styled(_groups(scores, computed)):
            areas = [metrics.auc(scores.data.targets, file.scores) for file in members]
            panels[0].plot(
                [], [], color=colour, linestyle=style, label=_say_group(members[0].model, areas, "macro AUC")
            )
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
        _save(figure, path)


def draw_reliability(computed: Metrics, path: Path) -> None:
    """A reliability diagram of every model file, in the bins of ``metrics.json``.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OSError: The file cannot be written.
    """
    columns = min(_COLUMNS, len(computed.models))
    rows = -(-len(computed.models) // columns)
    with _figure(computed, "Reliability", (max(4.5, 3 * columns), 3.4 * rows + 0.6)) as figure:
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for axes, measured in zip(panels, computed.models, strict=False):
            _draw_bins(axes, measured)
            axes.set_xlabel("Mean probability")
            two = len(computed.data.classes) == 2
            axes.set_ylabel("Share with " + list(computed.data.classes)[1] if two else "Share of right labels")
            axes.label_outer()
        for axes in panels[len(computed.models) :]:
            axes.set_axis_off()
        _save(figure, path)


@contextmanager
def _figure(computed: Metrics, what: str, size: tuple[float, float]) -> Iterator[Figure]:
    extras.need("matplotlib", "report")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained", dpi=150)
        if computed.data.real:
            figure.suptitle(f"{what}, {where(computed.data)}", fontweight="bold")
        else:
            figure.suptitle(f"{what}. {PHANTOM_WARNING}", fontweight="bold", color=_WARNING)
        yield figure


def _save(figure: Figure, path: Path) -> None:
    with files.atomic(path) as temporary:
        drawing.save(figure, temporary)


def _groups(scores: EvaluationScores, computed: Metrics) -> list[list[FileScores]]:
    """Files grouped by everything but their seed, in the order of the tables."""
    by_key = {(file.model.sha256, file.model.engine): file for file in scores.files}
    groups: dict[tuple[str, ...], list[FileScores]] = {}
    for model in (each.model for each in computed.models):
        key = model.backbone, model.recipe, model.format, model.engine
        groups.setdefault(key, []).append(by_key[model.sha256, model.engine])
    return list(groups.values())


def _draw_curves(axes: Axes, scores: EvaluationScores, labels: Labels, groups: list[list[FileScores]]) -> None:
    axes.plot((0, 1), (0, 1), color=drawing.RULE, linewidth=1, zorder=1)
    for members, colour, style in _styled(groups):
        areas = []
        for file in members:
            probabilities = file.scores
            areas.append(metrics.auc(labels, probabilities))
            axes.plot(*_curve(labels, probabilities), color=colour, linestyle=style, linewidth=1.4, alpha=0.8, zorder=3)
            counts = metrics.tabulate(labels, probabilities, file.model.threshold)
            place = 1 - counts.specificity.value, counts.sensitivity.value
            axes.plot(*place, "o", color=colour, markeredgecolor="white", markersize=6, zorder=4)
        axes.plot([], [], color=colour, linestyle=style, label=_say_group(members[0].model, areas))
    for dashes, shortcut in zip(cycle(_DASHES), scores.shortcuts, strict=False):
        values = shortcuts.as_scores(np.array(shortcut.values, dtype=np.float64), shortcut.direction)
        title = f"{shortcut.measure} alone: AUC {metrics.auc(labels, values):.3f}"
        axes.plot(*_curve(labels, values), color=drawing.MUTED, linestyle=dashes, linewidth=1.4, label=title, zorder=2)


def _styled(groups: list[list[FileScores]]) -> Iterator[tuple[list[FileScores], str, Any]]:
    """Groups with their colour and their style of line."""
    firsts = [members[0].model for members in groups]
    trained = list(dict.fromkeys((model.backbone, model.recipe) for model in firsts))
    kinds = list(dict.fromkeys((model.format, model.engine) for model in firsts))
    for first, members in zip(firsts, groups, strict=True):
        colour = _COLOURS[trained.index((first.backbone, first.recipe)) % len(_COLOURS)]
        yield members, colour, _MODEL_STYLES[kinds.index((first.format, first.engine)) % len(_MODEL_STYLES)]


def _say_group(model: ScoredModel, areas: list[float], name: str = "AUC") -> str:
    found = f"{name} {areas[0]:.3f}"
    if len(areas) > 1:
        found = f"{name} {min(areas):.3f} to {max(areas):.3f} ({len(areas)} files)"
    return f"{backbone_title(model.backbone)} {model.format}, {model.recipe}, {model.engine}: {found}"


def _curve(labels: Labels, scores: Probabilities) -> tuple[Probabilities, Probabilities]:
    _, sensitivity, false_positive_rate = metrics.roc(labels, scores)
    return np.insert(false_positive_rate, 0, 0.0), np.insert(sensitivity, 0, 0.0)


def _draw_bins(axes: Axes, measured: ModelMetrics) -> None:
    bins = measured.calibration.bins
    places = [each.mean_probability for each in bins]
    axes.plot((0, 1), (0, 1), color=drawing.MUTED, linewidth=1, linestyle=_DASHES[1])
    axes.vlines(places, [b.observed.low for b in bins], [b.observed.high for b in bins], color=_COLOURS[0], alpha=0.5)
    axes.plot(places, [b.observed.value for b in bins], "o", color=_COLOURS[0], markeredgecolor="white", markersize=6)
    axes.set_title(f"{_say_model(measured.model)}\nECE {measured.calibration.ece:.3f}")
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")


def _say_model(model: ScoredModel) -> str:
    return f"{backbone_title(model.backbone)} {model.format}\n{model.recipe}, seed {model.seed}, {model.engine}"
