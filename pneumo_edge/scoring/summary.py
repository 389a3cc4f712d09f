"""The schema of ``metrics.json``, and its computation from the scores."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pneumo_edge._util import files, records
from pneumo_edge._util.records import Count
from pneumo_edge._util.result_files import read_record
from pneumo_edge.data import shortcuts
from pneumo_edge.data.shortcuts import Direction
from pneumo_edge.data.sources import SplitName
from pneumo_edge.evaluation import metrics, networks, outcomes, reliability
from pneumo_edge.evaluation.bootstrap import (
    CLASS_STATISTICS,
    REPLICATES,
    STATISTICS,
    Predictions,
    bootstrap,
    bootstrap_difference,
)
from pneumo_edge.evaluation.comparison import AucDifference, McNemar, accuracy_shares, auc_shares, compare_auc, mcnemar
from pneumo_edge.evaluation.metrics import Confusion, ConfusionMatrix, Interval, Labels
from pneumo_edge.evaluation.metrics import Scores as Probabilities
from pneumo_edge.evaluation.networks import Leaning
from pneumo_edge.evaluation.outcomes import ACCURACY_MARGIN, Outcome, settle, too_few
from pneumo_edge.evaluation.reliability import Bin
from pneumo_edge.evaluation.seeds import OverSeeds, over_seeds
from pneumo_edge.evaluation.subgroups import KindSensitivity, sensitivity_by_kind
from pneumo_edge.scoring import external
from pneumo_edge.scoring.classes import MIN_IMAGES
from pneumo_edge.scoring.external import External, InDistribution
from pneumo_edge.scoring.models import pairs_of_backbones
from pneumo_edge.scoring.scores import EvaluationScores, FileScores, ImageSet, ScoredModel

SCHEMA_VERSION = 1

#: The calibration error of resampled images is biased upwards, so it has no bootstrap interval.
_COMPARED = tuple(name for name in STATISTICS if name != "ece")
_CLASSES_COMPARED = tuple(CLASS_STATISTICS)
#: The AUC of a single model has DeLong's interval instead.
_RESAMPLED = tuple(name for name in _COMPARED if name != "auc")
_CLASSES_RESAMPLED = tuple(name for name in _CLASSES_COMPARED if name != "auc")
#: Of each class against the rest.
_OF_CLASS = ("sensitivity", "specificity", "ppv", "f1")
_SEED = 0


#: Titles of the metrics with an interval, in the order of the tables.
METRIC_TITLES = {
    "auc": "AUC",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "f1": "F1",
    "brier": "Brier score",
}


#: The same where there are more than two classes; averages are macro averages, of each class against the rest.
CLASS_METRIC_TITLES = {
    "auc": "Macro AUC",
    "least_auc": "Least AUC",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "specificity": "Macro specificity",
    "precision": "Macro precision",
    "f1": "Macro F1",
    "brier": "Brier score",
}
#: Titles of the metrics of one class against the rest.
OF_CLASS_TITLES = {
    "auc": "AUC",
    "sensitivity": "Sensitivity",
    "precision": "Precision",
    "specificity": "Specificity",
    "f1": "F1",
}


def titles(names: Iterable[str]) -> dict[str, str]:
    """The titles that go with metrics of these names: those of two classes, or of more."""
    return CLASS_METRIC_TITLES if "least_auc" in names else METRIC_TITLES


@dataclass(frozen=True)
class Data:
    """The images.

    ``classes`` counts them by class: of two, the positive one stands last. ``kinds`` counts positive images by kind;
    ``patients`` is None where they are not known. ``external`` is True for all images of another population.
    """

    title: str
    real: bool
    licence: str
    split: SplitName
    fingerprint: str
    images: Count
    classes: dict[str, Count]
    kinds: dict[str, Count]
    left_out: Count
    patients: Count | None
    external: bool = False

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise ValueError(f"classes are {', '.join(map(repr, self.classes)) or 'none'}, not two or more")
        if sum(self.classes.values()) != self.images:
            raise ValueError(f"classes have {sum(self.classes.values())} images, and images is {self.images}")


@dataclass(frozen=True)
class Majority:
    """The accuracy of always predicting the more common class."""

    class_name: str
    accuracy: Interval


@dataclass(frozen=True)
class ShortcutBaseline:
    """A shortcut alone as a score; ``direction`` says which values indicate the positive class."""

    measure: str
    direction: Direction
    auc: Interval


@dataclass(frozen=True)
class Reliability:
    """The calibration error; ``by_chance`` is that of a perfectly calibrated model with the same probabilities.

    It is about the probability of the positive class; without one, about that of the predicted class.
    """

    ece: float
    by_chance: Interval
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class ModelMetrics:
    """All metrics of one model file.

    ``metrics`` has ``auc`` with DeLong's interval, and the others with the percentile interval of a bootstrap over
    patients; None where a metric is not defined. With more than two classes there is no ``confusion`` but a
    ``matrix``, and ``by_class`` has the metrics of each class against the rest. ``external`` is None but for images of
    another population.
    """

    model: ScoredModel
    metrics: dict[str, Interval | None]
    confusion: Confusion | None
    sensitivity_by_kind: dict[str, KindSensitivity]
    calibration: Reliability
    matrix: ConfusionMatrix | None = None
    by_class: dict[str, dict[str, Interval | None]] | None = None
    external: External | None = None

    def __post_init__(self) -> None:
        if (self.confusion is None) != (self.matrix is not None) or (self.matrix is None) != (self.by_class is None):
            raise ValueError("it has a confusion, or a matrix and by_class, and not some of both")
        _check_names("metrics", self.metrics, METRIC_TITLES if self.matrix is None else CLASS_METRIC_TITLES)
        for name, of_class in (self.by_class or {}).items():
            _check_names(f"by_class.{name}", of_class, OF_CLASS_TITLES)


@dataclass(frozen=True)
class SeedGroup:
    """Model files that differ only in their seed."""

    backbone: str
    recipe: str
    format: str
    engine: str
    seeds: tuple[int, ...]
    metrics: dict[str, OverSeeds]


@dataclass(frozen=True)
class Side:
    """One of two model files that are compared."""

    file: str
    sha256: str
    backbone: str
    recipe: str


@dataclass(frozen=True)
class ModelComparison:
    """Two backbones with the same format, seed and engine: the first minus the second.

    ``differences`` has the differences of the metrics, with percentile intervals of a paired bootstrap over patients.
    """

    first: Side
    second: Side
    format: str
    seed: int
    engine: str
    differences: dict[str, Interval | None]
    delong: AucDifference
    mcnemar: McNemar

    def __post_init__(self) -> None:
        _check_names("differences", self.differences, titles(self.differences))


@dataclass(frozen=True)
class SeedComparison:
    """The differences of comparisons that differ only in their seed."""

    first_backbone: str
    first_recipe: str
    second_backbone: str
    second_recipe: str
    format: str
    engine: str
    seeds: tuple[int, ...]
    differences: dict[str, OverSeeds]


@dataclass(frozen=True)
class NetworkComparison:
    """Two networks with several trainings each, in one format on one engine: the first minus the second.

    Attributes:
        first_backbone: Backbone of the first.
        first_recipe: Its recipe.
        first_seeds: Seeds of its trainings.
        second_backbone: Backbone of the second.
        second_recipe: Its recipe.
        second_seeds: Seeds of its trainings.
        format: The format.
        engine: The engine.
        auc: The difference of mean AUC, with an interval over other trainings and other patients.
        accuracy: The same of accuracy.
        different: Whether the first has the higher AUC, with the p-value corrected for the number of claims.
        first_as_accurate: Whether the AUC of the first is lower by less than the margin.
        second_as_accurate: Whether that of the second is.
    """

    first_backbone: str
    first_recipe: str
    first_seeds: tuple[int, ...]
    second_backbone: str
    second_recipe: str
    second_seeds: tuple[int, ...]
    format: str
    engine: str
    auc: Interval
    accuracy: Interval
    different: Leaning
    first_as_accurate: Leaning
    second_as_accurate: Leaning


@dataclass(frozen=True)
class Metrics:
    """The whole evaluation. ``notes`` says what was not computed, and why.

    ``networks`` compares every pair of networks with enough trainings; empty in files from before the field existed.
    """

    data: Data
    majority: Majority
    bootstrap_replicates: int
    bootstrap_seed: int
    models: tuple[ModelMetrics, ...]
    baselines: tuple[ShortcutBaseline, ...]
    over_seeds: tuple[SeedGroup, ...]
    comparisons: tuple[ModelComparison, ...]
    comparisons_over_seeds: tuple[SeedComparison, ...]
    notes: tuple[str, ...]
    networks: tuple[NetworkComparison, ...] = ()
    schema_version: int = SCHEMA_VERSION


def write(path: Path, computed: Metrics) -> None:
    """Write metrics as JSON with ten digits, because further digits depend on the machine."""
    document = json.loads(records.document(computed), parse_float=lambda text: float(f"{float(text):.10g}"))
    files.write_text(path, json.dumps(document, indent=2) + "\n")


def read(path: Path) -> Metrics:
    """Read metrics.

    Raises:
        ResultsError: The file is missing, damaged, of a newer schema, or contradicts itself.
    """
    return read_record(Metrics, path, SCHEMA_VERSION, "metrics", "evaluate")


def compute(scores: EvaluationScores) -> Metrics:
    """Compute all metrics."""
    images = _Images(scores)
    ordered = sorted(scores.files, key=_order)
    models = tuple(images.measure(file) for file in ordered)
    if scores.data.external:
        models = tuple(
            replace(measured, external=_judge(scores, file, measured))
            for file, measured in zip(ordered, models, strict=True)
        )
    comparisons = tuple(images.compare(*pair) for pair in pairs_of_backbones(ordered, _of_backbone))
    notes: list[str] = []
    return Metrics(
        data=_describe(scores),
        majority=_majority(scores),
        bootstrap_replicates=REPLICATES,
        bootstrap_seed=_SEED,
        models=models,
        baselines=tuple(
            ShortcutBaseline(
                shortcut.measure,
                shortcut.direction,
                metrics.auc_interval(
                    images.labels, shortcuts.as_scores(np.array(shortcut.values, np.float64), shortcut.direction)
                ),
            )
            for shortcut in scores.shortcuts
        ),
        over_seeds=tuple(_group_models(models, notes)),
        comparisons=comparisons,
        comparisons_over_seeds=tuple(_group_comparisons(comparisons)),
        notes=tuple(notes),
        networks=images.compare_networks(ordered),
    )


def compare_networks(scores: EvaluationScores) -> tuple[NetworkComparison, ...]:
    """Every pair of networks with enough trainings in one format on one engine; none where the images are too few."""
    return _Images(scores).compare_networks(sorted(scores.files, key=_order))


def _judge(scores: EvaluationScores, file: FileScores, measured: ModelMetrics) -> External:
    unlike, inside = file.out_of_distribution, None
    if unlike is not None:
        kept = [row for row, is_unlike in enumerate(unlike) if not is_unlike]
        inside = _in_distribution(scores, file, kept)
    return external.decide(
        file.model.file,
        file.model.validation,
        measured.metrics,
        shortage(_describe(scores)),
        None if unlike is None else metrics.wilson(sum(unlike), len(unlike)),
        inside,
    )


def _in_distribution(scores: EvaluationScores, file: FileScores, kept: Sequence[int]) -> InDistribution:
    """The metrics of a file on some of the images."""
    images = tuple(scores.data.images[row] for row in kept)
    labels = Counter(image.label for image in images)
    if min(labels[label] for label in range(len(scores.data.class_names))) < MIN_IMAGES:
        classes = {name: labels[label] for label, name in enumerate(scores.data.class_names)}
        return InDistribution(classes, {}, too_few(min(classes.values()), None, _kind(scores.data)))
    of_classes = file.class_probabilities
    part = FileScores(
        file.model,
        tuple(file.probabilities[row] for row in kept) if of_classes is None else (),
        None if of_classes is None else tuple(of_classes[row] for row in kept),
    )
    inside = EvaluationScores(replace(scores.data, images=images), (), (part,))
    described = _describe(inside)
    return InDistribution(described.classes, _Images(inside).measure(part).metrics, shortage(described))


def as_accurate(group: SeedComparison) -> Outcome | None:
    """Whether the second backbone is as accurate as the first, over several trainings; None without their AUC."""
    if "auc" not in group.differences:
        return None
    auc = group.differences["auc"].mean
    return settle(Interval(-auc.value, -auc.high, -auc.low), -ACCURACY_MARGIN)


def where(data: Data) -> str:
    """The images in words: a split of a data set, or another population."""
    return f"another population, {data.title}" if data.external else f"the {data.split} split of {data.title}"


def worse_than_chance(computed: Metrics) -> str:
    """The files that order the images, or those of one class, the wrong way round, beyond chance; "" without any."""

    def aucs(each: ModelMetrics) -> Iterable[Interval | None]:
        return (metrics["auc"] for metrics in (each.metrics, *(each.by_class or {}).values()))

    names = [each.model.file for each in computed.models if any(auc and auc.high < 0.5 for auc in aucs(each))]
    if not names:
        return ""
    of_class = "" if len(computed.data.classes) == 2 else " of a class"
    return (
        f"{', '.join(dict.fromkeys(names))}: AUC{of_class} below 0.5, worse than chance. Check whether the labels of "
        f"these images, or the classes of the model ({', '.join(computed.data.classes)}), are exchanged"
    )


def shortage(data: Data) -> str:
    """Why the images are too few for a claim on accuracy; "" where they are enough.

    Metrics have the number of patients of all classes together, so an equal part is assumed for each class.
    """
    people = None if data.patients is None else data.patients // len(data.classes)
    return too_few(min(data.classes.values()), people, _kind(data))


def _kind(data: Data | ImageSet) -> str:
    return "" if data.external else "validation" if data.split == "val" else "test"


def _check_names(what: str, given: Iterable[str], needed: Iterable[str]) -> None:
    if missing := set(needed) - set(given):
        raise ValueError(f"{what} lack {', '.join(sorted(missing))}")


class _Images:
    """The images that all models were scored on."""

    def __init__(self, scores: EvaluationScores) -> None:
        images = scores.data.images
        self.labels: Labels = scores.data.targets
        self.task = scores.data.task
        self.patients = [image.patient for image in images]
        self.kinds = [image.kind for image in images]

    def measure(self, file: FileScores) -> ModelMetrics:
        if self.task.positive_class is None:
            return self._measure_classes(file)
        probabilities, decisions = _probabilities(file), _decisions(file) == 1
        resampled = bootstrap(self.labels, _predictions(file), self.patients, statistics=_RESAMPLED, seed=_SEED)
        return ModelMetrics(
            model=file.model,
            metrics=_defined({"auc": metrics.auc_interval(self.labels, probabilities), **resampled}),
            confusion=metrics.confusion(self.labels, decisions),
            sensitivity_by_kind=sensitivity_by_kind(self.labels, decisions, self.kinds),
            calibration=Reliability(
                reliability.expected_calibration_error(self.labels, probabilities),
                reliability.calibration_error_by_chance(probabilities, seed=_SEED),
                reliability.reliability(self.labels, probabilities),
            ),
        )

    def _measure_classes(self, file: FileScores) -> ModelMetrics:
        probabilities, decisions = _probabilities(file), _decisions(file)
        resampled = bootstrap(self.labels, _predictions(file), self.patients, statistics=_CLASSES_RESAMPLED, seed=_SEED)
        matrix = metrics.tabulate(self.labels, probabilities, None)
        assert isinstance(matrix, ConfusionMatrix)
        right = (decisions == self.labels).astype(np.int64)
        answered = probabilities[np.arange(len(decisions)), decisions]
        return ModelMetrics(
            model=file.model,
            metrics=_defined({"auc": metrics.auc_interval(self.labels, probabilities), **resampled}),
            confusion=None,
            sensitivity_by_kind={},
            calibration=Reliability(
                reliability.expected_calibration_error(right, answered),
                reliability.calibration_error_by_chance(answered, seed=_SEED),
                reliability.reliability(right, answered),
            ),
            matrix=matrix,
            by_class={
                name: self._measure_class(place, probabilities, decisions)
                for place, name in enumerate(self.task.class_names)
            },
        )

    def _measure_class(
        self, place: int, probabilities: Probabilities, decisions: npt.NDArray[np.int64]
    ) -> dict[str, Interval | None]:
        """The metrics of one class against the rest."""
        labels = (self.labels == place).astype(np.int64)
        # Its decision is no threshold of its probability, so it stands for a score.
        called = Predictions((decisions == place).astype(np.float64), 0.5)
        found = bootstrap(labels, called, self.patients, statistics=_OF_CLASS, seed=_SEED)
        found["precision"] = found.pop("ppv")
        return _defined({"auc": metrics.auc_interval(labels, probabilities[:, place]), **found})

    def compare(self, first: FileScores, second: FileScores) -> ModelComparison:
        right = [_decisions(file) == self.labels for file in (first, second)]
        return ModelComparison(
            first=_side(first.model),
            second=_side(second.model),
            format=first.model.format,
            seed=first.model.seed,
            engine=first.model.engine,
            differences=_defined(
                bootstrap_difference(
                    self.labels,
                    _predictions(first),
                    _predictions(second),
                    self.patients,
                    statistics=_CLASSES_COMPARED if self.task.positive_class is None else _COMPARED,
                    seed=_SEED,
                )
            ),
            delong=compare_auc(self.labels, _probabilities(first), _probabilities(second)),
            mcnemar=mcnemar(*right),
        )

    def compare_networks(self, ordered: Sequence[FileScores]) -> tuple[NetworkComparison, ...]:
        """Every pair of networks in one format on one engine, where each has enough trainings with a seed of its own.

        Claims are corrected for the number of all of them. There are none where the images are too few.
        """
        groups: dict[tuple[str, str, str, str], list[FileScores]] = defaultdict(list)
        for file in ordered:
            model = file.model
            groups[model.format, model.engine, model.backbone, model.recipe].append(file)
        enough = [
            (key, files)
            for key, files in groups.items()
            if len({file.model.seed for file in files}) == len(files) >= networks.LEAST_TRAININGS
        ]
        if outcomes.shortage(self.labels, self.patients):
            return ()
        pairs = [(one, two) for one, two in combinations(enough, 2) if one[0][:2] == two[0][:2]]
        aucs = {key: [auc_shares(self.labels, file.scores, self.patients) for file in files] for key, files in enough}
        accuracies = {
            key: [accuracy_shares(_decisions(file) == self.labels, self.patients) for file in files]
            for key, files in enough
        }
        estimates = [networks.compare(aucs[one], aucs[two]) for (one, _), (two, _) in pairs]
        settled = iter(
            networks.settle_all(
                [
                    networks.lean(one_way.value, one_way.p, least)
                    for found in estimates
                    for one_way, least in (
                        (found, 0.0),
                        (found, -ACCURACY_MARGIN),
                        (found.reversed(), -ACCURACY_MARGIN),
                    )
                ]
            )
        )
        return tuple(
            NetworkComparison(
                *(one[2], one[3], tuple(file.model.seed for file in first)),
                *(two[2], two[3], tuple(file.model.seed for file in second)),
                *one[:2],
                found.interval(),
                networks.compare(accuracies[one], accuracies[two]).interval(),
                *(next(settled), next(settled), next(settled)),
            )
            for ((one, first), (two, second)), found in zip(pairs, estimates, strict=True)
        )


def _probabilities(file: FileScores) -> Probabilities:
    return file.scores


def _decisions(file: FileScores) -> npt.NDArray[np.int64]:
    return metrics.decide(_probabilities(file), file.model.threshold)


def _predictions(file: FileScores) -> Predictions:
    return Predictions(_probabilities(file), file.model.threshold)


def _defined(intervals: Mapping[str, Interval]) -> dict[str, Interval | None]:
    return {name: None if math.isnan(interval.value) else interval for name, interval in intervals.items()}


def _order(file: FileScores) -> tuple[str, str, str, str, int, str]:
    model = file.model
    return model.backbone, model.recipe, model.format, model.engine, model.seed, model.sha256


def _of_backbone(file: FileScores) -> tuple[str, tuple[str, int, str]]:
    """A file's backbone, and the properties that two compared files must share."""
    model = file.model
    return model.backbone, (model.format, model.seed, model.engine)


