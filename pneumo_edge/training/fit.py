"""Trains a backbone by a recipe: the function behind ``pneumo-edge train``."""

from __future__ import annotations

import hashlib
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pneumo_edge import runs
from pneumo_edge._util import extras, files
from pneumo_edge._util.progress import bar
from pneumo_edge.backbones import SIDE, Backbone
from pneumo_edge.data.run_records import data_spec, save_validation
from pneumo_edge.data.tensors import Dataset
from pneumo_edge.evaluation.metrics import Labels, Scores, auc, tabulate
from pneumo_edge.evaluation.operating_point import ThresholdRule, choose_threshold, fit_temperature, rescale
from pneumo_edge.imaging.images import grey_to_rgb
from pneumo_edge.runs import Run
from pneumo_edge.spec import DecisionSpec, TrainingSpec
from pneumo_edge.task import Task
from pneumo_edge.training import counterfactuals, curves
from pneumo_edge.training import devices as distribution
from pneumo_edge.training.augmentation import augment, resize
from pneumo_edge.training.exchange import Donors, exchange
from pneumo_edge.training.initial_weights import InitialWeights
from pneumo_edge.training.network import FEATURES, LOGITS, at_side, build, freeze
from pneumo_edge.training.phases import Epoch, TrainingImages, fit_phase
from pneumo_edge.training.recipes import Phase, Recipe
from pneumo_edge.training.settings import check_settings
from pneumo_edge.training.shifts import SHIFTS

_CHECKPOINT_NAME = "checkpoint"
_PREDICT_BATCH = 64


@dataclass(frozen=True)
class TrainingSettings:
    """The settings of a run; an interrupted run resumes only with the same settings.

    ``details`` is the recipe for one device; :func:`pneumo_edge.training.devices.scaled` makes it one for several.
    """

    backbone: str
    recipe: str
    seed: int
    weights: str
    fingerprint: str
    details: Recipe
    devices: int = 1


def train(
    backbone: Backbone,
    recipe: Recipe,
    weights: InitialWeights,
    dataset: Dataset,
    data_path: Path,
    folder: Path,
    cache: Path,
    seed: int,
    devices: int = 1,
) -> Run:
    """Train, choose temperature and threshold on validation, and write a finished run to ``folder``.

    The folder gets ``model.keras``, ``run.json``, ``split.json``, ``validation.csv``, ``history.csv`` and
    ``curves.png``.
    An interrupted run resumes from its last finished epoch; its result is bit for bit that of an uninterrupted run. A
    finished run is returned unchanged.

    Args:
        backbone: The backbone.
        recipe: The recipe.
        weights: The initial weights.
        dataset: Manifest and pixels of the backbone's size; its test split is not used.
        data_path: Path of the data, for the record.
        folder: The run's folder.
        cache: Folder for features, shared by runs with the same backbone and data, and for the marks of the data.
        seed: Seed of the initialization and of the order of images.
        devices: Devices that fit the whole network together, with a recipe that does; the head is fitted on one.

    Raises:
        TrainingError: The folder contains a run with other settings, the weights do not fit, or there are not so many
            devices.
    """
    settings = TrainingSettings(
        backbone.name, recipe.name, seed, weights.description, dataset.manifest.fingerprint, recipe, devices
    )
    check_settings(folder, settings)
    if (folder / runs.RECORD_NAME).exists():
        run = runs.load(folder)
        _tidy(folder)
        return run
    keras = extras.need("keras", "train")
    # Before anything else starts TensorFlow's devices.
    strategy = distribution.strategy(devices) if devices > 1 else None
    keras.utils.set_random_seed(seed)
    train_indices = dataset.indices("train")
    classes = len(dataset.manifest.task.class_names)
    model = build(backbone, weights, recipe.dropout, dataset.rgb(train_indices[:256]), classes)

    donors = None
    if recipe.check_counterfactuals or any(phase.exchange for phase in recipe.fine_tune):
        donors = Donors.of(dataset, cache)
    rows = _fit_head(model, recipe, dataset, cache / "features", folder / _CHECKPOINT_NAME / "head", seed)
    for number in range(len(recipe.fine_tune)):
        rows += _fine_tune(model, backbone, recipe, number, dataset, donors, folder / _CHECKPOINT_NAME, seed, strategy)

    run = _finish(model, recipe, settings, dataset, donors, data_path, len(rows), folder)
    dataset.manifest.save(folder / runs.MANIFEST_NAME)
    curves.save(rows, folder)
    with files.atomic(folder / runs.MODEL_NAME) as temporary:
        model.save(temporary)
    run = replace(run, model_sha256=files.sha256(folder / runs.MODEL_NAME))
    run.save(folder)
    _tidy(folder)
    return run


def _tidy(folder: Path) -> None:
    """Remove the checkpoint of a finished run."""
    shutil.rmtree(folder / _CHECKPOINT_NAME, ignore_errors=True)


