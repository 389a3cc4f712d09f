"""Step before an export of a Keras model that was trained elsewhere: a run folder, as training would have left it.

The scaling of the pixels becomes part of the network. Whether it is the right one is measured on validation images.
Temperature and threshold are chosen on them as training does.
"""

from __future__ import annotations

import contextlib
import functools
import math
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pneumo_edge import backbones, keras_file, runs, scaling
from pneumo_edge._util import files, jobs, outputs, records
from pneumo_edge._util.progress import bar
from pneumo_edge.converters import features, isolated
from pneumo_edge.data.classes import option
from pneumo_edge.data.datasource import DataSource
from pneumo_edge.data.run_records import data_spec, save_validation
from pneumo_edge.data.sources import Source
from pneumo_edge.data.tensors import Dataset, prepare
from pneumo_edge.errors import BusyError, ConversionError, GateError
from pneumo_edge.evaluation.comparison import mcnemar
from pneumo_edge.evaluation.metrics import auc
from pneumo_edge.evaluation.operating_point import (
    ThresholdRule,
    choose_threshold,
    fit_temperature,
)
from pneumo_edge.keras_file import Output
from pneumo_edge.runs import Run
from pneumo_edge.scaling import SCALINGS, Scaling
from pneumo_edge.spec import OWN_MODEL, DecisionSpec, TrainingSpec

_SETTINGS_NAME, _LOG_NAME = "own-model.json", "converter.log"
#: Raise it when the same file and settings would give another run.
_VERSION = 1
#: Height and width of the images for a network that takes any.
_SIDE = 224
#: Images that scalings are measured on, at most.
_IMAGES = 400
_BATCH = 64
#: Another scaling refutes the one given where so much more is right with it, and that is not chance.
_LEAST_GAIN, _MOST_P = 0.02, 0.01
#: Orders of so many classes are corrected for in full; 400 images refute none of more.
_MOST_ORDERED = 50
_DIGITS = 16


class _Ask(Protocol):
    """Gives a model's probabilities of images, (images, classes), with a scaling of their pixels and a temperature."""

    def __call__(
        self, trial: Scaling, pixels: npt.NDArray[np.uint8], temperature: float = 1.0
    ) -> npt.NDArray[np.float32]: ...


@dataclass(frozen=True)
class OwnModel:
    """A Keras model to export.

    Attributes:
        file: The ``.keras`` or ``.h5`` file, or the folder of a SavedModel.
        input_range: What pixels were scaled to before they went into it, as :func:`pneumo_edge.scaling.parse` reads it;
            None if the user did not say.
        output: What its last layer gives; None to find out.
        image_size: Height and width of the images, for a network that takes any; None for the usual.
        accept: Whether the scaling stands even if another one is right more often.
    """

    file: Path
    input_range: str | None
    output: Output | None = None
    image_size: int | None = None
    accept: bool = False

    @property
    def name(self) -> str:
        """Name of the network in files and results."""
        return backbones.own_name(self.file.stem)

    def folder(self, out: Path) -> Path:
        """Folder of its run, beside the model files."""
        return out / f"{self.name}-run"


@dataclass(frozen=True)
class _Described:
    """What was found in the file."""

    size: tuple[int, int] | None
    output: Output
    classes: int
    has_heatmap: bool
    has_check: bool


@dataclass(frozen=True)
class _Settings:
    """What a run follows from."""

    file_sha256: str
    input_range: str
    output: str | None
    image_size: int | None
    fingerprint: str
    class_names: tuple[str, ...]
    version: int = _VERSION


