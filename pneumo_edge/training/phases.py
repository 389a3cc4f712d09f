"""Fits one phase of a recipe, epoch by epoch, so that a run killed at any moment goes on from its last epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pneumo_edge import extras, files, records
from pneumo_edge.evaluation.metrics import Labels, Scores, auc
from pneumo_edge.evaluation.operating_point import log_loss
from pneumo_edge.progress import Advance, bar
from pneumo_edge.training.recipes import Phase

#: Gives the model's inputs for indices into the data set, as float32.
ReadBatch = Callable[[npt.NDArray[np.intp]], npt.NDArray[np.float32]]
#: Gives the probability of the positive class for every validation image.
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
class _State:
    """What has been done of a phase; the two names are weight files in the same folder."""

    rows: tuple[Epoch, ...]
    latest: str
    best: str

    @property
    def best_epoch(self) -> int:
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
    """Fit a model until its epochs are over or validation loss stops falling; leave it at its best epoch.

    Args:
        name: Name of the phase, for the history and the progress bar.
        model: A ``keras.Model`` that gives probabilities of the classes, not compiled.
        phase: The settings.
        images: The training images.
        validate: Called after each epoch.
        val_labels: Labels of the validation images.
        folder: Where the checkpoint is kept; if it holds one, fitting goes on from there.
        seed: Decides the order of the images.

    Returns:
        The history, the epochs of earlier, interrupted runs included.
    """
    steps = math.ceil(len(images.indices) / phase.batch_size)
    _compile(model, phase, steps)
    state = _restore(model, folder)
    rows = state.rows if state else ()
    with bar(f"Training: {name}", phase.epochs * steps, len(rows) * steps) as advance:
        for epoch in range(len(rows), phase.epochs):
            if state and epoch - state.best_epoch > phase.patience:
                break
            row = _fit_epoch(name, model, phase, images, validate, val_labels, epoch, seed, advance)
            rows = (*rows, row)
            state = _save(model, folder, rows, state)
    if state:
        model.load_weights(folder / state.best)
    return rows


def _compile(model: Any, phase: Phase, steps: int) -> None:
    keras = extras.need("keras", "train")
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if phase.warmup_epochs else phase.learning_rate,
        decay_steps=(phase.epochs - phase.warmup_epochs) * steps,
        warmup_target=phase.learning_rate if phase.warmup_epochs else None,
        warmup_steps=phase.warmup_epochs * steps,
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=phase.weight_decay)
    # XLA makes the first step twice as long on a CPU and the others no shorter.
    model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    optimizer.build(model.trainable_variables)


def _fit_epoch(
    name: str,
    model: Any,
    phase: Phase,
    images: TrainingImages,
    validate: Validate,
    val_labels: Labels,
    epoch: int,
    seed: int,
    advance: Advance,
) -> Epoch:
    started = time.monotonic()
    order = np.random.default_rng((seed, epoch)).permutation(len(images.indices))
    logs = model.fit(
        _batches(images, order, phase.batch_size),
        epochs=1,
        shuffle=False,
        verbose=0,
        class_weight=class_weights(images.labels),
        callbacks=[_progress(advance, f"epoch {epoch + 1}/{phase.epochs}")],
    ).history
    scores = validate()
    return Epoch(
        phase=name,
        epoch=epoch,
        loss=float(logs["loss"][0]),
        accuracy=float(logs["accuracy"][0]),
        val_loss=log_loss(val_labels, scores),
        val_accuracy=float(np.mean((scores >= 0.5) == (val_labels == 1))),
        val_auc=auc(val_labels, scores),
        seconds=time.monotonic() - started,
    )


def class_weights(labels: Labels) -> dict[int, float]:
    """Weights that give each class the same total weight, with mean 1 over the images."""
    counts = np.bincount(labels)
    return {label: float(len(labels) / (len(counts) * count)) for label, count in enumerate(counts)}


def _batches(images: TrainingImages, order: npt.NDArray[np.intp], batch_size: int) -> Any:
    keras = extras.need("keras", "train")

    class Batches(keras.utils.PyDataset):  # type: ignore[misc, name-defined]
        """Reads a batch when it is asked for one; Keras reads ahead in a thread."""

        def __len__(self) -> int:
            return math.ceil(len(order) / batch_size)

        def __getitem__(self, step: int) -> tuple[npt.NDArray[np.float32], Labels]:
            chosen = order[step * batch_size : (step + 1) * batch_size]
            return images.read(images.indices[chosen]), images.labels[chosen]

    return Batches(workers=1)


def _progress(advance: Advance, note: str) -> Any:
    keras = extras.need("keras", "train")

    class Progress(keras.callbacks.Callback):  # type: ignore[misc, name-defined]
        """Tells the progress bar of every step."""

        def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
            advance(1, f"{note}, loss {(logs or {}).get('loss', math.nan):.3f}")

    return Progress()


def _save(model: Any, folder: Path, rows: tuple[Epoch, ...], previous: _State | None) -> _State:
    """Write weights, optimizer and history; the small state file takes effect last and at once."""
    latest = f"epoch-{len(rows) - 1:03d}.weights.h5"
    with files.atomic(folder / latest) as temporary:
        model.save_weights(temporary)
    improved = previous is None or rows[-1].val_loss < min(row.val_loss for row in previous.rows)
    state = _State(rows, latest, best=latest if improved or previous is None else previous.best)
    files.write_text(folder / _STATE_NAME, records.dumps(state))
    for path in folder.glob("*.weights.h5"):
        if path.name not in (state.latest, state.best):
            path.unlink()
    return state


def _restore(model: Any, folder: Path) -> _State | None:
    path = folder / _STATE_NAME
    if not path.exists():
        return None
    state = records.loads(_State, path.read_bytes())
    model.load_weights(folder / state.latest)
    return state
