"""``pneumo_edge.train``: from a data set to a trained run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pneumo_edge import backbones, runs, scaling
from pneumo_edge._util import cores, extras, jobs, memory, native_output, outputs
from pneumo_edge._util.cache import cache_folder, keep_within_limit
from pneumo_edge.api import arguments, datasets
from pneumo_edge.api.arguments import DataArgument, PathArgument, Tell
from pneumo_edge.backbones import BACKBONES, SIDE, Backbone
from pneumo_edge.data.sources import Source
from pneumo_edge.data.splits import count_copies
from pneumo_edge.data.tensors import Dataset, prepare
from pneumo_edge.errors import ArgumentError
from pneumo_edge.runs import Run
from pneumo_edge.training import devices as distribution
from pneumo_edge.training import fit, initial_weights, own_network
from pneumo_edge.training.initial_weights import InitialWeights
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
    backbone: str | None = None,
    *,
    recipe: str = "best",
    image_size: int | None = None,
    alpha: float = 1.0,
    weights: PathArgument | None = None,
    init: PathArgument | None = None,
    input_range: str | None = None,
    patient_pattern: str | None = None,
    out: PathArgument | None = None,
    seed: int = 0,
    devices: int = 1,
    tell: Tell = arguments.print_line,
) -> TrainedRun:
    """Train a network on labelled images, and choose temperature and threshold on validation images.

    The validation split is drawn from the train split by patient. The test split is not used. If training is
    interrupted, the same call resumes from the last finished epoch; a finished run is returned unchanged. TensorFlow
    is imported and seeded in this process.

    Args:
        data: Folder with class folders (``train/NORMAL``, ``train/PNEUMONIA``, ``test/...``), or a MedMNIST ``.npz``;
            or a :class:`~pneumo_edge.data.datasource.DataSource`, which says how other data is read.
        backbone: Name of a row of the table of backbones, such as ``"mobilenetv2"``; None with ``init``.
        recipe: Name of a recipe: ``"quick"``, ``"standard"``, ``"best"`` or ``"robust"``.
        image_size: Height and width of the images that the network takes, 96 to 512 pixels; by default 224, or what the
            network of ``init`` takes.
        alpha: Width of the network as a multiple of the usual one. Only some backbones have others than 1; MobileNetV2
            has 0.35 to 1.4.
        weights: Initial weights: a file, or a folder with the ImageNet weights. By default Keras downloads the
            ImageNet weights; if that fails, the weights of the bundled model are used.
        init: A Keras model that you trained (``.keras``, ``.h5``), to be trained further. Its last layer is replaced by
            a new one.
        input_range: With ``init``: what pixels were scaled to before they went into it, as for
            :func:`pneumo_edge.export`.
        patient_pattern: Regular expression whose one group is the patient in an image's file name. By default names of
            the Kermany data set are recognized.
        out: Folder for the run; by default ``runs/BACKBONE-RECIPE``, or ``runs/FILE-RECIPE`` with ``init``. An unusual
            alpha or image size follows the name of the backbone.
        seed: Seed of the initialization and of the order of images, 0 or more.
        devices: GPUs that fit the network together, 1 to 64, each with a part of every batch. Batch and learning rate
            are scaled (docs/training.md). Without a GPU, TensorFlow divides the processor, which is not faster.
        tell: Called with each note and warning, a line each; by default they are printed on standard error.

    Returns:
        The run; pass it to :func:`pneumo_edge.export`.

    Raises:
        ArgumentError: The backbone, recipe, image size or alpha is not available, arguments do not go together,
            ``seed`` is negative, or ``out`` is a file.
        ConversionError: The file of ``init`` cannot be read, holds code, or is no network from one image to classes.
        DataError: The data cannot be used.
        TrainingError: The folder contains a run with other settings, or the weights do not fit.
        BusyError: Another process trains in the folder.
        MissingExtraError: The extra ``train`` is not installed.

    Example:
        >>> run = pneumo_edge.train("chest_xray", "mobilenetv2", recipe="quick")
        >>> run.record.training.validation["auc"]
        0.99
    """
    arguments.check_name("recipe", recipe, RECIPES)
    side = None if image_size is None else arguments.whole("image_size", image_size, 1)
    seed = arguments.whole("seed", seed, 0)
    check_devices(arguments.whole("devices", devices, 1, distribution.MOST), recipe)
    path = None if weights is None else Path(weights)
    initial: InitialWeights | None = None
    if init is not None or input_range is not None:
        row, initial = open_init(
            None if init is None else Path(init),
            input_range,
            side,
            {"backbone": backbone is not None, "alpha": alpha != 1, "weights": weights is not None},
        )
    else:
        if backbone is None:
            raise ArgumentError(
                "no backbone and no network of your own was given",
                f"one of {', '.join(BACKBONES)}, or init",
                "Give backbone, or init with input_range",
            )
        arguments.check_name("backbone", backbone, BACKBONES)
        row = backbones.variant(backbone, alpha, SIDE if side is None else side)
    folder = Path(out) if out is not None else default_folder(row, recipe)
    dataset = read_data(data, patient_pattern, folder, tell, row.side)
    for line in describe(dataset, folder / runs.MANIFEST_NAME):
        tell(line)
    if not dataset.manifest.real:
        tell(PHANTOM)
    return train_on(dataset, Path(data), row, recipe, initial or path, folder, seed, devices)


def open_init(
    init: Path | None, input_range: str | None, side: int | None, others: Mapping[str, bool]
) -> tuple[Backbone, InitialWeights]:
    """Open a network that the user trained, to train it further.

    Args:
        init: Its file.
        input_range: What pixels were scaled to before they went into it.
        side: Height and width of the images, or None.
        others: Arguments that say what a network of the table is, and whether each was given.

    Raises:
        ArgumentError: Arguments do not go together, or cannot be used.
        ConversionError: The file cannot be read, holds code, or is no network from one image to classes.
        MissingExtraError: The extra ``train`` is not installed.
        TrainingError: The network has no layers to train, or no dense layer at its end.
    """
    if init is None:
        raise ArgumentError(
            "an input range was given without a network of your own",
            "it with init alone: a network of the table scales pixels itself",
            "Give init, or omit it",
        )
    if input_range is None:
        raise ArgumentError(
            f"no input range was given for {init}",
            f"what pixels were scaled to before they went into it: one of {', '.join(scaling.SCALINGS)}, LOW..HIGH, or "
            "mean=M;std=S",
            "Give it with --input-range",
        )
    scaling.parse(input_range)
    for name in (name for name, given in others.items() if given):
        raise ArgumentError(
            f"{name} was given with a network of your own", "one of the two: its file says what it is", f"Omit {name}"
        )
    import_keras()
    return own_network.open_own(init, input_range, side)


def check_devices(devices: int, recipe: str) -> None:
    """Refuse several devices for a recipe that trains only the head.

    Raises:
        ArgumentError: It does.
    """
    if devices > 1 and not RECIPES[recipe].fine_tune:
        raise ArgumentError(
            f"{devices} devices were given with the recipe {recipe}, which trains only the last layer",
            f"several devices with {', '.join(name for name, row in RECIPES.items() if row.fine_tune)}",
            "Omit devices (--devices), or give another recipe",
        )


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
    source = open_data(data, patient_pattern, folder, tell)
    import_keras()
    return prepare(source, cache_folder(), side, side)


def open_data(data: DataArgument, patient_pattern: str | None, folder: Path, tell: Tell) -> Source:
    """Open a data set for training, without TensorFlow; arguments and errors as of :func:`read_data`."""
    outputs.check_folder(folder)
    extras.check("keras", "train")
    return datasets.open_data(data, patient_pattern, tell=tell)


def import_keras() -> None:
    """Import Keras with TensorFlow, quietly and with as many threads as there are cores.

    This process then keeps the memory that it frees.

    Raises:
        MissingExtraError: The extra ``train`` is not installed.
    """
    extras.check("keras", "train")
    cores.bound_libraries()
    memory.keep_freed()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # TensorFlow leaves oneDNN off where the processor has no VNNI. A step then takes about twice the time.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with native_output.quiet_stderr():
        extras.need("keras", "train")


def describe(dataset: Dataset, record: Path) -> Iterator[str]:
    """Describe how many images are left out, and how validation is drawn, a line each.

    Args:
        dataset: The data set for training.
        record: The file that will name each image that is left out.
    """
    if left_out := dataset.manifest.left_out:
        copies = count_copies(left_out)
        of_them = f", {copies:,} of them because they are copies of test or validation images" if copies else ""
        yield f"{len(left_out):,} images are left out{of_them}; each is named in {record}"
    yield f"Validation: {dataset.manifest.rule}"


def train_on(
    dataset: Dataset,
    data: Path,
    backbone: Backbone,
    recipe: str,
    weights: InitialWeights | Path | None,
    folder: Path,
    seed: int,
    devices: int = 1,
) -> TrainedRun:
    """Train on a data set that has been read, under the lock of the run's folder.

    Args:
        dataset: The data set.
        data: Its path, for the record.
        backbone: The network.
        recipe: Name of the recipe.
        weights: Its initial weights, or the path that the user gave for them.
        folder: The run's folder.
        seed: Seed of the run.
        devices: Devices that fit the network together.

    Raises:
        TrainingError: The folder contains a run with other settings, or the weights do not fit.
        BusyError: Another process trains in the folder.
    """
    initial = weights if isinstance(weights, InitialWeights) else initial_weights.find(backbone, weights)
    with jobs.alone(folder / runs.RECORD_NAME, "training", jobs.SAME_COMMAND):
        record = fit.train(backbone, RECIPES[recipe], initial, dataset, data, folder, cache_folder(), seed, devices)
    keep_within_limit(cache_folder())
    return TrainedRun(folder, record)


def seed_folders(folder: Path, seeds: Iterable[int]) -> dict[int, Path]:
    """The folder of each seed's run: beside each other, with a hyphen and the seed at the end of the name."""
    return {seed: folder.with_name(f"{folder.name}-{seed}") for seed in seeds}


def train_seeds(
    dataset: Dataset,
    data: Path,
    backbone: Backbone,
    recipe: str,
    weights: InitialWeights | Path | None,
    folders: Mapping[int, Path],
    devices: int = 1,
) -> Iterator[TrainedRun]:
    """Train a network once with each seed, one run after the other; arguments as of :func:`train_on`.

    Each run is bit for bit the one that :func:`train_on` makes in a process of its own. Finished runs are returned
    unchanged.

    Args:
        dataset: As there.
        data: As there.
        backbone: As there.
        recipe: As there.
        weights: As there.
        folders: The folder of each seed's run.
        devices: As there.

    Yields:
        Each run as soon as it is finished.

    Raises:
        TrainingError: As there.
        BusyError: As there.
    """
    for seed, folder in folders.items():
        # Otherwise the names of layers would count on from run to run.
        extras.need("keras", "train").utils.clear_session()
        yield train_on(dataset, data, backbone, recipe, weights, folder, seed, devices)
