"""Runs a recipe of :mod:`pneumo_edge.training.report_recipes`: a run of the student report, or a corrected version.

It is separate from :mod:`pneumo_edge.training.fit` because it does what that never does: it trains with Keras's
``ImageDataGenerator``, validates on the test images, and writes no model.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import math
import platform
import shutil
import time
import typing
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pneumo_edge._util import extras, files, records
from pneumo_edge._util.progress import Advance, bar
from pneumo_edge.backbones import BACKBONES, SIDE
from pneumo_edge.data.tensors import Dataset
from pneumo_edge.errors import TrainingError
from pneumo_edge.evaluation.metrics import Labels, Scores, auc
from pneumo_edge.task import PNEUMONIA
from pneumo_edge.training import checkpoint, network
from pneumo_edge.training.initial_weights import InitialWeights
from pneumo_edge.training.network import batch_norm_layers
from pneumo_edge.training.phases import Epoch, class_weights
from pneumo_edge.training.report_recipes import GeneratorArguments, ReportPhase, Reproduction
from pneumo_edge.training.settings import check_settings

RECORD_NAME = "reproduction.json"
HISTORY_NAME = "history.csv"
#: The task of the report.
_TASK = PNEUMONIA
_CHECKPOINT_NAME = "checkpoint"
#: Training images that are compared in the two modes, in batches of the recipe's size.
_COMPARED_IMAGES = 128

_Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class ReproductionSettings:
    """The settings of a reproduction; None for ``epochs`` or ``images`` means as many as in the report."""

    backbone: str
    recipe: str
    seed: int
    weights: str
    fingerprint: str
    epochs: int | None
    images: int | None


@dataclass(frozen=True)
class ReportEpoch(Epoch):
    """One row of the history.

    ``accuracy`` and ``loss`` are what ``fit`` shows, over augmented images in training mode, the loss
    class-weighted. ``called_pneumonia`` is a share of the validation images, 0 to 1.
    """

    called_pneumonia: float
    learning_rate: float


@dataclass(frozen=True)
class LossAndAccuracy:
    """Mean cross-entropy in nats, None where it is not finite, and accuracy."""

    loss: float | None
    accuracy: float


@dataclass(frozen=True)
class Modes:
    """The same training images, not augmented, after the last epoch: as ``fit`` sees them and as ``predict`` does.

    In training mode batch norm that is trained takes the statistics of the batch; in inference mode it
    takes its moving averages. Dropout, which EfficientNetB0 has in its blocks, is the other difference.
    """

    images: int
    training: LossAndAccuracy
    inference: LossAndAccuracy


@dataclass(frozen=True)
class Reestimated:
    """The validation images, classified by the final weights with batch-norm statistics that are estimated again.

    Attributes:
        layers: Batch-norm layers whose statistics were estimated again: those that were trained.
        images: Training images that they were estimated from.
        accuracy: Accuracy on the validation images, 0 to 1.
        called_pneumonia: Share of the validation images, 0 to 1.
        auc: None where the network gives no number.
    """

    layers: int
    images: int
    accuracy: float
    called_pneumonia: float
    auc: float | None


@dataclass(frozen=True)
class Result:
    """The record of a finished reproduction; its history is beside it.

    ``train_images`` counts by class name. ``validation_images`` counts those of the first whole batches of the
    test split in its order; the report's numbers are shares of them. ``reestimated`` is None where no batch norm was
    trained, and in records of pneumo-edge before it measured this.
    """

    recipe: Reproduction
    seed: int
    epoch_limit: int | None
    epochs: int
    train_images: dict[str, int]
    train_images_sha256: str
    validation_images: dict[str, int]
    test_images: int
    modes: Modes
    data: str
    real: bool
    fingerprint: str
    left_out: dict[str, str]
    initial_weights: str
    versions: dict[str, str]
    reestimated: Reestimated | None = None


def reproduce(
    recipe: Reproduction,
    weights: InitialWeights,
    dataset: Dataset,
    folder: Path,
    seed: int,
    epochs: int | None = None,
    images: int | None = None,
) -> Result:
    """Train as the report did, and write ``history.csv`` and ``reproduction.json`` to ``folder``.

    An interrupted run resumes from its last finished epoch; its result is bit for bit that of an uninterrupted run. A
    finished run is returned unchanged. Weights, optimizer, batch-norm statistics and the generators of dropout are
    restored from a checkpoint, the state of the callbacks from the history.

    Args:
        recipe: The recipe.
        weights: The initial weights.
        dataset: Manifest and pixels of 224 x 224. Its train and val are the report's training images; its
            test images are the report's validation.
        folder: The run's folder.
        seed: Seed of the initialization, the choice and order of images, and the augmentation.
        epochs: Most epochs in each phase; None for the recipe's.
        images: Number of training images, drawn with the same share of each class; None for all.

    Raises:
        TrainingError: The folder contains a run with other settings, the weights do not fit, or there are fewer images.
    """
    settings = ReproductionSettings(
        recipe.backbone, recipe.name, seed, weights.description, dataset.manifest.fingerprint, epochs, images
    )
    check_settings(folder, settings)
    if (folder / RECORD_NAME).exists():
        return load(folder)
    train, validation = _choose(dataset, images, recipe.batch_size, seed)
    keras = extras.need("keras", "train")
    keras.utils.set_random_seed(seed)
    net = build(recipe, weights, dataset.rgb(train[:256]))
    feed = Feed(recipe, dataset, train, validation, seed)
    rows = _fit(net, recipe, feed, folder, epochs)
    train_labels = dataset.labels(train)
    result = Result(
        recipe=recipe,
        seed=seed,
        epoch_limit=epochs,
        epochs=len(rows),
        train_images=_count(train_labels),
        train_images_sha256=_digest(dataset, train),
        validation_images=_count(dataset.labels(validation)),
        test_images=len(dataset.indices("test")),
        modes=_compare_modes(net, feed),
        data=dataset.manifest.source,
        real=dataset.manifest.real,
        fingerprint=dataset.manifest.fingerprint,
        left_out=dataset.manifest.left_out,
        initial_weights=weights.description,
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in ("pneumo-edge", "keras", "tensorflow", "numpy", "scipy")},
        },
        # After the modes are compared: this changes the statistics.
        reestimated=_reestimate(net, feed, len(rows)),
    )
    files.write_text(folder / RECORD_NAME, records.document(result))
    shutil.rmtree(folder / _CHECKPOINT_NAME)
    return result


def load(folder: Path) -> Result:
    """Read the record of a finished reproduction.

    Raises:
        TrainingError: The file is missing or invalid.
    """
    path = folder / RECORD_NAME
    try:
        return records.loads(Result, path.read_bytes())
    except (OSError, records.RecordError) as error:
        raise TrainingError(
            f"{path} cannot be read ({error})", "the record of a reproduction", "Train again"
        ) from error


def read_history(folder: Path) -> tuple[ReportEpoch, ...]:
    """Read ``history.csv``; no rows if there is no file yet.

    Raises:
        TrainingError: The file is invalid.
    """
    path = folder / HISTORY_NAME
    if not path.exists():
        return ()
    kinds = typing.get_type_hints(ReportEpoch)
    try:
        with path.open(newline="") as stream:
            return tuple(
                ReportEpoch(**{name: kind(row[name]) for name, kind in kinds.items()}) for row in csv.DictReader(stream)
            )
    except (KeyError, TypeError, ValueError) as error:
        raise TrainingError(
            f"{path} cannot be read ({error})", "the history of a reproduction", "Train again"
        ) from error


@dataclass(frozen=True)
class Network:
    """The report's network: ``model`` from pixels (batch, 224, 224, 3) to a probability of pneumonia (batch, 1).

    ``logits`` is the same without the sigmoid, which is saturated in a broken network. ``base`` is
    the backbone inside both.
    """

    base: Any
    model: Any
    logits: Any


def build(recipe: Reproduction, weights: InitialWeights, pixels: npt.NDArray[np.uint8]) -> Network:
    """Build the report's network around the backbone of :func:`pneumo_edge.training.network.build`.

    Args:
        recipe: The recipe; its scaling is not in the network.
        weights: The initial weights.
        pixels: As for that function.
    """
    keras = extras.need("keras", "train")
    classifier = network.build(BACKBONES[recipe.backbone], weights, 0.0, pixels, len(_TASK.class_names))
    base = next(layer for layer in classifier.layers if isinstance(layer, keras.Model))
    image = keras.Input((SIDE, SIDE, 3))
    logit = keras.layers.Dense(1)(keras.layers.GlobalAveragePooling2D()(base(image)))
    probability = keras.layers.Activation("sigmoid")(logit)
    return Network(base, keras.Model(image, probability), keras.Model(image, logit))


def set_trainable(base: Any, last_layers: int | None, train_batch_norm: bool) -> None:
    """Set which layers of a backbone ``fit`` changes.

    A batch-norm layer with ``trainable = False`` uses its moving averages and does not update them, even in ``fit``. So
    batch norm in the frozen part of a backbone is always in inference mode; ``train_batch_norm`` only concerns the
    layers that are trained.

    Args:
        base: The backbone, a ``keras.Model``.
        last_layers: How many layers from its end are trained; None for all.
        train_batch_norm: Whether batch norm is trained among them.
    """
    frozen = 0 if last_layers is None else max(0, len(base.layers) - last_layers)
    held = [] if train_batch_norm else batch_norm_layers(base)
    # One by one: if ``base.trainable`` is already True, setting it on TensorFlow does not change the layers.
    for number, layer in enumerate(base.layers):
        layer.trainable = number >= frozen and layer not in held


def draw(labels: Labels, count: int, seed: int) -> _Indices:
    """Draw images so that each class keeps its share, at least one of each.

    Args:
        labels: 0 or 1, shape (images,).
        count: Number of images, from 2 to all.
        seed: Seed of the draw.

    Returns:
        Positions in ``labels``, in a random order.
    """
    rng = np.random.default_rng(seed)
    positives = min(max(round(count * float(np.mean(labels))), 1), count - 1)
    drawn = [
        rng.choice(np.flatnonzero(labels == label), number, replace=False)
        for label, number in ((0, count - positives), (1, positives))
    ]
    return rng.permutation(np.concatenate(drawn))


def _choose(dataset: Dataset, images: int | None, batch_size: int, seed: int) -> tuple[_Indices, _Indices]:
    """Return the training and validation images of the report."""
    task = dataset.manifest.task
    if len(task.class_names) != 2 or task.positive_index != 1:
        raise TrainingError(
            f"the data has the classes {', '.join(task.class_names)}",
            "two classes with the positive one last, as the student report has them",
            "Give two classes with --classes, or use another recipe",
        )
    train = np.sort(np.concatenate([dataset.indices("train"), dataset.indices("val")]))
    if images is not None:
        if not 2 <= images <= len(train):
            raise TrainingError(
                f"there are {len(train)} training images, not {images}", f"2 to {len(train)}", "Give another --images"
            )
        train = train[draw(dataset.labels(train), images, seed)]
    test = dataset.indices("test")
    validation = test[: len(test) - len(test) % batch_size]
    if len(set(dataset.labels(validation))) < len(_TASK.class_names):
        raise TrainingError(
            f"the first {len(validation)} test images (whole batches of {batch_size}) lack a class",
            "images of both classes",
            "Use a larger data set",
        )
    return train, validation


class Feed:
    """The report's generators over this project's decoded pixels, so that decoding is the same as everywhere.

    ``steps`` is the number of training batches in an epoch.
    """

    def __init__(
        self, recipe: Reproduction, dataset: Dataset, train: _Indices, validation: _Indices, seed: int
    ) -> None:
        # ImageDataGenerator needs it for rotations and shifts.
        extras.need("scipy", "train")
        self.train_labels, self.validation_labels = dataset.labels(train), dataset.labels(validation)
        self._grey = {True: dataset.grey[train].astype(np.float32), False: dataset.grey[validation].astype(np.float32)}
        self.steps = math.ceil(len(self.train_labels) / recipe.batch_size)
        self._recipe, self._seed = recipe, seed

    def training(self, epoch: int) -> Any:
        """Return augmented training images, shuffled; ``epoch`` counts over all phases."""
        seed = int(np.random.default_rng((self._seed, epoch)).integers(2**31))
        return self._flow(self._grey[True], self.train_labels, self._recipe.augmentation, seed)

    def validation(self) -> Any:
        """Return the validation images in their own order."""
        return self._flow(self._grey[False], self.validation_labels, GeneratorArguments(), None)

    def compared(self) -> Any:
        """Return always the same few training images, not augmented, classes mixed in each batch."""
        chosen = draw(self.train_labels, min(_COMPARED_IMAGES, len(self.train_labels)), self._seed)
        return self._flow(self._grey[True][chosen], self.train_labels[chosen], GeneratorArguments(), None)

    def _flow(
        self, grey: npt.NDArray[np.float32], labels: Labels, augmentation: GeneratorArguments, seed: int | None
    ) -> Any:
        scale, offset = self._recipe.scaling
        # In Keras 3, ImageDataGenerator is public only under tf.keras.
        preprocessing = extras.need("tensorflow", "train").keras.preprocessing.image
        generator = preprocessing.ImageDataGenerator(
            preprocessing_function=lambda pixels: pixels * scale + offset, **asdict(augmentation)
        )
        # A view of one channel as three, in a third of the memory.
        rgb = np.broadcast_to(grey[..., np.newaxis], (*grey.shape, 3))
        return generator.flow(rgb, labels, batch_size=self._recipe.batch_size, shuffle=seed is not None, seed=seed)


def _fit(net: Network, recipe: Reproduction, feed: Feed, folder: Path, limit: int | None) -> tuple[ReportEpoch, ...]:
    rows = read_history(folder)
    numbers = [min(phase.epochs, limit or phase.epochs) for phase in recipe.phases]
    with bar(f"Training: {recipe.name}", sum(numbers) * feed.steps, len(rows) * feed.steps) as advance:
        for phase, number in zip(recipe.phases, numbers, strict=True):
            done = [row for row in rows if row.phase == phase.name]
            watchers = compile_network(net, recipe, phase, done)
            if done and done[-1] is rows[-1]:
                checkpoint.restore(net.model, _weights_path(folder, len(rows)))
            for epoch in range(len(done), number):
                if net.model.stop_training:
                    break
                row = fit_epoch(net, phase, epoch, feed, len(rows), advance, f"{phase.name}, {epoch + 1}/{number}")
                rows = (*rows, row)
                for watcher in watchers:
                    watcher.on_epoch_end(epoch, {"val_loss": row.val_loss})
                _save(net.model, folder, rows)
    return rows


def compile_network(net: Network, recipe: Reproduction, phase: ReportPhase, done: list[ReportEpoch]) -> list[Any]:
    """Set up a phase; return the callbacks that watch validation loss, in their state after the finished epochs."""
    keras = extras.need("keras", "train")
    set_trainable(net.base, phase.last_layers, recipe.train_batch_norm)
    optimizer = getattr(keras.optimizers, recipe.optimizer)(phase.learning_rate)
    # XLA makes the first step twice as long on a CPU and the others no shorter.
    net.model.compile(optimizer, loss="binary_crossentropy", metrics=["accuracy"], jit_compile=False)
    optimizer.build(net.model.trainable_variables)
    net.model.stop_training = False
    watchers = []
    if recipe.plateau:
        watchers.append(keras.callbacks.ReduceLROnPlateau(**asdict(recipe.plateau)))
    if recipe.stop_patience is not None:
        watchers.append(keras.callbacks.EarlyStopping(patience=recipe.stop_patience))
    for watcher in watchers:
        watcher.set_model(net.model)
        watcher.on_train_begin()
        for row in done:
            watcher.on_epoch_end(row.epoch, {"val_loss": row.val_loss})
    return watchers


def fit_epoch(
    net: Network, phase: ReportPhase, epoch: int, feed: Feed, epochs_before: int, advance: Advance, note: str
) -> ReportEpoch:
    """Fit one epoch and score the validation images; ``epochs_before`` counts those of all phases."""
    keras = extras.need("keras", "train")
    started = time.monotonic()
    # float32, rounded to six digits.
    learning_rate = float(f"{float(keras.ops.convert_to_numpy(net.model.optimizer.learning_rate)):.6g}")
    progress = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: advance(1, f"{note}, loss {logs['loss']:.3f}")
    )
    logs = net.model.fit(
        feed.training(epochs_before),
        epochs=1,
        shuffle=False,
        verbose=0,
        class_weight=class_weights(feed.train_labels),
        callbacks=[progress],
    ).history
    labels, logits = feed.validation_labels, _flatten(net.logits.predict(feed.validation(), verbose=0))
    return ReportEpoch(
        phase=phase.name,
        epoch=epoch,
        loss=float(logs["loss"][0]),
        accuracy=float(logs["accuracy"][0]),
        val_loss=_cross_entropy(labels, logits),
        val_accuracy=_accuracy(labels, logits),
        val_auc=_auc(labels, logits),
        seconds=time.monotonic() - started,
        called_pneumonia=float(np.mean(logits > 0)),
        learning_rate=learning_rate,
    )


def _compare_modes(net: Network, feed: Feed) -> Modes:
    flow = feed.compared()
    batches = [flow[step] for step in range(len(flow))]
    labels = np.concatenate([of_batch for _, of_batch in batches])
    # Inference first: a pass in training mode changes the moving averages that inference uses.
    inference, training = (
        _flatten(np.concatenate([net.logits(pixels, training=mode) for pixels, _ in batches])) for mode in (False, True)
    )
    return Modes(
        len(labels), training=_loss_and_accuracy(labels, training), inference=_loss_and_accuracy(labels, inference)
    )


def _reestimate(net: Network, feed: Feed, epochs: int) -> Reestimated | None:
    """Replace the moving averages of trained batch norm by plain averages, and score the validation images again.

    The weights stay. Each statistic becomes the mean over the batches of one more epoch, as :func:`fit_epoch` would see
    them (Wu and Johnson, Rethinking "Batch" in BatchNorm, arXiv 2105.07576, section 3). If a failure comes only from
    moving averages that lag behind the weights, it ends here.

    Args:
        net: The trained network; its statistics change.
        feed: The images.
        epochs: Epochs that were trained, over all phases.
    """
    trained = [layer for layer in batch_norm_layers(net.base) if layer.trainable]
    if not trained:
        return None
    flow = feed.training(epochs)
    with bar("Estimating batch-norm statistics", feed.steps) as advance:
        for step in range(feed.steps):
            for layer in trained:
                # The mean over the batches so far: the first replaces what was there.
                layer.momentum = step / (step + 1)
            net.logits(flow[step][0], training=True)
            advance(1, "")
    labels, logits = feed.validation_labels, _flatten(net.logits.predict(feed.validation(), verbose=0))
    area = _auc(labels, logits)
    return Reestimated(
        layers=len(trained),
        images=len(feed.train_labels),
        accuracy=_accuracy(labels, logits),
        called_pneumonia=float(np.mean(logits > 0)),
        auc=None if math.isnan(area) else area,
    )


def _loss_and_accuracy(labels: Labels, logits: Scores) -> LossAndAccuracy:
    loss = _cross_entropy(labels, logits)
    return LossAndAccuracy(loss if math.isfinite(loss) else None, _accuracy(labels, logits))


def _flatten(outputs: Any) -> Scores:
    return np.asarray(outputs, dtype=np.float64)[:, 0]


def _cross_entropy(labels: Labels, logits: Scores) -> float:
    """Return the mean binary cross-entropy in nats from logits, like Keras; probabilities would saturate at 0 and 1."""
    with np.errstate(invalid="ignore"):
        return float(np.mean(np.logaddexp(0, logits) - labels * logits))


def _accuracy(labels: Labels, logits: Scores) -> float:
    return float(np.mean((logits > 0) == (labels == 1)))


def _auc(labels: Labels, logits: Scores) -> float:
    """Return the AUC, or NaN if a broken network gives NaN."""
    return math.nan if np.isnan(logits).any() else auc(labels, logits)


def _save(model: Any, folder: Path, rows: tuple[ReportEpoch, ...]) -> None:
    """Write weights and optimizer, then the history, which makes them valid."""
    path = _weights_path(folder, len(rows))
    checkpoint.save(model, path)
    with files.atomic(folder / HISTORY_NAME) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [field.name for field in dataclasses.fields(ReportEpoch)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    for other in path.parent.glob("*.weights.h5"):
        if other != path:
            other.unlink()


def _weights_path(folder: Path, epochs: int) -> Path:
    return folder / _CHECKPOINT_NAME / f"after-{epochs:03d}.weights.h5"


def _count(labels: Labels) -> dict[str, int]:
    return {name: int(np.sum(labels == label)) for label, name in enumerate(_TASK.class_names)}


def _digest(dataset: Dataset, indices: _Indices) -> str:
    """Return the SHA-256 over the contents of images, independent of their order."""
    return hashlib.sha256("\n".join(sorted(entry.sha256 for entry in dataset.entries(indices))).encode()).hexdigest()
