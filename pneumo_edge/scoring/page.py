"""The evaluation as a Markdown page."""

from __future__ import annotations

from collections.abc import Mapping

from pneumo_edge._util import markdown
from pneumo_edge._util.document import Cell, Code, Paragraph, Points, Report, Section, Table
from pneumo_edge.backbones import backbone_title
from pneumo_edge.evaluation.metrics import Interval
from pneumo_edge.evaluation.outcomes import ACCURACY_MARGIN
from pneumo_edge.evaluation.seeds import OverSeeds
from pneumo_edge.scoring.scores import EvaluationScores, ScoredModel
from pneumo_edge.scoring.summary import (
    CLASS_METRIC_TITLES,
    METRIC_TITLES,
    OF_CLASS_TITLES,
    Metrics,
    ModelComparison,
    ModelMetrics,
    SeedComparison,
    SeedGroup,
    as_accurate,
    shortage,
)
from pneumo_edge.spec import RANDOM_WEIGHTS

_DECISIONS = ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "ppv", "npv", "f1")
_CLASS_DECISIONS = tuple(name for name in CLASS_METRIC_TITLES if name != "brier")
_COMPARED = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "brier")
_CLASS_COMPARED = ("accuracy", "balanced_accuracy", "precision", "brier")
_MODEL_COLUMNS = ("Backbone", "Recipe", "Format", "Engine", "Seed")
_GROUP_COLUMNS = ("Backbone", "Recipe", "Format", "Engine", "Seeds")
_NONE = Cell("")


def render(scores: EvaluationScores, computed: Metrics) -> str:
    """Write the page.

    Args:
        scores: What was scored.
        computed: The metrics of these scores.
    """
    data = computed.data
    counts = ", ".join(f"{count} {name}" for name, count in data.classes.items())
    patients = "not known" if data.patients is None else str(data.patients)
    sections = (
        _decisions(computed),
        _confusion_matrices(computed) if _several(computed) else _kinds(computed),
        _calibration(computed),
        _over_seeds(computed),
        _comparisons(computed),
        _comparisons_over_seeds(computed),
        _models(computed),
        _left_out(scores),
        _method(computed),
        _limits(computed),
    )
    report = Report(
        title=f"Evaluation on the {data.split} split of {data.title}",
        lead=_lead(computed),
        facts=(
            ("Images", f"{data.images} ({counts})"),
            ("Patients", patients),
            ("Licence of the data", data.licence),
            ("Fingerprint of the images", data.fingerprint),
        ),
        warnings=_warnings(computed),
        sections=tuple(section for section in sections if section),
    )
    return markdown.render(report)


def _lead(computed: Metrics) -> str:
    files = len(computed.models)
    what = f"{files} model file{'s' * (files != 1)}, scored once on every image."
    if computed.data.split == "test":
        return (
            f"{what} The test split is to be scored once for each final model, with its threshold frozen before; where "
            "a number below leads to another choice of model, it is no longer a test."
        )
    return (
        f"{what} These are validation images: what was chosen on them (see Model files), such as epochs, temperatures "
        "and thresholds, makes the numbers below better than they would be on other images."
    )


def _warnings(computed: Metrics) -> tuple[tuple[str, str], ...]:
    warnings = []
    phantom = [] if computed.data.real else [f"the images are {computed.data.title}"]
    if trained := {each.model.trained_on for each in computed.models if not each.model.trained_on_real}:
        phantom.append(f"models were trained on {', '.join(sorted(trained))}")
    if phantom:
        warnings.append(
            ("Phantom images: not real X-rays.", f"Of pneumonia the numbers below say nothing: {'; '.join(phantom)}.")
        )
    untrained = sum(each.model.initial_weights == RANDOM_WEIGHTS for each in computed.models)
    if untrained:
        warnings.append(
            ("Random initial weights.", f"{untrained} of {len(computed.models)} files had no pretrained weights.")
        )
    if few := shortage(computed.data):
        warnings.append(("Too few images to tell accuracies apart.", f"{few[0].upper()}{few[1:]}."))
    return tuple(warnings)