def _side(model: ScoredModel) -> Side:
    return Side(model.file, model.sha256, model.backbone, model.recipe)


def _group_models(models: Iterable[ModelMetrics], notes: list[str]) -> Iterator[SeedGroup]:
    groups: dict[tuple[str, str, str, str], list[ModelMetrics]] = defaultdict(list)
    for each in models:
        model = each.model
        groups[model.backbone, model.recipe, model.format, model.engine].append(each)
    for key, group in groups.items():
        seeds = tuple(each.model.seed for each in group)
        if len(set(seeds)) < len(seeds):
            notes.append(f"No mean over seeds for {', '.join(key)}: several of its files have the same seed.")
        elif len(seeds) > 1:
            yield SeedGroup(*key, seeds, _over_seeds([_values(each) for each in group]))


def _values(measured: ModelMetrics) -> dict[str, float]:
    values = {name: interval.value for name, interval in measured.metrics.items() if interval}
    values["ece"] = measured.calibration.ece
    by_kind = measured.sensitivity_by_kind
    return values | {f"sensitivity_{kind}": part.sensitivity.value for kind, part in by_kind.items()}


def _group_comparisons(comparisons: Iterable[ModelComparison]) -> Iterator[SeedComparison]:
    groups: dict[tuple[str, str, str, str, str, str], list[ModelComparison]] = defaultdict(list)
    for each in comparisons:
        sides = each.first.backbone, each.first.recipe, each.second.backbone, each.second.recipe
        groups[*sides, each.format, each.engine].append(each)
    for key, group in groups.items():
        seeds = tuple(each.seed for each in group)
        if len(seeds) > 1 and len(set(seeds)) == len(seeds):
            differences = [
                {name: interval.value for name, interval in each.differences.items() if interval} for each in group
            ]
            yield SeedComparison(*key, seeds, _over_seeds(differences))