def _fit_head(model: Any, recipe: Recipe, dataset: Dataset, cache: Path, folder: Path, seed: int) -> tuple[Epoch, ...]:
    """Fit only the dense layer, on features of the frozen backbone that are computed once."""
    keras = extras.need("keras", "train")
    train_indices, val_indices = dataset.indices("train"), dataset.indices("val")
    layer = model.get_layer(FEATURES)
    extractor = keras.Model(model.input, layer.output)
    indices = np.concatenate([train_indices, val_indices])
    table = np.zeros((len(dataset.grey), layer.output.shape[-1]), dtype=np.float32)
    for chosen, part in _features(extractor, dataset, indices, cache / _features_key(extractor, dataset, indices)):
        table[chosen] = part

    features = keras.Input(table.shape[1:])
    task = dataset.manifest.task
    logits = keras.layers.Dense(len(task.class_names), name=LOGITS)(keras.layers.Dropout(recipe.dropout)(features))
    head = keras.Model(features, keras.layers.Softmax()(logits), name="head")
    rows = fit_phase(
        "head",
        head,
        recipe.head,
        TrainingImages(train_indices, dataset.labels(train_indices), lambda chosen, _: table[chosen]),
        lambda: task.scores(head.predict(table[val_indices], batch_size=_PREDICT_BATCH, verbose=0)),
        task.targets(dataset.labels(val_indices)),
        folder,
        seed,
    )
    model.get_layer(LOGITS).set_weights(head.get_layer(LOGITS).get_weights())
    return rows


def _features(
    extractor: Any, dataset: Dataset, indices: npt.NDArray[np.intp], cache: Path
) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]]:
    """Compute features of images, part by part. Finished parts are cached, so an interrupted run resumes.

    Yields:
        Indices of some images, and their features of shape (images, features).
    """
    starts = range(0, len(indices), 8 * _PREDICT_BATCH)
    with bar("Training: features of the frozen backbone", len(indices)) as advance:
        for start in starts:
            chosen = indices[start : start + 8 * _PREDICT_BATCH]
            path = cache / f"{start:06d}.npy"
            if not path.exists():
                with files.atomic(path) as temporary:
                    np.save(temporary, _predict(extractor, dataset.grey[chosen], lambda n: advance(n, "")))
            else:
                advance(len(chosen), "")
            yield chosen, np.load(path)


def _fine_tune(
    model: Any,
    backbone: Backbone,
    recipe: Recipe,
    number: int,
    dataset: Dataset,
    donors: Donors | None,
    folder: Path,
    seed: int,
    strategy: Any,
) -> tuple[Epoch, ...]:
    """Fit the whole network for one phase, at the phase's image size, and set the weights that the phase keeps.

    With a ``tf.distribute`` strategy a copy of the network on all of its devices is fitted; the network itself, on one
    device, has the copy's weights where it is validated.
    """
    phase, name = recipe.fine_tune[number], f"fine-tune-{number + 1}"
    side = _side(phase, backbone.side)
    validated = model if side == backbone.side else at_side(model, backbone, recipe.dropout, side)
    val_indices = dataset.indices("val")
    if strategy is None:
        fitted, to_fit = validated, trainer(validated, side)
    else:
        phase = distribution.scaled(phase, strategy.num_replicas_in_sync)
        with strategy.scope():
            fitted = at_side(validated, backbone, recipe.dropout, side)
            to_fit = trainer(fitted, side)

    def validate() -> Scores:
        if fitted is not validated:
            validated.set_weights(fitted.get_weights())
        return _scores(validated, resize(dataset.grey[val_indices], side), dataset.manifest.task)

    rows = fit_phase(
        name,
        to_fit,
        phase,
        training_images(dataset, phase, donors),
        validate,
        dataset.manifest.task.targets(dataset.labels(val_indices)),
        folder / name,
        seed,
    )
    if fitted is not model:
        model.set_weights(fitted.get_weights())
    return rows


def _side(phase: Phase, side: int) -> int:
    """Height and width of a phase's images, for a network of a size."""
    return phase.side * side // SIDE


def trainer(model: Any, side: int) -> Any:
    """Make the network to fit: from grey images (batch, side, side, 1) of 0 to 255 to the classifier's probabilities.

    :func:`pneumo_edge.training.network.freeze` decides which layers are trained.
    """
    keras = extras.need("keras", "train")
    freeze(model)
    grey = keras.Input((side, side, 1))
    return keras.Model(grey, model(keras.layers.Concatenate()([grey, grey, grey])))


def training_images(dataset: Dataset, phase: Phase, donors: Donors | None = None) -> TrainingImages:
    """Return the training split for a phase: exchanged with donors, augmented, then resized to the phase's side."""

    def read(chosen: npt.NDArray[np.intp], rng: np.random.Generator) -> npt.NDArray[np.float32]:
        pixels = dataset.grey[chosen]
        if phase.exchange and donors:
            pixels = exchange(pixels, chosen, donors, phase.exchange, rng)
        if phase.augmentation:
            pixels = augment(pixels, phase.augmentation, rng)
        return resize(pixels, _side(phase, pixels.shape[1]))[..., np.newaxis].astype(np.float32)

    indices = dataset.indices("train")
    return TrainingImages(indices, dataset.labels(indices), read)


