"""``pneumo_edge.train``: from a data set to a trained run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pneumo_edge import backbones, runs
from pneumo_edge._util import cores, extras, jobs, native_output, outputs
from pneumo_edge._util.cache import cache_folder, keep_within_limit
from pneumo_edge.api import arguments, datasets
from pneumo_edge.api.arguments import DataArgument, PathArgument, Tell
from pneumo_edge.backbones import BACKBONES, SIDE, Backbone
from pneumo_edge.data.tensors import Dataset, prepare
from pneumo_edge.runs import Run
from pneumo_edge.training import fit, initial_weights
from pneumo_edge.training.recipes import RECIPES

#: Printed before training on a data set of phantom images.
PHANTOM = "These are PHANTOM images, not X-rays. A model trained on them says nothing about patients."


@dataclass(frozen=True)
class TrainedRun:
    """A finished training run. It can be used wherever the path of its folder can.

    Attributes:
        folder: The folder with the network, the split, the history and the record (docs/training.md).
        record: Classes, threshold, temperature, data and validation metrics.
    """

    folder: Path
    record: Run

    def __fspath__(self) -> str:
        return str(self.folder)


def train(
    data: DataArgument,
    backbone: str,
    *,
    recipe: str = "best",
    image_size: int = SIDE,
    alpha: float = 1.0,
    weights: PathArgument | None = None,
    patient_pattern: str | None = None,
    out: PathArgument | None = None,
    seed: int = 0,
    tell: Tell = arguments.print_line,
) -> TrainedRun:
    """Train a backbone on chest X-rays, and choose temperature and threshold on validation images.

    The validation split is drawn from the train split by patient. The test split is not used. If training is
    interrupted, the same call resumes from the last finished epoch; a finished run is returned unchanged. TensorFlow
    is imported and seeded in this process.

    Args:
        data: Folder with class folders (``train/NORMAL``, ``train/PNEUMONIA``, ``test/...``), or a MedMNIST ``.npz``;
            or a :class:`~pneumo_edge.data.datasource.DataSource`, which says how other data is read.
        backbone: Name of a row of the table of backbones, such as ``"mobilenetv2"``.
        recipe: Name of a recipe: ``"quick"``, ``"standard"`` or ``"best"``.
        image_size: Height and width of the images that the network takes, 96 to 512 pixels.
        alpha: Width of the network as a multiple of the usual one. Only some backbones have others than 1; MobileNetV2
            has 0.35 to 1.4.
        weights: Initial weights: a file, or a folder with the ImageNet weights. By default Keras downloads the
            ImageNet weights; if that fails, the weights of the bundled model are used.
        patient_pattern: Regular expression whose one group is the patient in an image's file name. By default names of
            the Kermany data set are recognized.
        out: Folder for the run; by default ``runs/BACKBONE-RECIPE``. An unusual alpha or image size follows
            the name of the backbone.
        seed: Seed of the initialization and of the order of images, 0 or more.
        tell: Called with each note and warning, a line each; by default they are printed on standard error.

    Returns:
        The run; pass it to :func:`pneumo_edge.export`.

    Raises:
        ArgumentError: The backbone, recipe, image size or alpha is not available, ``seed`` is negative, or ``out`` is a
            file.
        DataError: The data cannot be used.
        TrainingError: The folder contains a run with other settings, or the weights do not fit.
        BusyError: Another process trains in the folder.
        MissingExtraError: The extra ``train`` is not installed.

    Example:
        >>> run = pneumo_edge.train("chest_xray", "mobilenetv2", recipe="quick")
        >>> run.record.training.validation["auc"]
        0.99
    """
    arguments.check_name("backbone", backbone, BACKBONES)
    arguments.check_name("recipe", recipe, RECIPES)
    row = backbones.variant(backbone, alpha, arguments.whole("image_size", image_size, 1))
    seed = arguments.whole("seed", seed, 0)
    folder = Path(out) if out is not None else default_folder(row, recipe)
    dataset = read_data(data, patient_pattern, folder, tell, row.side)
    for line in describe(dataset, folder / runs.MANIFEST_NAME):
        tell(line)
    if not dataset.manifest.real:
        tell(PHANTOM)
    return train_on(dataset, Path(data), row, recipe, None if weights is None else Path(weights), folder, seed)


def default_folder(backbone: Backbone, recipe: str) -> Path:
    """Return the default folder of a run."""
    return Path("runs", f"{backbone.name}-{recipe}")


def read_data(data: DataArgument, patient_pattern: str | None, folder: Path, tell: Tell, side: int = SIDE) -> Dataset:
    """Open and decode a data set for training.

    Errors in the arguments are raised before TensorFlow is imported, which takes seconds.

    Raises:
        ArgumentError: The folder of the run is a file.
        DataError: The data cannot be used.
        MissingExtraError: The extra ``train`` is not installed.
    """
    outputs.check_folder(folder)
    extras.check("keras", "train")
    source = datasets.open_data(data, patient_pattern, tell=tell)
    cores.bound_libraries()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with native_output.quiet_stderr():
        extras.need("keras", "train")
    return prepare(source, cache_folder(), side, side)


def describe(dataset: Dataset, record: Path) -> Iterator[str]:
    """Describe how many images are left out, and how validation is drawn, a line each.

    Args:
        dataset: The data set for training.
        record: The file that will name each image that is left out.
    """
    if dataset.manifest.left_out:
        yield f"{len(dataset.manifest.left_out)} images are left out; each is named in {record}"
    yield f"Validation: {dataset.manifest.rule}"


def train_on(
    dataset: Dataset, data: Path, backbone: Backbone, recipe: str, weights: Path | None, folder: Path, seed: int
) -> TrainedRun:
    """Train on a data set that has been read, under the lock of the run's folder.

    Raises:
        TrainingError: The folder contains a run with other settings, or the weights do not fit.
        BusyError: Another process trains in the folder.
    """
    initial = initial_weights.find(backbone, weights)
    with jobs.alone(folder / runs.RECORD_NAME, "training", jobs.SAME_COMMAND):
        record = fit.train(backbone, RECIPES[recipe], initial, dataset, data, folder, cache_folder(), seed)
    keep_within_limit(cache_folder())
    return TrainedRun(folder, record)
