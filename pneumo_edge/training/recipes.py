"""Recipes: training as plain data. One function, :func:`pneumo_edge.training.fit.train`, runs them all."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Augmentation:
    """Random changes of each training image, as the Keras layers take them.

    There is no flip: a horizontal one moves the heart to the other side.

    ``rotation`` is in turns, ``translation`` and ``zoom`` in shares of the side, ``brightness`` and
    ``contrast`` in shares of the range; each is drawn from minus to plus its value.
    """

    rotation: float
    translation: float
    zoom: float
    brightness: float
    contrast: float


@dataclass(frozen=True)
class Phase:
    """One stretch of fitting: AdamW, warm-up and cosine decay to zero, early stopping on validation loss.

    ``patience`` is in epochs. ``augmentation`` is None where the inputs are features.
    """

    epochs: int
    learning_rate: float
    warmup_epochs: int
    weight_decay: float
    batch_size: int
    patience: int
    augmentation: Augmentation | None = None


@dataclass(frozen=True)
class Recipe:
    """The head on features of the frozen backbone; then, unless None, the whole network, batch norm frozen."""

    name: str
    summary: str
    dropout: float
    head: Phase
    fine_tune: Phase | None


_HEAD = Phase(epochs=40, learning_rate=1e-3, warmup_epochs=0, weight_decay=0.01, batch_size=32, patience=6)

RECIPES: dict[str, Recipe] = {
    row.name: row
    for row in (
        Recipe("quick", "frozen backbone, features computed once; minutes on 2 cores", 0.2, _HEAD, None),
        Recipe(
            "standard",
            "quick, then the whole network with batch norm frozen and light augmentation",
            0.2,
            _HEAD,
            Phase(
                epochs=6,
                learning_rate=3e-4,
                warmup_epochs=1,
                weight_decay=0.01,
                batch_size=32,
                patience=3,
                augmentation=Augmentation(rotation=0.02, translation=0.05, zoom=0.1, brightness=0.1, contrast=0.1),
            ),
        ),
    )
}