def make_run(
    model: OwnModel, source: Source, data: DataSource, out: Path, cache: Path, tell: Callable[[str], None]
) -> Path:
    """Make a run of a Keras model, unless it is there already.

    Args:
        model: The model.
        source: Labelled images, in the order of the model's outputs.
        data: Where they were read from, for the record.
        out: Folder for the model files.
        cache: Folder with decoded data sets.
        tell: Called with notes and warnings, a line each.

    Returns:
        The run's folder, for :func:`pneumo_edge.converters.export.export`.

    Raises:
        ArgumentError: The input range cannot be read.
        BusyError: Another process makes or exports the same run.
        ConversionError: The file is no Keras model that can be converted, does not fit the data, or gives NaN.
        GateError: Another scaling is right more often, or none was given.
    """
    given = scaling.parse(model.input_range) if model.input_range is not None else None
    folder = model.folder(out)
    with (
        _without_remains(folder),
        jobs.alone(folder / runs.RECORD_NAME, "export", jobs.SAME_COMMAND),
        isolated.child_process(folder / _LOG_NAME) as child,
    ):
        described = child.call(_describe, model.file, model.output)
        size = described.size or (model.image_size or _SIDE,) * 2
        dataset = prepare(source, cache, *size)
        _check_fit(model, described, size, dataset)
        _tell_absent(model, described, tell)
        settings = _Settings(
            keras_file.sha256(model.file),
            model.input_range or "",
            model.output,
            model.image_size,
            dataset.manifest.fingerprint,
            dataset.manifest.task.class_names,
        )
        if _is_made(folder, settings):
            return folder

        def ask(trial: Scaling, pixels: npt.NDArray[np.uint8], temperature: float = 1.0) -> npt.NDArray[np.float32]:
            told = child.call(_ask, model.file, model.output, size, trial, pixels, temperature)
            if trial == given:
                check_finite(model.file, told)
            return told

        check_scaling(model, given, dataset, ask, tell)
        if given is not None:
            # Only now: a refusal leaves an earlier run as it was.
            _tell_replaced(model, folder, settings, tell)
            (folder / runs.RECORD_NAME).unlink(missing_ok=True)
            _write(model, given, dataset, ask, data, folder, size, child)
            files.write_text(folder / _SETTINGS_NAME, records.dumps(settings))
    return folder


@contextlib.contextmanager
def _without_remains(folder: Path) -> Iterator[None]:
    """Leave nothing behind if no run came of it; the converter's log stays if the error names it."""
    new = outputs.absent(folder)
    try:
        yield
    except BusyError:
        # The log is the other process's.
        raise
    except BaseException as error:
        log = folder / _LOG_NAME
        if str(log) not in str(error) and not (folder / runs.RECORD_NAME).exists():
            log.unlink(missing_ok=True)
            outputs.remove_empty(new)
        raise


@dataclass(frozen=True)
class Measured:
    """A model whose scaling is measured: its file, what progress calls it, and what the user says of its scaling."""

    file: Path
    name: str
    input_range: str | None
    accept: bool


def check_scaling(
    model: OwnModel | Measured,
    given: Scaling | None,
    dataset: Dataset,
    ask: _Ask,
    tell: Callable[[str], None],
) -> None:
    """Measure on labelled images how often the model is right, with the scaling given and with the usual ones.

    Args:
        model: The model.
        given: Its scaling.
        dataset: The data.
        ask: Gives the model's probabilities.
        tell: Called with notes and warnings, a line each.

    Raises:
        ConversionError: None was given, and the model gives NaN with all.
        GateError: None was given, or another one is right more often and the user did not accept that.
    """
    chosen = _choose(dataset)
    pixels, labels = dataset.rgb(chosen), dataset.labels(chosen)
    trials = dict(SCALINGS)
    if given is not None:
        trials = {name: each for name, each in trials.items() if each != given}
    answers: dict[str, npt.NDArray[np.float32]] = {}
    with bar(f"Exporting {model.name}: measuring scalings of pixels", len(trials) + 1) as advance:
        own = ask(given, pixels) if given is not None else None
        advance(1, "")
        for name, each in trials.items():
            answers[name] = ask(each, pixels)
            advance(1, name)
    if own is None and not any(np.isfinite(each).all() for each in answers.values()):
        check_finite(model.file, next(iter(answers.values())))
    right = {name: _is_right(each, labels) for name, each in answers.items()}
    best = max(right, key=lambda name: float(right[name].mean()))
    count = f"{len(labels)} images"
    classes = dataset.manifest.task.class_names
    scalings = [_Trial(name, None, each) for name, each in right.items()]
    if given is None or own is None or model.input_range is None:
        shares = ", ".join(f"{trial.input_range} {trial.share:.0%}" for trial in scalings)
        orders = [order for name, each in answers.items() if (order := _other_order(name, each, labels))]
        most = max(scalings, key=lambda trial: trial.share)
        advised = _choose_trial([orders], most.right) or _name_alike(most, scalings)
        raise GateError(
            f"{model.file} needs --input-range: what pixels were scaled to before they went into it. On {count} it is "
            f"right on {shares}",
            f"one of {', '.join(SCALINGS)}, LOW..HIGH, or mean=M;std=S",
            f"Look it up where the model was trained, and give it; {advised.advice(classes)}",
        )
    first = _is_right(own, labels)
    share = float(first.mean())
    gain = float(right[best].mean()) - share
    own_order = _other_order(model.input_range, own, labels)
    both = [order for name, each in answers.items() if (order := _other_order(name, each, labels))]
    found = _choose_trial([[*scalings, *([own_order] if own_order else [])], both], first)
    said, expected, remedy = _refusal(model, found, share, count, classes) if found else ("", "", "")
    if found and not found.places and len(classes) == 2 and _orders_as_well(own, answers[found.input_range], labels):
        said += f"; but with {model.input_range} its answers order the images as well"
        remedy = (
            f"Look it up where the model was trained. If it was {model.input_range}, give --accept-input-range: "
            f"only its threshold is not 0.5, and another is chosen. If not, give --input-range {found.input_range}"
        )
    if said and not model.accept:
        raise GateError(said, expected, remedy)
    if said:
        tell(f"warning: {said}; kept, as --accept-input-range says")
    else:
        tell(
            f"{'warning: ' if gain >= _LEAST_GAIN else ''}{model.file}: right on {share:.1%} of {count} with "
            f"{model.input_range}; with {best} {right[best].mean():.1%}"
        )
    majority = np.bincount(labels).max() / len(labels)
    if share <= majority:
        tell(
            f"warning: {model.file} is right no more often than an answer that is always "
            f"{classes[int(np.bincount(labels).argmax())]}, {majority:.1%} of {count}"
            f"{' (at a threshold of 0.5, before one is chosen)' if len(classes) == 2 else ''}"
        )