def _scores(model: Any, grey: npt.NDArray[np.uint8], task: Task) -> Scores:
    """:meth:`~pneumo_edge.task.Task.scores` of grey images of shape (images, side, side)."""
    return task.scores(_predict(model, grey))


def _finish(
    model: Any,
    recipe: Recipe,
    settings: TrainingSettings,
    dataset: Dataset,
    donors: Donors | None,
    data_path: Path,
    epochs: int,
    folder: Path,
) -> Run:
    """Choose temperature and threshold on validation, and fold the temperature into the last layer."""
    val_indices = dataset.indices("val")
    manifest, task = dataset.manifest, dataset.manifest.task
    labels = task.targets(dataset.labels(val_indices))
    scores = _scores(model, dataset.grey[val_indices], task)
    temperature = fit_temperature(labels, scores)
    kernel, bias = model.get_layer(LOGITS).get_weights()
    model.get_layer(LOGITS).set_weights([kernel / temperature, bias / temperature])
    if task.positive_class is None:
        # Asked again: of a class whose probability is 0 in float32, it does not tell what the temperature makes of it.
        scores = _scores(model, dataset.grey[val_indices], task)
    else:
        scores = rescale(scores, temperature)
    rule = ThresholdRule.ARGMAX if task.positive_class is None else recipe.threshold_rule
    threshold = choose_threshold(rule, labels, scores)
    columns = {"probability": scores}
    if recipe.check_shifts:
        columns |= _shifted_scores(model, dataset.grey[val_indices], task)
    if recipe.check_counterfactuals and donors:
        columns |= _counterfactual_scores(model, dataset, donors)
    save_validation(dataset, val_indices, columns, folder / runs.VALIDATION_NAME)
    return Run(
        backbone=settings.backbone,
        class_names=task.class_names,
        height=dataset.grey.shape[1],
        width=dataset.grey.shape[2],
        decision=DecisionSpec(task.positive_class, threshold, rule, f"validation, {len(labels)} images"),
        temperature=temperature,
        data=data_spec(manifest),
        training=TrainingSpec(
            recipe=settings.recipe,
            seed=settings.seed,
            initial_weights=settings.weights,
            epochs=epochs,
            validation={
                **runs.validation_metrics(labels, scores, threshold),
                **shift_metrics(labels, columns, threshold),
                **counterfactuals.counterfactual_metrics(labels, columns, threshold),
            },
        ),
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in ("pneumo-edge", "keras", "numpy", "pillow")},
            extras.need("keras", "train").backend.backend(): _backend_version(),
        },
        notice="Research software; not a medical device.",
        data_path=str(data_path.resolve()),
        data_paths=dict(dataset.paths),
    )


def _shifted_scores(model: Any, grey: npt.NDArray[np.uint8], task: Task) -> dict[str, Scores]:
    with bar("Training: shifted validation", len(SHIFTS) * len(grey)) as advance:
        scores = {}
        for name, shift in SHIFTS.items():
            scores[name] = _scores(model, np.stack([shift(image) for image in grey]), task)
            advance(len(grey), name)
    return scores


def _counterfactual_scores(model: Any, dataset: Dataset, donors: Donors) -> dict[str, Scores]:
    indices, kinds = dataset.indices("val"), counterfactuals.KINDS
    with bar("Training: counterfactual validation", len(kinds) * len(indices)) as advance:
        scores = {}
        for kind in kinds:
            changed = counterfactuals.change(dataset, indices, donors, kind)
            scores[counterfactuals.column(kind)] = _scores(model, changed, dataset.manifest.task)
            advance(len(indices), kind)
    return scores


def shift_metrics(labels: Labels, columns: dict[str, Scores], threshold: float | None) -> dict[str, float]:
    """Return mean AUC and accuracy over the columns that are named like shifts; empty if there are none."""
    shifted = [scores for name, scores in columns.items() if name in SHIFTS]
    if not shifted:
        return {}
    return {
        "shifted_auc": float(np.mean([auc(labels, scores) for scores in shifted])),
        "shifted_accuracy": float(np.mean([tabulate(labels, s, threshold).accuracy.value for s in shifted])),
    }


def _predict(
    model: Any, grey: npt.NDArray[np.uint8], done: Callable[[int], None] = lambda images: None
) -> npt.NDArray[np.float32]:
    """Compute outputs of a Keras model for grey images in batches; ``done`` is called with each batch's size."""
    outputs = []
    for start in range(0, len(grey), _PREDICT_BATCH):
        batch = grey_to_rgb(grey[start : start + _PREDICT_BATCH])
        outputs.append(model.predict_on_batch(batch.astype(np.float32)))
        done(len(batch))
    return np.concatenate(outputs)


def _features_key(extractor: Any, dataset: Dataset, indices: npt.NDArray[np.intp]) -> str:
    """Return a key for cached features: a hash of the network, its weights, and the images in their order."""
    digest = hashlib.sha256(extractor.to_json().encode())
    for array in extractor.get_weights():
        digest.update(array.tobytes())
    for entry in dataset.entries(indices):
        digest.update(entry.sha256.encode())
    return digest.hexdigest()[:16]


def _backend_version() -> str:
    name = extras.need("keras", "train").backend.backend()
    return str(sys.modules[name].__version__)