def _decisions(computed: Metrics) -> Section:
    names, titles = (_CLASS_DECISIONS if _several(computed) else _DECISIONS), _titles(computed)
    rows = [(*_model_cells(each.model), *_metric_cells(each.metrics, names)) for each in computed.models]
    blank = (_NONE,) * (len(_MODEL_COLUMNS) - 1)
    for baseline in computed.baselines:
        label = Cell(f"{baseline.measure} alone ({baseline.direction} in {_positive(computed)})")
        rows.append((label, *blank, _interval(baseline.auc), *(_NONE,) * (len(names) - 1)))
    majority = {"accuracy": _interval(computed.majority.accuracy)}
    cells = (majority.get(name, _NONE) for name in names)
    rows.append((Cell(f"always {computed.majority.class_name}"), *blank, *cells))
    if _several(computed):
        beaten = "The row without a format is what a model has to beat: always the same answer."
        decided = (
            "The answer is the most probable class. AUC, precision, specificity and F1 are macro averages, each class "
            "against the rest, balanced accuracy is the mean of the sensitivities, and the least AUC is that of the "
            "class that is told apart worst"
        )
    else:
        beaten = (
            "The rows without a format are what a model has to beat: one number of the image that knows nothing of "
            "lungs, in the direction that the training images decide, and always the same answer."
        )
        decided = "Decisions are at the threshold that each file carries"
    return Section(
        "Discrimination and decisions",
        (
            Paragraph(beaten),
            Paragraph("![ROC curves](roc.png)"),
            Table((*_MODEL_COLUMNS, *(titles[name] for name in names)), len(_MODEL_COLUMNS), tuple(rows)),
            Paragraph(
                f"{decided}. Brackets hold 95 % intervals: DeLong's for the AUC, Wilson's for always the same answer, "
                f"and for the others percentiles of {computed.bootstrap_replicates:,} bootstrap replicates that draw "
                f"{_unit(computed)}. None is narrower at its end than the exact interval of as many patients without "
                "an error.",
                minor=True,
            ),
        ),
    )


def _kinds(computed: Metrics) -> Section:
    kinds = computed.data.kinds
    names = computed.data.classes
    negative, positive = names
    table = Table(
        (
            *_MODEL_COLUMNS,
            *(f"Sensitivity, {kind} ({count})" for kind, count in kinds.items()),
            f"{positive} found",
            f"{positive} missed",
            f"{negative} cleared",
            f"{negative} called {positive}",
        ),
        len(_MODEL_COLUMNS),
        tuple(
            (
                *_model_cells(each.model),
                *(_interval(each.sensitivity_by_kind[kind].sensitivity) for kind in kinds),
                Cell(str(each.confusion.true_positives)),
                Cell(str(each.confusion.false_negatives)),
                Cell(str(each.confusion.true_negatives)),
                Cell(str(each.confusion.false_positives)),
            )
            for each in computed.models
            if each.confusion
        ),
    )
    notes = (Paragraph("Brackets hold Wilson's 95 % intervals.", minor=True),) if kinds else ()
    return Section("What is found and what is missed", (table, *notes))


def _confusion_matrices(computed: Metrics) -> Section:
    """Each class against the rest, and what was called what."""
    names = tuple(computed.data.classes)
    against_rest = Table(
        (*_MODEL_COLUMNS, "Class", "Images", *OF_CLASS_TITLES.values()),
        len(_MODEL_COLUMNS) + 1,
        tuple(
            (
                *_model_cells(each.model),
                Cell(name),
                Cell(str(computed.data.classes[name])),
                *_metric_cells(of_class, tuple(OF_CLASS_TITLES)),
            )
            for each in computed.models
            for name, of_class in (each.by_class or {}).items()
        ),
    )
    called = Table(
        (*_MODEL_COLUMNS, "Images of", *(f"called {name}" for name in names)),
        len(_MODEL_COLUMNS) + 1,
        tuple(
            (*_model_cells(each.model), Cell(name), *(Cell(str(count)) for count in row))
            for each in computed.models
            if each.matrix
            for name, row in zip(names, each.matrix.counts, strict=True)
        ),
    )
    return Section(
        "Class by class",
        (
            against_rest,
            Paragraph(
                "Each class against the rest. Brackets hold 95 % intervals: DeLong's for the AUC, and for the others "
                f"percentiles of the bootstrap that draws {_unit(computed)}.",
                minor=True,
            ),
            called,
        ),
    )


def _calibration(computed: Metrics) -> Section:
    meaning = "The probability is that of the label, which should be right as often. " if _several(computed) else ""
    return Section(
        "Calibration",
        (
            Paragraph("![Reliability diagrams](reliability.png)"),
            Table(
                (*_MODEL_COLUMNS, "Brier score", "ECE", "ECE by chance", "Temperature"),
                len(_MODEL_COLUMNS),
                tuple(
                    (
                        *_model_cells(each.model),
                        _interval(each.metrics["brier"]),
                        Cell(f"{each.calibration.ece:.3f}"),
                        _interval(each.calibration.by_chance),
                        Cell(f"{each.model.temperature:.2f}"),
                    )
                    for each in computed.models
                ),
            ),
            Paragraph(
                f"{meaning}The expected calibration error (ECE) is taken in bins of equally many images. ECE by chance "
                "is what a perfectly calibrated model with the same probabilities would show on as many images: the "
                "mean, and the range of 95 % of draws. The temperature was fitted before and is inside the file.",
                minor=True,
            ),
        ),
    )


