"""The evaluation as a Markdown page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pneumo_edge._util import markdown
from pneumo_edge._util.document import Cell, Code, Paragraph, Points, Report, Section, Table
from pneumo_edge.backbones import backbone_title
from pneumo_edge.evaluation.metrics import Interval
from pneumo_edge.evaluation.networks import LEVEL
from pneumo_edge.evaluation.outcomes import ACCURACY_MARGIN, LEAST_IMAGES, LEAST_PATIENTS
from pneumo_edge.evaluation.seeds import OverSeeds
from pneumo_edge.scoring import cells
from pneumo_edge.scoring.external import DECIDING, DECIDING_OF_CLASSES, MARGIN
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
    where,
    worse_than_chance,
)
from pneumo_edge.spec import RANDOM_WEIGHTS

_DECISIONS = ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "ppv", "npv", "f1")
_CLASS_DECISIONS = tuple(name for name in CLASS_METRIC_TITLES if name != "brier")
_COMPARED = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "brier")
_CLASS_COMPARED = ("accuracy", "balanced_accuracy", "precision", "brier")
_MODEL_COLUMNS = ("Backbone", "Recipe", "Format", "Engine", "Seed")
_GROUP_COLUMNS = ("Backbone", "Recipe", "Format", "Engine", "Seeds")
_NONE = Cell("")
_OVERLAP = (
    "These are all images of the data set, of every split. A model file does not name its training images, so "
    "make sure that none of them is among these."
)


def render(scores: EvaluationScores, computed: Metrics) -> str:
    """Render the page.

    Args:
        scores: The scores.
        computed: The metrics of these scores.
    """
    data = computed.data
    counts = ", ".join(f"{count} {name}" for name, count in data.classes.items())
    patients = "not known" if data.patients is None else str(data.patients)
    sections = (
        _external(computed),
        _decisions(computed),
        _confusion_matrices(computed) if _several(computed) else _kinds(computed),
        _calibration(computed),
        _over_seeds(computed),
        _comparisons(computed),
        _comparisons_over_seeds(computed),
        _networks(computed),
        _models(computed),
        _left_out(scores),
        _method(computed),
        _limits(computed),
    )
    report = Report(
        title=f"Evaluation on {where(data)}",
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
    if computed.data.external:
        return f"{' '.join(_verdicts(computed))} {what} {_OVERLAP}"
    if computed.data.split == "test":
        return (
            f"{what} Score the test split once for each final model, after its threshold is frozen. If a number below "
            "leads you to choose another model, the split is no longer a test."
        )
    return (
        f"{what} These are validation images. Epochs, temperatures and thresholds were chosen on them (see Model "
        "files), so the numbers below are better than on other images."
    )


def _verdicts(computed: Metrics) -> Iterator[str]:
    """Whether each model may be used on another population; with its engine where there are several."""
    several = len({each.model.engine for each in computed.models}) > 1
    for each in computed.models:
        if each.external:
            yield f"On {each.model.engine}: {each.external.sentence}" if several else each.external.sentence


def _external(computed: Metrics) -> Section | None:
    if not computed.data.external:
        return None
    names = DECIDING_OF_CLASSES if _several(computed) else DECIDING
    titles = _titles(computed)
    deciding = ", ".join(titles[name] for name in names)
    rows = []
    for each in computed.models:
        if not (found := each.external):
            continue
        inside, unlike = found.in_distribution, found.out_of_distribution
        promised = (Cell(f"{found.promised[name]:.3f}") if name in found.promised else _NONE for name in names)
        share = cells.interval(unlike) if unlike else Cell("no input check")
        rows.append((*_model_cells(each.model), Cell("validation"), _NONE, _NONE, *promised))
        rows.append(
            (
                *_model_cells(each.model),
                Cell("these images"),
                Cell(str(computed.data.images)),
                share,
                *_metric_cells(each.metrics, names),
            )
        )
        if inside:
            images = Cell(str(sum(inside.classes.values())))
            metrics = (cells.interval(inside.metrics.get(name)) for name in names)
            rows.append((*_model_cells(each.model), Cell("of these, in distribution"), images, _NONE, *metrics))
    return Section(
        "Another population",
        (
            Table(
                (*_MODEL_COLUMNS, "On", "Images", "Out-of-distribution", *(titles[name] for name in names)),
                len(_MODEL_COLUMNS) + 1,
                tuple(rows),
            ),
            Paragraph(
                f"The rule: a model may be used where the whole interval of each of {deciding} lies above its value on "
                f"validation minus {MARGIN:g}, and not where the whole interval of one lies below. If the first holds "
                "only for the images that the input check does not find out-of-distribution, the model may be used on "
                f"these alone. Otherwise it cannot be said. A claim takes {LEAST_IMAGES} images of {LEAST_PATIENTS} "
                "patients in each class.",
                minor=True,
            ),
        ),
    )


def _warnings(computed: Metrics) -> tuple[tuple[str, str], ...]:
    warnings = []
    phantom = [] if computed.data.real else [f"the images are {computed.data.title}"]
    phantom += cells.phantom_models(each.model for each in computed.models)
    if phantom:
        warnings.append(
            (
                "Phantom images, not real X-rays.",
                f"The numbers below say nothing about pneumonia: {'; '.join(phantom)}.",
            )
        )
    untrained = sum(each.model.initial_weights == RANDOM_WEIGHTS for each in computed.models)
    if untrained:
        warnings.append(
            (
                "Random initial weights.",
                f"{untrained} of {len(computed.models)} files were trained without pretrained weights.",
            )
        )
    if wrong := worse_than_chance(computed):
        warnings.append(("Worse than chance.", f"{wrong}."))
    if few := shortage(computed.data):
        warnings.append(("Too few images to compare accuracies.", f"{few[0].upper()}{few[1:]}."))
    return tuple(warnings)


def _decisions(computed: Metrics) -> Section:
    names, titles = (_CLASS_DECISIONS if _several(computed) else _DECISIONS), _titles(computed)
    rows = [(*_model_cells(each.model), *_metric_cells(each.metrics, names)) for each in computed.models]
    blank = (_NONE,) * (len(_MODEL_COLUMNS) - 1)
    for baseline in computed.baselines:
        label = Cell(f"{baseline.measure} alone ({baseline.direction} in {_positive(computed)})")
        rows.append((label, *blank, cells.interval(baseline.auc), *(_NONE,) * (len(names) - 1)))
    majority = {"accuracy": cells.interval(computed.majority.accuracy)}
    of_majority = (majority.get(name, _NONE) for name in names)
    rows.append((Cell(f"always {computed.majority.class_name}"), *blank, *of_majority))
    if computed.baselines:
        beaten = (
            "Compare each model with the rows without a format. They are baselines: a single number of the image that "
            "is unrelated to what it shows, in the direction determined on training images, and a constant answer."
        )
    else:
        beaten = "Compare each model with the row without a format. It is the baseline: a constant answer."
    if _several(computed):
        decided = (
            "The answer is the most probable class. AUC, precision, specificity and F1 are macro averages of each "
            "class against the rest. Balanced accuracy is the mean of the sensitivities. The least AUC is that of the "
            "class with the lowest AUC"
        )
    else:
        decided = "Decisions are at the threshold in each file"
    return Section(
        "Discrimination and decisions",
        (
            Paragraph(beaten),
            Paragraph("![ROC curves](roc.png)"),
            Table((*_MODEL_COLUMNS, *(titles[name] for name in names)), len(_MODEL_COLUMNS), tuple(rows)),
            Paragraph(
                f"{decided}. Brackets are 95 % intervals: DeLong's for the AUC, Wilson's for the constant answer, "
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
            f"{positive} as {positive}",
            f"{positive} as {negative}",
            f"{negative} as {negative}",
            f"{negative} as {positive}",
        ),
        len(_MODEL_COLUMNS),
        tuple(
            (
                *_model_cells(each.model),
                *(cells.interval(each.sensitivity_by_kind[kind].sensitivity) for kind in kinds),
                Cell(str(each.confusion.true_positives)),
                Cell(str(each.confusion.false_negatives)),
                Cell(str(each.confusion.true_negatives)),
                Cell(str(each.confusion.false_positives)),
            )
            for each in computed.models
            if each.confusion
        ),
    )
    notes = (Paragraph("Brackets are Wilson's 95 % intervals.", minor=True),) if kinds else ()
    return Section("Confusion matrix and sensitivity by kind", (table, *notes))


def _confusion_matrices(computed: Metrics) -> Section:
    """Each class against the rest, and the confusion matrix."""
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
        (*_MODEL_COLUMNS, "Images of", *(f"classified as {name}" for name in names)),
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
                "Each class against the rest. Brackets are 95 % intervals: DeLong's for the AUC, and for the others "
                f"percentiles of the bootstrap that draws {_unit(computed)}.",
                minor=True,
            ),
            called,
        ),
    )


def _calibration(computed: Metrics) -> Section:
    meaning = "The probability is that of the predicted class. " if _several(computed) else ""
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
                        cells.interval(each.metrics["brier"]),
                        Cell(f"{each.calibration.ece:.3f}"),
                        cells.interval(each.calibration.by_chance),
                        Cell(f"{each.model.temperature:.2f}"),
                    )
                    for each in computed.models
                ),
            ),
            Paragraph(
                f"{meaning}The expected calibration error (ECE) is computed in bins with equal numbers of images. ECE "
                "by chance is the ECE of a perfectly calibrated model with the same probabilities on as many images: "
                "the mean, and the range of 95 % of draws. The temperature was fitted before and is inside the file.",
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
        "Brackets are Student's 95 % intervals of the mean. They describe seeds on these images and are not clipped to "
        "0 to 1.",
        minor=True,
    )
    return Section(
        "Over seeds",
        (
            Paragraph("Files that differ only in their seed: mean over seeds ± standard deviation of a single run."),
            *((table, brackets) if groups else ()),
            Points(computed.notes),
        ),
    )


def _comparisons(computed: Metrics) -> Section | None:
    if not computed.comparisons:
        return None
    titles, names = _titles(computed), _CLASS_COMPARED if _several(computed) else _COMPARED
    return Section(
        "Comparison of backbones",
        (
            Paragraph(
                "The first minus the second, on the same images, for files with the same format, seed and engine. Each "
                "row is about two files, each of one training. For the backbones, see the next table."
            ),
            Table(
                (
                    *("First", "Second", "Format", "Engine", "Seed"),
                    titles["auc"],
                    "DeLong p",
                    *(titles[name] for name in names),
                    "Only first correct",
                    "Only second correct",
                    "McNemar p",
                ),
                5,
                tuple(_comparison_cells(each, names) for each in computed.comparisons),
            ),
            Paragraph(
                f"{_bracket_note(computed)} DeLong's test and McNemar's exact test, both two-sided, take images as "
                "independent. p-values are not corrected for the number of comparisons.",
                minor=True,
            ),
        ),
    )


def _bracket_note(computed: Metrics) -> str:
    return (
        "Brackets are 95 % intervals: DeLong's for the AUC, for the others percentiles of the paired bootstrap that "
        f"draws {_unit(computed)}."
    )


def _comparison_cells(each: ModelComparison, names: tuple[str, ...]) -> tuple[Cell, ...]:
    return (
        Cell(f"{backbone_title(each.first.backbone)}, {each.first.recipe}"),
        Cell(f"{backbone_title(each.second.backbone)}, {each.second.recipe}"),
        Cell(each.format),
        Cell(each.engine),
        Cell(str(each.seed)),
        cells.interval(each.delong.difference, signed=True),
        _p(each.delong.p),
        *(cells.interval(each.differences[name], signed=True) for name in names),
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
        "Comparison of backbones over seeds",
        (
            Paragraph(
                "The first minus the second with the same seed: mean over seeds ± standard deviation of a single "
                "difference. This table is about the backbones."
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
                "Brackets are Student's 95 % intervals of the mean. They describe seeds on these images, not other "
                "images. As accurate: supported where the whole interval of the second's AUC minus the first's lies "
                f"above -{ACCURACY_MARGIN:g}, refuted where it lies below, otherwise not separable.",
                minor=True,
            ),
        ),
    )


def _networks(computed: Metrics) -> Section | None:
    if not computed.networks:
        return None
    return Section(
        "Comparison of networks",
        (
            Paragraph(
                "The first minus the second: means over all trainings of each, with 95 % intervals over other "
                "trainings and other patients. This table is about networks."
            ),
            Table(
                (
                    *("First", "Trainings", "Second", "Trainings", "Format", "Engine"),
                    *("AUC", "Accuracy", "First more accurate", "First as accurate", "Second as accurate"),
                ),
                6,
                tuple(
                    (
                        Cell(f"{backbone_title(each.first_backbone)}, {each.first_recipe}"),
                        Cell(str(len(each.first_seeds))),
                        Cell(f"{backbone_title(each.second_backbone)}, {each.second_recipe}"),
                        Cell(str(len(each.second_seeds))),
                        Cell(each.format),
                        Cell(each.engine),
                        cells.interval(each.auc, signed=True),
                        cells.interval(each.accuracy, signed=True),
                        *map(cells.claim, (each.different, each.first_as_accurate, each.second_as_accurate)),
                    )
                    for each in computed.networks
                ),
            ),
            Paragraph(
                "The model is that of Obuchowski and Rockette, with trainings nested in networks. The p-values are "
                f"corrected for all {3 * len(computed.networks)} claims of this table (Holm); a claim is decided at "
                f"{LEVEL:g}. As accurate: the AUC is lower by less than {ACCURACY_MARGIN:g}.",
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
            Paragraph("From the ModelSpec in each file."),
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
        cells.trained_on(model),
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
        "How to reproduce",
        (
            Paragraph(
                "Every number here is computed from scores.json, which has every probability of every file. "
                "metrics.json has all numbers, including those of the reliability diagrams. docs/evaluation.md names "
                "the sources.",
            ),
            Code("pneumo-edge evaluate --scores scores.json --out ."),
        ),
    )


def _limits(computed: Metrics) -> Section:
    return Section(
        "Limitations",
        (
            Points(
                (
                    "Research software, not a medical device. No number here says how well a model diagnoses patients.",
                    f"The {computed.data.images} images come from one source. The intervals cover the choice of images "
                    "from that source. They say nothing about other hospitals, devices and ages.",
                    "Accuracy and precision are valid only for the shares of the classes among these images."
                    if _several(computed)
                    else f"PPV and NPV are valid only for the share of {_positive(computed)} among these images.",
                )
            ),
        ),
    )


def _unit(computed: Metrics) -> str:
    if computed.data.patients is None:
        return "images, because patients are not known; they are too narrow if patients have several images"
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
    return tuple(cells.interval(metrics[name]) for name in names)


def _spread_cells(
    metrics: Mapping[str, OverSeeds], names: list[str] | tuple[str, ...], *, signed: bool = False
) -> tuple[Cell, ...]:
    return tuple(cells.spread(metrics.get(name), signed=signed) for name in names)


def _p(p: float | None) -> Cell:
    if p is None:
        return Cell("not defined")
    return Cell("<0.001" if p < 0.001 else f"{p:.3f}")
