"""Recipes: training settings as plain data. :func:`pneumo_edge.training.fit.train` runs all of them."""

from __future__ import annotations

from dataclasses import dataclass

from pneumo_edge.evaluation.operating_point import ThresholdRule
from pneumo_edge.training.augmentation import Augmentation
from pneumo_edge.training.exchange import Exchange


@dataclass(frozen=True)
class Phase:
    """One phase of fitting with AdamW, warm-up and cosine decay to zero.

    Attributes:
        epochs: Most epochs.
        learning_rate: Highest learning rate.
        warmup_epochs: Epochs over which the learning rate rises from zero.
        weight_decay: Weight decay of AdamW.
        batch_size: Images in a step.
        patience: Epochs without a lower validation loss after which fitting stops and returns to the best epoch; with
            None, all epochs are run and the last is kept.
        side: Height and width of the images for a network of 224 pixels, proportional for other networks; ignored if
            the inputs are features.
        balanced: Whether an epoch draws the same number of images of each class, that of the rarest; otherwise it uses
            all images, with class weights.
        beta_1: Decay per step of AdamW's average of the gradient.
        beta_2: Decay per step of its average of the squared gradient.
        ema: Momentum per step of the exponential moving average of the weights, which is validated and kept; None for
            the weights themselves.
        augmentation: Augmentation of the images, or None.
        exchange: What is exchanged between images before they are augmented, or None.
    """

    epochs: int
    learning_rate: float
    warmup_epochs: int
    weight_decay: float = 0.01
    batch_size: int = 32
    patience: int | None = None
    side: int = 224
    balanced: bool = False
    ema: float | None = None
    beta_1: float = 0.9
    beta_2: float = 0.999
    augmentation: Augmentation | None = None
    exchange: Exchange | None = None


@dataclass(frozen=True)
class Recipe:
    """First the head is fitted on features of the frozen backbone; then the whole network with batch norm frozen.

    ``check_shifts`` and ``check_counterfactuals`` add what the network makes of changed validation images to the
    record, see :mod:`pneumo_edge.training.shifts` and :mod:`pneumo_edge.training.counterfactuals`.
    """

    name: str
    summary: str
    fine_tune: tuple[Phase, ...] = ()
    dropout: float = 0.2
    head: Phase = Phase(epochs=40, learning_rate=1e-3, warmup_epochs=0, patience=6)
    threshold_rule: ThresholdRule = ThresholdRule.YOUDEN
    check_shifts: bool = False
    check_counterfactuals: bool = False


_LIGHT = Augmentation(rotation=7, translation=0.05, scale=0.1, contrast=0.1, brightness=0.1)
_STRONG = Augmentation(
    rotation=10,
    shear=0.08,
    translation=0.08,
    scale=0.2,
    gamma=0.5,
    contrast=0.4,
    brightness=0.15,
    blur=1.5,
    noise=0.06,
    cutout=0.35,
)
# Tone and sharpness come from donors, so that less of both is drawn, and no part of a lung is hidden.
_BESIDE_EXCHANGE = Augmentation(
    rotation=10,
    shear=0.08,
    translation=0.08,
    scale=0.2,
    gamma=0.2,
    contrast=0.2,
    brightness=0.1,
    noise=0.03,
    flip=0.5,
)

RECIPES: dict[str, Recipe] = {
    row.name: row
    for row in (
        Recipe("quick", "frozen backbone, features computed once; minutes on 2 cores"),
        Recipe(
            "standard",
            "quick, then the whole network with batch norm frozen and light augmentation",
            (Phase(6, 3e-4, warmup_epochs=1, patience=3, augmentation=_LIGHT),),
        ),
        Recipe(
            "best",
            "what the bundled models were trained with: strong augmentation, balanced epochs, averaged weights",
            (Phase(8, 4e-4, warmup_epochs=1, ema=0.98, balanced=True, augmentation=_STRONG),),
            threshold_rule=ThresholdRule.SENSITIVITY_95,
            check_shifts=True,
        ),
        Recipe(
            "robust",
            "as best, but what machines leave on films (marks, borders, tone, sharpness) is exchanged between images",
            (
                Phase(
                    8,
                    4e-4,
                    warmup_epochs=1,
                    ema=0.98,
                    balanced=True,
                    augmentation=_BESIDE_EXCHANGE,
                    exchange=Exchange(0.8, border=0.15, tone=1.0, sharpness=1.0, marks=True),
                ),
            ),
            threshold_rule=ThresholdRule.SENSITIVITY_95,
            check_shifts=True,
            check_counterfactuals=True,
        ),
    )
}
