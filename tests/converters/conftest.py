from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pneumo_edge import runs
from pneumo_edge._util import files
from pneumo_edge.converters import keras_model
from pneumo_edge.converters.export import export
from pneumo_edge.converters.interface import Network
from pneumo_edge.converters.isolated import child_process
from pneumo_edge.data.phantom import make_phantom
from pneumo_edge.data.run_records import save_validation
from pneumo_edge.data.sources import SplitName, open_source
from pneumo_edge.data.tensors import Dataset, prepare
from pneumo_edge.evaluation.operating_point import ThresholdRule, choose_threshold
from pneumo_edge.formats import FORMATS, Format
from pneumo_edge.runs import Run
from pneumo_edge.spec import DataSpec, DecisionSpec, TrainingSpec
from pneumo_edge.task import PNEUMONIA

SIDE = 224


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data`` and, after it was prepared, its ``cache``."""
    folder = tmp_path_factory.mktemp("phantom")
    make_phantom(folder / "data", seed=2, train_per_class=60, test_per_class=4)
    return folder


@pytest.fixture(scope="session")
def dataset(phantom: Path) -> Dataset:
    return prepare(open_source(phantom / "data"), phantom / "cache", SIDE, SIDE)


KerasSays = dict[SplitName, npt.NDArray[np.float32]]


#: Writes the run of the tiny network into a folder, as if it had been trained on a data set of this path.
SaveRun = Callable[[Path, Dataset, Path], None]


@pytest.fixture(scope="session")
def save_run(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> SaveRun:
    def save(run: Path, dataset: Dataset, data_path: Path) -> None:
        run.mkdir(exist_ok=True)
        shutil.copy(tiny_models / "tiny.keras", run / runs.MODEL_NAME)
        manifest, validation = dataset.manifest, dataset.indices("val")
        labels = dataset.labels(validation)
        said = _ask(tiny_models / "tiny.keras", dataset, "val", tmp_path_factory.mktemp("keras"))
        scores = said[:, 1].astype(np.float64)
        manifest.save(run / runs.MANIFEST_NAME)
        save_validation(dataset, validation, {"probability": scores}, run / runs.VALIDATION_NAME)
        threshold = choose_threshold(ThresholdRule.YOUDEN, labels, scores)
        Run(
            backbone="tiny",
            class_names=PNEUMONIA.class_names,
            height=SIDE,
            width=SIDE,
            decision=DecisionSpec(PNEUMONIA.class_names[1], threshold, ThresholdRule.YOUDEN, "validation"),
            temperature=1.0,
            data=DataSpec(
                manifest.source,
                manifest.real,
                manifest.fingerprint,
                manifest.counts,
                manifest.licence,
                patient_pattern=manifest.patient_pattern,
            ),
            training=TrainingSpec("none", 1, "random", 0, {}),
            versions={"python": platform.python_version()},
            notice="Research software; not a medical device.",
            data_path=str(data_path),
            model_sha256=files.sha256(run / runs.MODEL_NAME),
        ).save(run)

    return save


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, phantom: Path, dataset: Dataset, save_run: SaveRun) -> Path:
    """A finished run of a network small enough to be converted in a second, on phantom images."""
    run = tmp_path_factory.mktemp("run")
    save_run(run, dataset, phantom / "data")
    return run


#: tflite-runtime 2.14 computes the tiny network's one wide convolution wrongly where its input is quantized as it
#: comes. (MobileNetV2's and EfficientNetB0's it computes right.)
_WRONG_ON_TFLITE_RUNTIME = "tflite-dynamic"


@pytest.fixture(scope="session")
def rows() -> list[Format]:
    """Every format, with the engines that run it right on the tiny network."""
    wrong = FORMATS[_WRONG_ON_TFLITE_RUNTIME]
    return [replace(row, engines=("litert",)) if row == wrong else row for row in FORMATS.values()]


@pytest.fixture(scope="session")
def exported(tiny_run: Path, phantom: Path, rows: list[Format], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the tiny network in every format."""
    out = tmp_path_factory.mktemp("models")
    outcomes = list(export(tiny_run, rows, out, phantom / "cache"))
    assert not [outcome.missed for outcome in outcomes if outcome.missed]
    assert [outcome.path.name for outcome in outcomes] == [row.file_name("tiny") for row in rows]
    return out


@pytest.fixture(scope="session")
def keras_says(tiny_models: Path, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> KerasSays:
    """Probabilities of the Keras model, by split."""
    splits: tuple[SplitName, ...] = ("val", "test")
    folder = tmp_path_factory.mktemp("keras")
    return {split: _ask(tiny_models / "tiny.keras", dataset, split, folder) for split in splits}


def _ask(model: Path, dataset: Dataset, split: SplitName, folder: Path) -> npt.NDArray[np.float32]:
    """Probabilities of a Keras model; TensorFlow stays out of this process."""
    with child_process(folder / "keras.log") as child:
        pixels = dataset.rgb(dataset.indices(split))
        return child.call(keras_model.answers, Network(model, PNEUMONIA), pixels)["probability"]