def _over_seeds(runs: list[dict[str, float]]) -> dict[str, OverSeeds]:
    """The metrics that are defined in every run."""
    return {name: over_seeds([run[name] for run in runs]) for name in runs[0] if all(name in run for run in runs)}


def _describe(scores: EvaluationScores) -> Data:
    data = scores.data
    labels = Counter(image.label for image in data.images)
    positive = data.task.positive_index
    kinds = Counter(image.kind for image in data.images if image.label == positive and image.kind)
    # Of two classes the positive one is last.
    order = sorted(range(len(data.class_names)), key=lambda label: label == positive)
    return Data(
        title=data.title,
        real=data.real,
        licence=data.licence,
        split=data.split,
        fingerprint=data.fingerprint,
        images=len(data.images),
        classes={data.class_names[label]: labels[label] for label in order},
        kinds=dict(sorted(kinds.items())),
        left_out=len(data.left_out),
        patients=len({image.patient for image in data.images}) if data.has_patients else None,
        external=data.external,
    )


def _majority(scores: EvaluationScores) -> Majority:
    labels = Counter(image.label for image in scores.data.images)
    commoner = max(range(len(scores.data.class_names)), key=labels.__getitem__)
    return Majority(scores.data.class_names[commoner], metrics.wilson(labels[commoner], len(scores.data.images)))