def _orders_as_well(
    probabilities: npt.NDArray[np.float32], other: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> bool:
    """Whether the answers with a scaling have the AUC of those with another, so that only their threshold differs."""
    one, two = (each[:, 1].astype(np.float64) for each in (probabilities, other))
    return bool(np.isfinite(one).all() and np.isfinite(two).all() and auc(labels, one) >= auc(labels, two))


@dataclass(frozen=True)
class _Trial:
    """A scaling and an order of a model's outputs that were tried.

    Attributes:
        input_range: The scaling, by its name.
        places: The place of each output's class; None for the order that was given.
        right: Whether each image is right with them, shape (images,).
        alike: Other scalings that are not separable from it.
    """

    input_range: str
    places: tuple[int, ...] | None
    right: npt.NDArray[np.bool_]
    alike: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        return float(self.right.mean())

    @property
    def tried(self) -> int:
        """How many orders it is the best of."""
        return 1 if self.places is None else max(1, math.factorial(min(len(self.places), _MOST_ORDERED)) - 1)

    def names(self, classes: Sequence[str]) -> list[str]:
        return [classes[place] for place in self.places or ()]

    @property
    def remark(self) -> str:
        """What else may be right, in brackets."""
        return f" (about as many with {', '.join(self.alike)}: look it up)" if self.alike else ""

    def advice(self, classes: Sequence[str]) -> str:
        """What to give where no scaling was given."""
        order = f" and {option(self.names(classes))}" if self.places else ""
        return f"most images ({self.share:.0%}) are right with {self.input_range}{self.remark}{order}"


def _choose_trial(levels: Sequence[Sequence[_Trial]], first: npt.NDArray[np.bool_]) -> _Trial | None:
    """Go to the best of each level in turn, if more images are right than with the one before, and not by chance.

    So what changes more has to be better than what changes less. None if ``first`` stands.
    """
    chosen = None
    for trials in levels:
        better = [trial for trial in trials if _is_better(trial.right, first, trial.tried)]
        if better:
            chosen = _name_alike(max(better, key=lambda trial: trial.share), better)
            first = chosen.right
    return chosen


def _name_alike(best: _Trial, trials: Sequence[_Trial]) -> _Trial:
    """Name the other scalings that the best one is not better than: images do not tell which of them is right."""
    alike = [
        trial.input_range
        for trial in trials
        if trial is not best and trial.places == best.places and not _is_better(best.right, trial.right)
    ]
    return replace(best, alike=tuple(alike))


def _refusal(
    model: OwnModel | Measured, found: _Trial, share: float, count: str, classes: Sequence[str]
) -> tuple[str, str, str]:
    """What was given, expected and what to do, where something else is right more often than what was given."""
    order = ", ".join(found.names(classes))
    scaled, given = f"--input-range {found.input_range}", str(model.input_range)
    if found.input_range == given:
        return (
            f"{model.file} is right {share:.0%} of the time, and with its classes in the order {order} "
            f"{found.share:.0%}, on {count}",
            f"outputs in the order {', '.join(classes)}"
            f"{'; a sigmoid gives the probability of the second class' if len(classes) == 2 else ''}",
            f"Give {option(found.names(classes))}, or --accept-input-range to keep the order",
        )
    if found.places is None:
        return (
            f"with {scaled} {model.file} would be right {found.share:.0%} of the time, with {given}, as given, "
            f"{share:.0%}, on {count}",
            "the scaling that it was trained with",
            f"Give {scaled}{found.remark}, or --accept-input-range to keep {given}",
        )
    return (
        f"with {scaled} and its classes in the order {order} {model.file} would be right {found.share:.0%} of the "
        f"time, with {given} and the order {', '.join(classes)} {share:.0%}, on {count}",
        "the scaling that it was trained with, and the classes in the order of its outputs",
        f"Give {scaled}{found.remark} and {option(found.names(classes))}, or --accept-input-range to keep {given} and "
        "the order",
    )


def _other_order(
    input_range: str, probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> _Trial | None:
    """The order in which each output stands for the class that most of its images have, if it is not the one given."""
    count = probabilities.shape[1]
    answers = probabilities.argmax(axis=1)
    table = np.zeros((count, count), dtype=np.int64)
    np.add.at(table, (answers, labels), 1)
    places = table.argmax(axis=1)
    if len(np.unique(places)) < count or (places == np.arange(count)).all():
        return None
    is_finite = np.isfinite(probabilities).all(axis=1)
    return _Trial(input_range, tuple(places.tolist()), np.asarray((places[answers] == labels) & is_finite))


def _choose(dataset: Dataset) -> npt.NDArray[np.intp]:
    """Images to measure scalings on: of validation and, because a few of them would show little, of training."""
    val, train = dataset.indices("val"), dataset.indices("train")
    return np.sort(np.concatenate([_spread(val, _IMAGES), _spread(train, _IMAGES - len(val))]))


def _spread(indices: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.intp]:
    """At most ``count`` of them, evenly spread; they lie in the order of their classes."""
    return np.asarray(indices[np.linspace(0, len(indices) - 1, max(0, min(len(indices), count))).astype(int)])


def _is_better(other: npt.NDArray[np.bool_], first: npt.NDArray[np.bool_], tried: int = 1) -> bool:
    """Whether so many more images are right that it is hardly chance, where the other is the best of so many."""
    return float(other.mean() - first.mean()) >= _LEAST_GAIN and mcnemar(other, first).p <= _MOST_P / tried


def _is_right(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    # Another scaling may give NaN, which argmax takes for the largest.
    return np.asarray((probabilities.argmax(axis=1) == labels) & np.isfinite(probabilities).all(axis=1))


def check_finite(file: Path, scores: npt.NDArray[np.floating[Any]]) -> None:
    """Refuse a model that gives NaN or infinity.

    Args:
        file: The model.
        scores: What it gives for some images, (images, scores).

    Raises:
        ConversionError: It does.
    """
    count = int((~np.isfinite(scores)).any(axis=1).sum())
    if count:
        raise ConversionError(
            f"{file} gives a score that is not a finite number for {count} of {len(scores)} images",
            "a finite one for each image and class",
            "Check its weights and --input-range",
        )


def _check_fit(model: OwnModel, described: _Described, size: tuple[int, int], dataset: Dataset) -> None:
    if model.image_size is not None and size != (model.image_size,) * 2:
        raise ConversionError(
            f"--image-size is {model.image_size}", f"{size[0]} x {size[1]}, which {model.file} takes", "Leave it out"
        )
    names = dataset.manifest.task.class_names
    if described.classes != len(names):
        raise ConversionError(
            f"{model.file} tells {described.classes} classes apart and the data has {len(names)}: {', '.join(names)}",
            "as many classes, in the order of the model's outputs",
            _advise_classes(described.classes, dataset),
        )


def _advise_classes(count: int, dataset: Dataset) -> str:
    """How to give as many classes, where the folders of the data set are as many: two of them may have been taken."""
    manifest = dataset.manifest
    unused = [name for name in manifest.passed_over if name.endswith("/")]
    folders = {PurePosixPath(name).name for name in unused} | {
        PurePosixPath(entry.name).parent.name for entry in manifest.entries
    }
    if len(folders) == count and unused:
        return f"Give {option(sorted(folders))}, in the order of the model's outputs"
    return "Give data with the model's classes"


def _tell_absent(model: OwnModel, described: _Described, tell: Callable[[str], None]) -> None:
    if not described.has_heatmap:
        tell(
            f"note: the files of {model.file} have no heatmap: that takes global average pooling followed by one dense "
            "layer"
        )
    if not described.has_check:
        tell(f"note: the files of {model.file} have no input check: no layer gives a feature map of the right size")


def _is_made(folder: Path, settings: _Settings) -> bool:
    return _settings_of(folder) == settings


def _settings_of(folder: Path) -> _Settings | None:
    """What the run in a folder follows from; None if there is no finished one."""
    try:
        found = records.loads(_Settings, (folder / _SETTINGS_NAME).read_bytes())
        runs.load(folder)
    except (OSError, records.RecordError, ConversionError):
        return None
    return found


def _tell_replaced(model: OwnModel, folder: Path, settings: _Settings, tell: Callable[[str], None]) -> None:
    """Say that the files of another model of the same name are replaced: nothing else shows it."""
    earlier = _settings_of(folder)
    if earlier is not None and earlier.file_sha256 != settings.file_sha256:
        tell(
            f"note: {folder.parent} has files of another model named {model.name} (sha256 "
            f"{earlier.file_sha256[:_DIGITS]}); those of {model.file} replace them. Give another --out to keep both"
        )


def _write(
    model: OwnModel,
    given: Scaling,
    dataset: Dataset,
    ask: _Ask,
    data: DataSource,
    folder: Path,
    size: tuple[int, int],
    child: isolated.Child,
) -> None:
    """Choose temperature and threshold on validation, and write the run."""
    indices = dataset.indices("val")
    manifest, task = dataset.manifest, dataset.manifest.task
    if not len(indices):
        raise ConversionError("the data has no validation images", "some of each class", "Give more data")
    labels = task.targets(dataset.labels(indices))
    scores = task.scores(ask(given, dataset.rgb(indices)))
    temperature = fit_temperature(labels, scores)
    # Asked again: of logits that a float32 probability no longer shows, rescaling it knows nothing.
    scores = task.scores(ask(given, dataset.rgb(indices), temperature))
    rule = ThresholdRule.ARGMAX if task.positive_class is None else ThresholdRule.YOUDEN
    threshold = choose_threshold(rule, labels, scores)
    manifest.save(folder / runs.MANIFEST_NAME)
    save_validation(dataset, indices, {"probability": scores}, folder / runs.VALIDATION_NAME)
    with files.atomic(folder / runs.MODEL_NAME) as temporary:
        child.call(_save, model.file, model.output, size, given, temperature, temporary)
    Run(
        backbone=model.name,
        class_names=task.class_names,
        height=size[0],
        width=size[1],
        decision=DecisionSpec(task.positive_class, threshold, rule, f"validation, {len(labels)} images"),
        temperature=temperature,
        data=data_spec(manifest),
        training=TrainingSpec(
            recipe=OWN_MODEL,
            seed=0,
            initial_weights=f"those of {model.file.name} (sha256 {keras_file.sha256(model.file)[:_DIGITS]}), trained "
            f"elsewhere, pixels scaled to {model.input_range}",
            epochs=0,
            validation=runs.validation_metrics(labels, scores, threshold),
        ),
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in ("pneumo-edge", "keras", "numpy", "pillow")},
        },
        notice="Research software; not a medical device.",
        data_path=str(Path(data.path).resolve()),
        data_paths=dict(dataset.paths),
        model_sha256=files.sha256(folder / runs.MODEL_NAME),
    ).save(folder)


def _describe(file: Path, output: Output | None) -> _Described:
    """In the child process."""
    network = keras_file.open_network(file, output)
    model = network.assemble(Scaling(), (_SIDE, _SIDE))
    return _Described(network.size, network.output, network.classes, network.pools, bool(features.expose(model)[1]))


def _ask(
    file: Path,
    output: Output | None,
    size: tuple[int, int],
    trial: Scaling,
    pixels: npt.NDArray[np.uint8],
    temperature: float,
) -> npt.NDArray[np.float32]:
    """In the child process: probabilities of images, (images, classes)."""
    model = _assemble(file, output, size, temperature)
    starts = range(0, len(pixels), _BATCH)
    return np.concatenate([model.predict_on_batch(trial.apply(pixels[start : start + _BATCH])) for start in starts])


# TensorFlow traces a network when it first runs; a network for each scaling would be traced for each.
@functools.lru_cache(maxsize=1)
def _assemble(file: Path, output: Output | None, size: tuple[int, int], temperature: float) -> Any:
    return keras_file.open_network(file, output).assemble(Scaling(), size, temperature)


def _save(
    file: Path, output: Output | None, size: tuple[int, int], given: Scaling, temperature: float, target: Path
) -> None:
    """In the child process: write the network with its scaling and temperature inside."""
    keras_file.open_network(file, output).assemble(given, size, temperature).save(target)
