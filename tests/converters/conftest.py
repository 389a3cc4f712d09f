from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pneumo_edge import runs
from pneumo_edge._util import files
from pneumo_edge.converters import isolated, keras_model
from pneumo_edge.converters.export import export
from pneumo_edge.converters.interface import Network
from pneumo_edge.data.phantom import make_phantom
from pneumo_edge.data.run_records import save_validation
from pneumo_edge.data.sources import SplitName, open_source
from pneumo_edge.data.tensors import Dataset, prepare
from pneumo_edge.evaluation.operating_point import ThresholdRule, choose_threshold
from pneumo_edge.formats import FORMATS, Format
from pneumo_edge.runs import Run
from pneumo_edge.spec import DataSpec, DecisionSpec, TrainingSpec
from pneumo_edge.task import PNEUMONIA
from tests.converting import converting_in

SIDE = 224

MakeOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(autouse=True)
def one_converter(converter: isolated.Child) -> Iterator[None]:
    """Exports of the tests here share a child process."""
    with converting_in(converter):
        yield


@pytest.fixture(scope="session")
def phantom(make_once: MakeOnce) -> Path:
    """A folder with ``data`` and its ``cache``."""

    def fill(folder: Path) -> None:
        make_phantom(folder / "data", seed=2, train_per_class=60, test_per_class=4)
        prepare(open_source(folder / "data"), folder / "cache", SIDE, SIDE)

    return make_once("converters-phantom", fill)


@pytest.fixture(scope="session")
def dataset(phantom: Path) -> Dataset:
    return prepare(open_source(phantom / "data"), phantom / "cache", SIDE, SIDE)


KerasSays = dict[SplitName, npt.NDArray[np.float32]]


#: Writes the run of the tiny network into a folder, as if it had been trained on a data set of this path.
SaveRun = Callable[[Path, Dataset, Path], None]


@pytest.fixture(scope="session")
def save_run(tiny_models: Path, converter: isolated.Child) -> SaveRun:
    def save(run: Path, dataset: Dataset, data_path: Path) -> None:
        run.mkdir(exist_ok=True)
        shutil.copy(tiny_models / "tiny.keras", run / runs.MODEL_NAME)
        manifest, validation = dataset.manifest, dataset.indices("val")
        labels = dataset.labels(validation)
        said = _ask(tiny_models / "tiny.keras", dataset, "val", converter)
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
def made_run(make_once: MakeOnce, phantom: Path, dataset: Dataset, save_run: SaveRun) -> Path:
    return make_once("converters-run", lambda run: save_run(run, dataset, phantom / "data"))


@pytest.fixture(scope="session")
def tiny_run(made_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a network small enough to be converted in a second, on phantom images.

    A copy for this test process: a run is exported by one process at a time.
    """
    return Path(shutil.copytree(made_run, tmp_path_factory.mktemp("run") / "tiny"))


#: tflite-runtime 2.14 computes the tiny network's one wide convolution wrongly where its input is quantized as it
#: comes. (MobileNetV2's and EfficientNetB0's it computes right.)
_WRONG_ON_TFLITE_RUNTIME = "tflite-dynamic"


@pytest.fixture(scope="session")
def rows() -> list[Format]:
    """Every format, with the engines that run it right on the tiny network."""
    wrong = FORMATS[_WRONG_ON_TFLITE_RUNTIME]
    return [replace(row, engines=("litert",)) if row == wrong else row for row in FORMATS.values()]


@pytest.fixture(scope="session")
def exported(tiny_run: Path, phantom: Path, rows: list[Format], make_once: MakeOnce, converter: isolated.Child) -> Path:
    """Folder with the tiny network in every format."""

    def fill(out: Path) -> None:
        with converting_in(converter):
            outcomes = list(export(tiny_run, rows, out, phantom / "cache"))
        assert not [outcome.missed for outcome in outcomes if outcome.missed]
        assert [outcome.path.name for outcome in outcomes] == [row.file_name("tiny") for row in rows]

    return make_once("converters-models", fill)


@pytest.fixture(scope="session")
def keras_says(tiny_models: Path, dataset: Dataset, converter: isolated.Child) -> KerasSays:
    """Probabilities of the Keras model, by split."""
    splits: tuple[SplitName, ...] = ("val", "test")
    return {split: _ask(tiny_models / "tiny.keras", dataset, split, converter) for split in splits}


def _ask(model: Path, dataset: Dataset, split: SplitName, converter: isolated.Child) -> npt.NDArray[np.float32]:
    """Probabilities of a Keras model; TensorFlow stays out of this process."""
    pixels = dataset.rgb(dataset.indices(split))
    return converter.call(keras_model.answers, Network(model, PNEUMONIA), pixels)["probability"]