def _over_seeds(computed: Metrics) -> Section | None:
    if not computed.over_seeds and not computed.notes:
        return None
    groups = computed.over_seeds
    title_of = _titles(computed)
    names = [name for name in title_of if any(name in group.metrics for group in groups)]
    kinds = [] if _several(computed) else [f"sensitivity_{kind}" for kind in computed.data.kinds]
    titles = [*(title_of[name] for name in names), *(f"Sensitivity, {kind}" for kind in computed.data.kinds)]
    table = Table(
        (*_GROUP_COLUMNS, *titles),
        len(_GROUP_COLUMNS),
        tuple((*_group_cells(group), *_spread_cells(group.metrics, (*names, *kinds))) for group in groups),
    )
    brackets = Paragraph(
        "Brackets hold Student's 95 % interval of the mean. It is about seeds on these images, and is not cut to "
        "0 to 1.",
        minor=True,
    )
    return Section(
        "Over seeds",
        (
            Paragraph("Files that differ in their seed alone: mean over seeds ± standard deviation of a single run."),
            *((table, brackets) if groups else ()),
            Points(computed.notes),
        ),
    )


def _comparisons(computed: Metrics) -> Section | None:
    if not computed.comparisons:
        return None
    titles, names = _titles(computed), _CLASS_COMPARED if _several(computed) else _COMPARED
    return Section(
        "Backbone against backbone",
        (
            Paragraph(
                "The first less the second, on the same images, for files of one format, seed and engine. Each row is "
                "about two files, each of one training; it says nothing of the backbones, for which see the next table."
            ),
            Table(
                (
                    *("First", "Second", "Format", "Engine", "Seed"),
                    titles["auc"],
                    "DeLong p",
                    *(titles[name] for name in names),
                    "Only first right",
                    "Only second right",
                    "McNemar p",
                ),
                5,
                tuple(_comparison_cells(each, names) for each in computed.comparisons),
            ),
            Paragraph(
                f"{_bracket_note(computed)} DeLong's test and McNemar's exact test, both two-sided, take images as "
                "independent. No p-value is corrected for the number of comparisons.",
                minor=True,
            ),
        ),
    )


def _bracket_note(computed: Metrics) -> str:
    return (
        "Brackets hold 95 % intervals: DeLong's for the AUC, for the others percentiles of the paired bootstrap that "
        f"draws {_unit(computed)}."
    )


def _comparison_cells(each: ModelComparison, names: tuple[str, ...]) -> tuple[Cell, ...]:
    return (
        Cell(f"{backbone_title(each.first.backbone)}, {each.first.recipe}"),
        Cell(f"{backbone_title(each.second.backbone)}, {each.second.recipe}"),
        Cell(each.format),
        Cell(each.engine),
        Cell(str(each.seed)),
        _interval(each.delong.difference, signed=True),
        _p(each.delong.p),
        *(_interval(each.differences[name], signed=True) for name in names),
        Cell(str(each.mcnemar.only_first_right)),
        Cell(str(each.mcnemar.only_second_right)),
        _p(each.mcnemar.p),
    )


def _comparisons_over_seeds(computed: Metrics) -> Section | None:
    groups = computed.comparisons_over_seeds
    if not groups:
        return None
    titles = _titles(computed)
    names = [name for name in titles if any(name in group.differences for group in groups)]
    return Section(
        "Backbone against backbone, over seeds",
        (
            Paragraph(
                "The first less the second with the same seed: mean over seeds ± standard deviation of a single "
                "difference. This is what is known of the backbones."
            ),
            Table(
                (
                    *("First", "Second", "Format", "Engine", "Seeds", "Second as accurate"),
                    *(titles[name] for name in names),
                ),
                6,
                tuple(
                    (
                        *_pair_cells(group),
                        Cell(as_accurate(group) or "not defined"),
                        *_spread_cells(group.differences, names, signed=True),
                    )
                    for group in groups
                ),
            ),
            Paragraph(
                "Brackets hold Student's 95 % interval of the mean, which is about seeds on these images, and not "
                "about other images. As accurate: supported where the whole interval of the second's AUC less the "
                f"first's lies above -{ACCURACY_MARGIN:g}, refuted where it lies below, and else not separable.",
                minor=True,
            ),
        ),
    )


def _pair_cells(group: SeedComparison) -> tuple[Cell, ...]:
    return (
        Cell(f"{backbone_title(group.first_backbone)}, {group.first_recipe}"),
        Cell(f"{backbone_title(group.second_backbone)}, {group.second_recipe}"),
        Cell(group.format),
        Cell(group.engine),
        Cell(", ".join(map(str, group.seeds))),
    )


