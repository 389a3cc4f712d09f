"""Fits one phase of a recipe, epoch by epoch. A run that is killed at any moment resumes from its last epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pneumo_edge._util import extras, files, records
from pneumo_edge._util.progress import Advance, bar
from pneumo_edge.evaluation.metrics import Labels, Scores, auc, decide
from pneumo_edge.evaluation.operating_point import log_loss
from pneumo_edge.training import checkpoint
from pneumo_edge.training.recipes import Phase

#: Gives the model's inputs for indices into the data set, as float32; the generator is for augmentation.
ReadBatch = Callable[[npt.NDArray[np.intp], np.random.Generator], npt.NDArray[np.float32]]
#: Gives the scores of every validation image (:meth:`pneumo_edge.task.Task.scores`).
Validate = Callable[[], Scores]

_STATE_NAME = "state.json"


@dataclass(frozen=True)
class Epoch:
    """One row of the history; losses in nats, time in seconds."""

    phase: str
    epoch: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    val_auc: float
    seconds: float


@dataclass(frozen=True)
class TrainingImages:
    """Indices and labels of the training images, and how to read their inputs."""

    indices: npt.NDArray[np.intp]
    labels: Labels
    read: ReadBatch


@dataclass(frozen=True)
class State:
    """The finished epochs of a phase, and two weight files in the same folder.

    ``latest`` has the weights and the optimizer's state to resume from; ``kept`` has the weights to keep.
    """

    rows: tuple[Epoch, ...]
    latest: str
    kept: str

    def __post_init__(self) -> None:
        if not self.rows or [row.epoch for row in self.rows] != list(range(len(self.rows))):
            raise ValueError("rows are not those of one epoch after the other")

    @property
    def best_epoch(self) -> int:
        """The epoch with the lowest validation loss."""
        return min(self.rows, key=lambda row: row.val_loss).epoch


def fit_phase(
    name: str,
    model: Any,
    phase: Phase,
    images: TrainingImages,
    validate: Validate,
    val_labels: Labels,
    folder: Path,
    seed: int,
) -> tuple[Epoch, ...]:
    """Fit a model until its epochs or its patience end, and set the weights to keep.

    Args:
        name: Name of the phase, for the history and the progress bar.
        model: A ``keras.Model`` that gives probabilities of the classes, not compiled.
        phase: The settings.
        images: The training images.
        validate: Called after each epoch.
        val_labels: :meth:`~pneumo_edge.task.Task.targets` of the validation images.
        folder: Folder of the checkpoint; if it contains one, fitting resumes from it.
        seed: Seed of the order of the images.

    Returns:
        The history, including the epochs before an interruption.
    """
    steps = math.ceil(len(_order(model, phase, images, seed, 0)) / phase.batch_size)
    compile_model(model, phase, steps)
    state = _restore(model, folder)
    rows = state.rows if state else ()
    with bar(f"Training: {name}", phase.epochs * steps, len(rows) * steps) as advance:
        for epoch in range(len(rows), phase.epochs):
            if state and phase.patience is not None and epoch - state.best_epoch > phase.patience:
                break
            fitted, logs, seconds = _fit_epoch(model, phase, images, epoch, seed, advance)
            row = _validate(name, epoch, logs, validate(), val_labels, seconds)
            rows = (*rows, row)
            state = _save(model, fitted, phase, folder, rows, state)
    if state:
        # The next phase does not use this optimizer.
        checkpoint.load_weights(model, folder / state.kept)
    return rows


def compile_model(model: Any, phase: Phase, steps: int) -> None:
    """Compile a model with the optimizer and the loss of a phase whose epochs have ``steps`` steps."""
    keras = extras.need("keras", "train")
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if phase.warmup_epochs else phase.learning_rate,
        decay_steps=(phase.epochs - phase.warmup_epochs) * steps,
        warmup_target=phase.learning_rate if phase.warmup_epochs else None,
        warmup_steps=phase.warmup_epochs * steps,
    )
    # The scope in which the model was built: the state of the optimizer is on the devices of the model.
    with model.distribute_strategy.scope():
        optimizer = keras.optimizers.AdamW(
            schedule,
            weight_decay=phase.weight_decay,
            beta_1=phase.beta_1,
            beta_2=phase.beta_2,
            use_ema=phase.ema is not None,
            ema_momentum=phase.ema or 0.99,
        )
        # On a CPU, XLA doubles the time of the first step and does not shorten the others.
        model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
        optimizer.build(model.trainable_variables)


def _fit_epoch(
    model: Any, phase: Phase, images: TrainingImages, epoch: int, seed: int, advance: Advance
) -> tuple[list[npt.NDArray[np.float32]], dict[str, list[float]], float]:
    """Fit one epoch.

    Returns:
        The fitted weights (with a moving average, the model itself has the average), Keras's log, and the
        time in seconds.
    """
    started = time.monotonic()
    order = _order(model, phase, images, seed, epoch)
    fitted: list[npt.NDArray[np.float32]] = []
    logs = model.fit(
        batches(images, order, phase.batch_size, (seed, epoch)),
        epochs=1,
        shuffle=False,
        verbose=0,
        class_weight=None if phase.balanced else class_weights(images.labels),
        callbacks=[_progress(advance, f"epoch {epoch + 1}/{phase.epochs}", fitted)],
    ).history
    return fitted, logs, time.monotonic() - started


def _validate(
    name: str, epoch: int, logs: dict[str, list[float]], scores: Scores, labels: Labels, seconds: float
) -> Epoch:
    return Epoch(
        phase=name,
        epoch=epoch,
        loss=float(logs["loss"][0]),
        accuracy=float(logs["accuracy"][0]),
        val_loss=log_loss(labels, scores),
        val_accuracy=float(np.mean(decide(scores, 0.5 if scores.ndim == 1 else None) == labels)),
        val_auc=auc(labels, scores),
        seconds=seconds,
    )


def epoch_order(labels: Labels, balanced: bool, seed: int, epoch: int) -> npt.NDArray[np.intp]:
    """Draw the training images of an epoch and their order.

    Args:
        labels: Labels of the training images, shape (images,).
        balanced: Whether to draw the same number of each class, that of the rarest.
        seed: Seed of the run.
        epoch: Epoch from 0; each is drawn and shuffled separately.

    Returns:
        Positions in ``labels``.
    """
    rng = np.random.default_rng((seed, epoch))
    if not balanced:
        return rng.permutation(len(labels))
    fewest = int(np.bincount(labels).min())
    drawn = [rng.choice(np.flatnonzero(labels == label), fewest, replace=False) for label in np.unique(labels)]
    return rng.permutation(np.concatenate(drawn))


def _order(model: Any, phase: Phase, images: TrainingImages, seed: int, epoch: int) -> npt.NDArray[np.intp]:
    """As :func:`epoch_order`, without the last images where they are no whole number for each device of the model."""
    order = epoch_order(images.labels, phase.balanced, seed, epoch)
    return order[: len(order) - len(order) % model.distribute_strategy.num_replicas_in_sync]


def class_weights(labels: Labels) -> dict[int, float]:
    """Return weights that give each class the same total weight, with mean 1 over the images."""
    counts = np.bincount(labels)
    return {label: float(len(labels) / (len(counts) * count)) for label, count in enumerate(counts)}


def batches(images: TrainingImages, order: npt.NDArray[np.intp], batch_size: int, seed: tuple[int, int]) -> Any:
    """Make batches for ``keras.Model.fit``: inputs and labels of positions in ``images``, in the given order."""
    keras = extras.need("keras", "train")

    class Batches(keras.utils.PyDataset):  # type: ignore[misc, name-defined]
        """Reads a batch on demand; Keras prefetches."""

        def __len__(self) -> int:
            return math.ceil(len(order) / batch_size)

        def __getitem__(self, step: int) -> tuple[npt.NDArray[np.float32], Labels]:
            chosen = order[step * batch_size : (step + 1) * batch_size]
            rng = np.random.default_rng((*seed, step))
            return images.read(images.indices[chosen], rng), images.labels[chosen]

    return Batches(workers=1)


def _progress(advance: Advance, note: str, fitted: list[npt.NDArray[np.float32]]) -> Any:
    keras = extras.need("keras", "train")

    class Progress(keras.callbacks.Callback):  # type: ignore[misc, name-defined]
        """Updates the progress bar at every step, and copies the weights before Keras averages them."""

        def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
            advance(1, f"{note}, loss {(logs or {}).get('loss', math.nan):.3f}")

        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            fitted.extend(self.model.get_weights())

    return Progress()


def _save(
    model: Any,
    fitted: list[npt.NDArray[np.float32]],
    phase: Phase,
    folder: Path,
    rows: tuple[Epoch, ...],
    previous: State | None,
) -> State:
    """Write weights, optimizer and history. The small state file is replaced last, atomically."""
    kept = previous.kept if previous else ""
    lower = previous is None or rows[-1].val_loss < min(row.val_loss for row in previous.rows)
    if phase.patience is None or lower:
        kept = f"kept-{len(rows) - 1:03d}.weights.h5"
        with files.atomic(folder / kept) as temporary:
            model.save_weights(temporary)
    latest = f"latest-{len(rows) - 1:03d}.weights.h5"
    model.set_weights(fitted)
    checkpoint.save(model, folder / latest)
    state = State(rows, latest, kept)
    files.write_text(folder / _STATE_NAME, records.dumps(state))
    for path in folder.glob("*.weights.h5"):
        if path.name not in (state.latest, state.kept):
            path.unlink()
    return state


def restore_state(folder: Path) -> State | None:
    """Read the state of a phase; None if it was not started.

    Raises:
        TrainingError: The record is damaged.
    """
    path = folder / _STATE_NAME
    if not path.exists():
        return None
    try:
        return records.loads(State, path.read_bytes())
    except (OSError, records.RecordError) as error:
        raise checkpoint.broken(path, error) from error


def _restore(model: Any, folder: Path) -> State | None:
    state = restore_state(folder)
    if state:
        checkpoint.restore(model, folder / state.latest)
    return state
