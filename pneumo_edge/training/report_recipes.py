"""The five runs of a published student report and their corrected versions, as plain data.

A run's row follows the report, including its mistakes: pixels scaled by 1/255 for both backbones, and the test images
as validation. Settings that the report does not give were chosen: the learning rates, five of the ten epochs of
``train_model1`` for its frozen part, the arguments of ``ImageDataGenerator``, and the patience of the callbacks.
docs/report-reproduction.md lists them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from pneumo_edge.backbones import BACKBONES

#: The suspected cause that a corrected version removes.
Correction = Literal["none", "scaling", "batch-norm", "both"]


@dataclass(frozen=True)
class GeneratorArguments:
    """Arguments of Keras's ``ImageDataGenerator``, in its units.

    Rotation and shear are in degrees, shifts and zoom in shares of the side and of the scale;
    ``brightness_range`` is (lowest, highest) factor, or None.
    """

    rotation_range: float = 0.0
    width_shift_range: float = 0.0
    height_shift_range: float = 0.0
    shear_range: float = 0.0
    zoom_range: float = 0.0
    horizontal_flip: bool = False
    brightness_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class ReportPhase:
    """One phase of fitting with its own optimizer.

    ``last_layers`` is how many of the backbone's layers are trained, counted from its end: 0 for a frozen
    backbone, None for all of them. The dense unit is always trained.
    """

    name: str
    epochs: int
    learning_rate: float
    last_layers: int | None


@dataclass(frozen=True)
class Plateau:
    """Keras's ``ReduceLROnPlateau`` on validation loss; ``patience`` in epochs."""

    factor: float
    patience: int


@dataclass(frozen=True)
class Reproduction:
    """One run: backbone, global average pooling, one sigmoid unit, binary cross-entropy, class weights.

    Attributes:
        name: The recipe's name.
        report_run: Key of the report's run in :data:`PUBLISHED`.
        correction: The suspected cause that is corrected; "none" for the run as reported.
        backbone: Key of :data:`~pneumo_edge.backbones.BACKBONES`.
        phases: The phases of fitting, in order.
        optimizer: Its name in ``keras.optimizers``.
        scaling: (scale, offset) applied to pixels of 0 to 255 before the network of ``keras.applications``.
        train_batch_norm: Whether batch norm is trained with the layers around it, on the statistics of each
            batch; otherwise every batch-norm layer of the backbone uses its stored statistics.
        augmentation: Augmentation of the training images.
        plateau: None for a constant learning rate.
        stop_patience: Epochs without a lower validation loss before ``EarlyStopping``; None for none.
        batch_size: Images in a step.
    """

    name: str
    report_run: str
    correction: Correction
    backbone: str
    phases: tuple[ReportPhase, ...]
    optimizer: Literal["Adam", "RMSprop"]
    scaling: tuple[float, float]
    train_batch_norm: bool
    augmentation: GeneratorArguments
    plateau: Plateau | None = None
    stop_patience: int | None = None
    batch_size: int = 32


@dataclass(frozen=True)
class Published:
    """The numbers in the report.

    Attributes:
        name: The report's name for the run.
        epochs: As reported; "" if not reported.
        val_accuracy: In words.
        lowest: Lowest validation accuracy reported.
        highest: Highest validation accuracy reported.
        last: Validation accuracy of the last epoch, or None if not reported.
        accuracy: Training accuracy, in words.
        loss: Largest loss named, in words.
    """

    name: str
    epochs: str
    val_accuracy: str
    lowest: float
    highest: float
    last: float | None
    accuracy: str
    loss: str = ""


#: The report's scaling for both backbones; EfficientNetB0 divides by 255 again inside the network.
_REPORT_SCALING = (1 / 255, 0.0)
_LIGHT = GeneratorArguments(shear_range=0.2, zoom_range=0.2, horizontal_flip=True)
_STRONGER = GeneratorArguments(
    rotation_range=20,
    width_shift_range=0.2,
    height_shift_range=0.2,
    shear_range=0.2,
    zoom_range=0.2,
    horizontal_flip=True,
    brightness_range=(0.8, 1.2),
)

_TRAIN_MODEL = Reproduction(
    name="report-train-model",
    report_run="report-train-model",
    correction="none",
    backbone="efficientnetb0",
    phases=(ReportPhase("all layers", 10, 1e-4, None),),
    optimizer="Adam",
    scaling=_REPORT_SCALING,
    train_batch_norm=True,
    augmentation=_LIGHT,
)
_TRAIN_MODEL1 = replace(
    _TRAIN_MODEL,
    name="report-train-model1",
    report_run="report-train-model1",
    phases=(ReportPhase("frozen backbone", 5, 1e-3, 0), ReportPhase("last 100 layers", 5, 1e-5, 100)),
)
_TRAIN_MODEL2 = replace(
    _TRAIN_MODEL,
    name="report-train-model2",
    report_run="report-train-model2",
    phases=(ReportPhase("last 150 layers", 10, 5e-5, 150),),
    # It froze the batch norm of the unfrozen layers; that of the others is frozen with them.
    train_batch_norm=False,
    stop_patience=3,
)
_IMPROVED = replace(
    _TRAIN_MODEL,
    name="report-train-model-improved",
    report_run="report-train-model-improved",
    phases=(ReportPhase("last 200 layers", 20, 1e-4, 200),),
    optimizer="RMSprop",
    augmentation=_STRONGER,
    plateau=Plateau(factor=0.2, patience=3),
)
# MobileNetV2 has 154 layers without its top, so the last 200 are all of them.
_MOBILENET = replace(_IMPROVED, name="report-mobilenet", report_run="report-mobilenet", backbone="mobilenetv2")


def _with_twins(run: Reproduction) -> Iterator[Reproduction]:
    """Yield a run and its versions with one or both suspected causes corrected, without those equal to the run."""
    right_scaling = BACKBONES[run.backbone].scaling.uniform or (1.0, 0.0)
    scaled = replace(run, name=f"{run.name}-scaling", correction="scaling", scaling=right_scaling)
    yield run
    yield scaled
    if run.train_batch_norm:
        yield replace(run, name=f"{run.name}-batch-norm", correction="batch-norm", train_batch_norm=False)
        yield replace(scaled, name=f"{run.name}-both", correction="both", train_batch_norm=False)


REPRODUCTIONS: dict[str, Reproduction] = {
    row.name: row
    for run in (_TRAIN_MODEL, _TRAIN_MODEL1, _TRAIN_MODEL2, _IMPROVED, _MOBILENET)
    for row in _with_twins(run)
}

PUBLISHED: dict[str, Published] = {
    _TRAIN_MODEL.name: Published(
        "train_model", "10", "0.6151 in most epochs", 0.6151, 0.6151, None, "0.974", "up to 96"
    ),
    _TRAIN_MODEL1.name: Published(
        "train_model1",
        "10",
        "flips between 0.3849 and 0.6151",
        0.3849,
        0.6151,
        None,
        "0.26 to 0.65",
        "0.693, of which images it does not say",
    ),
    _TRAIN_MODEL2.name: Published("train_model2", "", "0.6151 to 0.6217", 0.6151, 0.6217, None, "0.967"),
    _IMPROVED.name: Published(
        "train_model_improved", "20", "0.6151 throughout", 0.6151, 0.6151, None, "0.978", "up to 2202"
    ),
    _MOBILENET.name: Published(
        "MobileNet", "20", "between 0.3849 and 0.8651, 0.5428 at the end", 0.3849, 0.8651, 0.5428, "0.975"
    ),
}