def _models(computed: Metrics) -> Section:
    return Section(
        "Model files",
        (
            Paragraph("What each file says of itself."),
            Table(
                (
                    *("File", "SHA-256", "Backbone", "Format", "Seed", "Engine", "Trained on", "Initial weights"),
                    *("Threshold", "Rule of the threshold", "Chosen on"),
                ),
                11,
                tuple(_file_cells(each) for each in computed.models),
            ),
        ),
    )


def _file_cells(each: ModelMetrics) -> tuple[Cell, ...]:
    model = each.model
    return (
        Cell(model.file),
        Cell(model.sha256[:12]),
        Cell(backbone_title(model.backbone)),
        Cell(model.format),
        Cell(str(model.seed)),
        Cell(f"{model.engine} {model.engine_version}"),
        Cell(model.trained_on),
        Cell(model.initial_weights),
        Cell("none" if model.threshold is None else f"{model.threshold:.4f}"),
        Cell(model.rule),
        Cell(model.chosen_on),
    )


def _left_out(scores: EvaluationScores) -> Section | None:
    left_out = scores.data.left_out
    if not left_out:
        return None
    return Section("Images left out", (Points(tuple(f"{name}: {reason}" for name, reason in left_out.items())),))


def _method(computed: Metrics) -> Section:
    return Section(
        "How to compute this again",
        (
            Paragraph(
                "Every number here is computed from scores.json, which holds each probability of each file; "
                "metrics.json holds them all, with the rows of the reliability diagrams. docs/evaluation.md names the "
                "sources.",
            ),
            Code("pneumo-edge evaluate --scores scores.json --out ."),
        ),
    )


def _limits(computed: Metrics) -> Section:
    return Section(
        "Limits",
        (
            Points(
                (
                    "Research software; not a medical device. No number here says how well a model judges patients.",
                    f"{computed.data.images} images of one source. An interval holds the chance of other images of "
                    "that source; of other hospitals, devices and ages it says nothing.",
                    "Accuracy and precision belong to the shares of the classes among these images, and to no others."
                    if _several(computed)
                    else f"PPV and NPV belong to the share of {_positive(computed)} among these images, and to no "
                    "other.",
                )
            ),
        ),
    )


def _unit(computed: Metrics) -> str:
    if computed.data.patients is None:
        return "images, because patients are not known, so that they are too narrow if patients have several"
    return "whole patients"


def _several(computed: Metrics) -> bool:
    """Whether there are more than two classes."""
    return len(computed.data.classes) > 2


def _titles(computed: Metrics) -> dict[str, str]:
    return {**(CLASS_METRIC_TITLES if _several(computed) else METRIC_TITLES), "ece": "ECE"}


def _positive(computed: Metrics) -> str:
    return list(computed.data.classes)[1]


def _model_cells(model: ScoredModel) -> tuple[Cell, ...]:
    return (
        Cell(backbone_title(model.backbone)),
        Cell(model.recipe),
        Cell(model.format),
        Cell(model.engine),
        Cell(str(model.seed)),
    )


def _group_cells(group: SeedGroup) -> tuple[Cell, ...]:
    return (
        Cell(backbone_title(group.backbone)),
        Cell(group.recipe),
        Cell(group.format),
        Cell(group.engine),
        Cell(", ".join(map(str, group.seeds))),
    )


def _metric_cells(metrics: Mapping[str, Interval | None], names: tuple[str, ...]) -> tuple[Cell, ...]:
    return tuple(_interval(metrics[name]) for name in names)


def _interval(interval: Interval | None, *, signed: bool = False) -> Cell:
    if interval is None:
        return Cell("not defined")
    number = "{:+.3f}" if signed else "{:.3f}"
    value, low, high = (number.format(end) for end in (interval.value, interval.low, interval.high))
    return Cell(value, f"[{low}, {high}]")


def _spread_cells(
    metrics: Mapping[str, OverSeeds], names: list[str] | tuple[str, ...], *, signed: bool = False
) -> tuple[Cell, ...]:
    return tuple(_spread(metrics.get(name), signed=signed) for name in names)


def _spread(spread: OverSeeds | None, *, signed: bool) -> Cell:
    if spread is None:
        return Cell("not defined")
    cell = _interval(spread.mean, signed=signed)
    return Cell(f"{cell.text} ± {spread.sd:.3f}", cell.detail)


def _p(p: float | None) -> Cell:
    if p is None:
        return Cell("not defined")
    return Cell("<0.001" if p < 0.001 else f"{p:.3f}")
