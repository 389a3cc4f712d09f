"""Audits a data set: its images, its problems, and its shortcuts."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from statistics import median

import numpy as np
from PIL import Image

from pneumo_edge._util import extras
from pneumo_edge.data import clusters, marks, places, shortcuts
from pneumo_edge.data.advice import advise
from pneumo_edge.data.clusters import Cluster
from pneumo_edge.data.likeness import Bits, find_alike, perceptual_hash
from pneumo_edge.data.marks import Mark, View, Views
from pneumo_edge.data.places import Blocks, Place
from pneumo_edge.data.reading import read_each
from pneumo_edge.data.shortcuts import Appearance, Measures
from pneumo_edge.data.sources import SPLITS, Sample, Source, SplitName, describe_counts
from pneumo_edge.data.splits import Manifest, make_manifest
from pneumo_edge.errors import DataError, ImageError
from pneumo_edge.evaluation import metrics
from pneumo_edge.evaluation.metrics import Interval
from pneumo_edge.imaging import images
from pneumo_edge.task import Task

#: Images whose height is looked up before all are read.
_MOST_OPENED = 500


@dataclass(frozen=True)
class WrongEnding:
    """A usable file whose type differs from the ending of its name."""

    name: str
    content: str


@dataclass(frozen=True)
class Alike:
    """Images that show the same picture.

    ``splits`` and ``classes`` are those of the images, each named once. Splits are those that training uses, after
    validation is drawn; for images that are left out, those of the source. ``distance`` is the number of different bits
    of their perceptual hashes, 0 to 256, and 0 if their bytes are equal.
    """

    names: tuple[str, ...]
    splits: tuple[str, ...]
    classes: tuple[str, ...]
    distance: int


@dataclass(frozen=True)
class SharedPatient:
    """A patient with images in more than one split; ``images`` counts them by split."""

    patient: str
    kind: str
    images: dict[str, int]


@dataclass(frozen=True)
class Patients:
    """Patients, as read from the file names.

    A pneumonia patient is identified by number and kind, because the Kermany data set numbers the patients of its test
    split from 1 again. ``repeated_numbers`` counts the bare numbers in more than one split, which alone is no sign of a
    shared patient.

    Attributes:
        unnamed: Images without a patient in their name; each counts as one patient.
        copies: Those of them that are copies of one another by name; they are all in train or all in validation.
        counts: Patients by split.
        most_images: Images of the patient with the most images.
        shared: Patients with images in more than one split.
        repeated_numbers: Person numbers in more than one split, regardless of kind.
    """

    unnamed: int
    counts: dict[str, int]
    most_images: int
    shared: tuple[SharedPatient, ...]
    repeated_numbers: int
    copies: int = 0


@dataclass(frozen=True)
class Shortcut:
    """How well one simple measure of an image, such as its brightness, separates the classes.

    Attributes:
        measure: One of the measures of :mod:`pneumo_edge.data.shortcuts`.
        pneumonia_is: ``"higher"`` or ``"lower"``, as decided on the training images.
        train_auc: AUC in that direction on the source's training and validation images, at least 0.5.
        test_auc: AUC in that direction on the test images, with the DeLong 95 % interval.
        class_name: The class that it separates from the others: the positive one, or else the one with the largest AUC
            on the training images; "" in files from before there were others than pneumonia.
    """

    measure: str
    pneumonia_is: str
    train_auc: float
    test_auc: Interval
    class_name: str = ""


@dataclass(frozen=True)
class Baselines:
    """Baselines that a model has to beat on the test split, none of which uses the content of an image.

    ``majority_accuracy`` is the accuracy of always answering ``majority_class``, the larger class in training.
    """

    majority_class: str
    majority_accuracy: Interval
    shortcuts: tuple[Shortcut, ...]


@dataclass(frozen=True)
class TrainingSplit:
    """The split that training will use: ``counts`` by split and class name, after validation is drawn by ``rule``."""

    rule: str
    fingerprint: str
    counts: dict[str, dict[str, int]]
    left_out: dict[str, str]


@dataclass(frozen=True)
class Audit:
    """The findings on one data set.

    Attributes:
        source: Title of the data set.
        real: False for phantom images.
        licence: Licence of the images.
        counts: Images found, by the source's own split and class name.
        formats: Images by file format; empty if the source has no files.
        modes: Images by Pillow's name of the colour mode.
        sizes: Images by ``"WIDTHxHEIGHT"`` in pixels, the most frequent first.
        unreadable: Reason by name, for files that are not images, are truncated, or cannot be used.
        wrong_endings: Files whose type differs from their ending.
        exact_duplicates: Groups of images with equal bytes.
        near_duplicates: Pairs of images with different bytes and almost the same perceptual hash.
        patients: None if no patients were found in the names.
        baselines: None if the test split has fewer than two images of a class.
        training_split: None if the data set cannot be trained on; ``training_problem`` has the reason.
        training_problem: "" if the data set can be trained on.
        passed_over: Reason by name, for files and folders that are not used; names of folders end in "/".
        patient_pattern: The user's own pattern for patients in names, or "".
        marks: Burned-in marks that stand on training images of one class only; None in files from before they were
            sought.
        places: How far the pixels at each place of the training images alone tell the classes; None with too few
            patients, and in files from before it was measured.
        clusters: Training images that look alike and are nearly all of one class; None where SciPy is not installed,
            and in files from before they were sought.
        advice: A sentence for each finding: what it may do to a model, and what to do about it.
    """

    source: str
    real: bool
    licence: str
    counts: dict[str, dict[str, int]]
    formats: dict[str, int]
    modes: dict[str, int]
    sizes: dict[str, int]
    unreadable: dict[str, str]
    wrong_endings: tuple[WrongEnding, ...]
    exact_duplicates: tuple[Alike, ...]
    near_duplicates: tuple[Alike, ...]
    patients: Patients | None
    baselines: Baselines | None
    training_split: TrainingSplit | None
    training_problem: str
    passed_over: dict[str, str] = field(default_factory=dict)
    patient_pattern: str = ""
    marks: tuple[Mark, ...] | None = None
    places: tuple[Place, ...] | None = None
    clusters: tuple[Cluster, ...] | None = None
    advice: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Facts:
    """Findings on one image."""

    sha256: str
    format: str
    mode: str
    size: str
    measures: Measures
    appearance: Appearance
    hash_bits: Bits
    blocks: Blocks


def audit(source: Source) -> Audit:
    """Read every image of a data set once, and return the findings.

    Of more than 6,000 images, those beyond are read again to count burned-in marks.
    """
    found: dict[str, _Facts] = {}
    errors: dict[str, str] = {}
    height = _typical_height(source)
    views = Views(min(len(source.samples), marks.MOST_IMAGES))
    for sample, result, view in _read(source, marks.scale_for(height)):
        if isinstance(result, ImageError):
            errors[sample.name] = str(result)
            continue
        found[sample.name] = result
        if view:
            views.add(sample.name, view)
    facts = {sample: found[sample.name] for sample in source.samples if sample.name in found}
    unreadable = {sample.name: errors[sample.name] for sample in source.samples if sample.name in errors}
    manifest, training_problem = _plan(source, facts, unreadable)
    drawn = {entry.name: entry.split for entry in manifest.entries} if manifest else {}
    findings = Audit(
        source=source.title,
        real=source.real,
        licence=source.licence,
        counts=describe_counts(source.samples, source.task.class_names),
        formats=_count(fact.format for fact in facts.values()) if source.has_files else {},
        modes=_count(fact.mode for fact in facts.values()),
        sizes=_count(fact.size for fact in facts.values()),
        unreadable=unreadable,
        wrong_endings=tuple(_wrong_endings(facts)) if source.has_files else (),
        exact_duplicates=tuple(_exact_duplicates(facts, drawn, source.task)),
        near_duplicates=tuple(_near_duplicates(facts, drawn, source.task)),
        patients=_patients(source.samples) if source.has_patients else None,
        baselines=_baselines(facts, source.has_files, source.task),
        training_split=TrainingSplit(manifest.rule, manifest.fingerprint, manifest.counts, manifest.left_out)
        if manifest
        else None,
        training_problem=training_problem,
        passed_over=source.passed_over,
        patient_pattern=source.patient_pattern,
        marks=marks.find_marks(source, list(facts), height, views),
        places=places.probe_places(
            marks.choose(facts), {sample.name: fact.blocks for sample, fact in facts.items()}, source.task
        ),
        clusters=clusters.find_clusters(list(facts), _rendering(list(facts.values()), source.has_files), source.task)
        if extras.is_installed("scipy")
        else None,
    )
    return replace(findings, advice=tuple(advise(findings)))


def _rendering(facts: Sequence[_Facts], has_files: bool) -> dict[str, metrics.Scores]:
    """What images are clustered by: how they were taken and saved. File sizes also depend on what they show."""
    borders = [places.border_of(fact.blocks) for fact in facts]
    columns = {
        **shortcuts.columns([fact.measures for fact in facts], has_files=False),
        **shortcuts.appearance_columns([fact.appearance for fact in facts], has_files),
        "border brightness": np.array([border.mean() for border in borders], np.float64),
        "border contrast": np.array([border.std() for border in borders], np.float64),
        "local contrast": np.array([fact.blocks[1].mean() for fact in facts], np.float64),
    }
    return {name: values for name, values in columns.items() if len(np.unique(values)) > 1}


def _typical_height(source: Source) -> float:
    """Median height in pixels of some images, in the order of a hash."""
    some = sorted(source.samples, key=lambda sample: hashlib.sha256(sample.name.encode()).digest())[:_MOST_OPENED]
    found = [height for _, height in read_each(source, some, _height, "Opening images")]
    heights = [height for height in found if isinstance(height, int)]
    # If none can be opened, none is compared.
    return median(heights) if heights else 1.0


def _height(data: bytes) -> int:
    with images.open_image(data) as header:
        return header.height


def _read(source: Source, scale: float) -> Iterator[tuple[Sample, _Facts | ImageError, View | None]]:
    """Read every image once; those in which marks are sought, and others as long as there is room, with a view."""
    sought = marks.choose(source.samples)
    names = {sample.name for sample in sought}
    others = [sample for sample in source.samples if sample.name not in names]
    room = marks.MOST_IMAGES - len(sought)

    def look_twice(data: bytes) -> tuple[_Facts, View]:
        grey = images.decode(data)
        return _look(data, grey), marks.look(grey, scale)

    for sample, both in read_each(source, [*sought, *others[:room]], look_twice, "Auditing images"):
        yield (sample, both, None) if isinstance(both, ImageError) else (sample, *both)

    def look(data: bytes) -> _Facts:
        return _look(data, images.decode(data))

    for sample, result in read_each(source, others[room:], look, "Auditing further images"):
        yield sample, result, None


def _look(data: bytes, grey: Image.Image) -> _Facts:
    with images.open_image(data) as header:
        return _Facts(
            sha256=hashlib.sha256(data).hexdigest(),
            format=str(header.format),
            mode=header.mode,
            size=f"{header.width}x{header.height}",
            measures=shortcuts.measure(data, grey),
            appearance=shortcuts.look_at(header, grey),
            hash_bits=perceptual_hash(grey),
            blocks=places.blocks(grey),
        )


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _wrong_endings(facts: dict[Sample, _Facts]) -> Iterator[WrongEnding]:
    format_of = {**Image.registered_extensions(), ".dcm": "DICOM", ".dicom": "DICOM"}
    for sample, fact in facts.items():
        # DICOM files can have any name; on a standard medium they have no ending.
        usual = "DICOM" if fact.format == "DICOM" else None
        if format_of.get(PurePosixPath(sample.name).suffix.lower(), usual) != fact.format:
            yield WrongEnding(sample.name, fact.format)


def _exact_duplicates(facts: dict[Sample, _Facts], drawn: Mapping[str, SplitName], task: Task) -> Iterator[Alike]:
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample, fact in facts.items():
        groups[fact.sha256].append(sample)
    return (_alike(group, 0, drawn, task) for group in groups.values() if len(group) > 1)


def _near_duplicates(facts: dict[Sample, _Facts], drawn: Mapping[str, SplitName], task: Task) -> Iterator[Alike]:
    samples = list(facts)
    for first, second, distance in find_alike([fact.hash_bits for fact in facts.values()]):
        pair = samples[first], samples[second]
        if facts[pair[0]].sha256 != facts[pair[1]].sha256:
            yield _alike(pair, distance, drawn, task)


def _alike(group: Sequence[Sample], distance: int, drawn: Mapping[str, SplitName], task: Task) -> Alike:
    splits, labels = {drawn.get(sample.name, sample.split) for sample in group}, {sample.label for sample in group}
    return Alike(
        names=tuple(sample.name for sample in group),
        splits=tuple(split for split in SPLITS if split in splits),
        classes=tuple(task.class_names[label] for label in sorted(labels)),
        distance=distance,
    )


def _patients(samples: Iterable[Sample]) -> Patients:
    samples = list(samples)
    named = [sample for sample in samples if sample.is_patient_known]
    unnamed = [sample for sample in samples if not sample.is_patient_known]
    images_of: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    splits_of: dict[str, set[str]] = defaultdict(set)
    for sample in named:
        images_of[sample.patient, sample.kind][sample.split] += 1
        splits_of[sample.patient].add(sample.split)
    counts = Counter(split for of_split in images_of.values() for split in of_split)
    counts.update(sample.split for sample in unnamed)
    return Patients(
        unnamed=len(unnamed),
        counts={split: counts[split] for split in SPLITS if split in counts},
        most_images=max(of_split.total() for of_split in images_of.values()),
        shared=tuple(
            SharedPatient(patient, kind, dict(of_split))
            for (patient, kind), of_split in sorted(images_of.items())
            if len(of_split) > 1
        ),
        repeated_numbers=sum(len(splits) > 1 for splits in splits_of.values()),
        copies=sum(bool(sample.original) for sample in unnamed),
    )


def _baselines(facts: dict[Sample, _Facts], has_files: bool, task: Task) -> Baselines | None:
    labels = np.array([sample.label for sample in facts], dtype=np.int64)
    tested = np.array([sample.split == "test" for sample in facts], dtype=np.bool_)
    train_counts, test_counts = (
        np.bincount(labels[chosen], minlength=len(task.class_names)) for chosen in (~tested, tested)
    )
    if test_counts.min() < 2 or train_counts.min() < 1:
        return None
    found = []
    columns = {
        **shortcuts.columns([fact.measures for fact in facts.values()], has_files),
        **shortcuts.appearance_columns([fact.appearance for fact in facts.values()], has_files),
    }
    for measure, values in columns.items():
        candidates = []
        for class_name in task.class_names if task.positive_class is None else (task.positive_class,):
            shows = (labels == task.class_names.index(class_name)).astype(np.int64)
            direction = shortcuts.find_direction(shows[~tested], values[~tested])
            scores = shortcuts.as_scores(values, direction)
            train_auc = metrics.auc(shows[~tested], scores[~tested])
            test_auc = metrics.auc_interval(shows[tested], scores[tested])
            candidates.append(Shortcut(measure, direction, train_auc, test_auc, class_name))
        found.append(max(candidates, key=lambda each: each.train_auc))
    majority = int(train_counts.argmax())
    accuracy = metrics.wilson(int(test_counts[majority]), int(test_counts.sum()))
    return Baselines(task.class_names[majority], accuracy, tuple(found))


def _plan(source: Source, facts: dict[Sample, _Facts], unreadable: dict[str, str]) -> tuple[Manifest | None, str]:
    digests = {sample.name: fact.sha256 for sample, fact in facts.items()}
    hashes = {sample.name: fact.hash_bits for sample, fact in facts.items()}
    try:
        return make_manifest(source, digests, unreadable, hashes), ""
    except DataError as error:
        return None, str(error)
