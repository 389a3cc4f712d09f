"""First step of an export: prepares the data that all files of a run are made from and compared with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pneumo_edge import runs
from pneumo_edge._util import files
from pneumo_edge._util.progress import bar
from pneumo_edge.converters import calibration, features, keras_model, provenance, reference
from pneumo_edge.converters.calibration import Representative
from pneumo_edge.converters.interface import Network
from pneumo_edge.converters.isolated import Child
from pneumo_edge.converters.provenance import Validation
from pneumo_edge.converters.reference import Reference
from pneumo_edge.data.sources import DataSource, open_source, recorded_path
from pneumo_edge.data.splits import Manifest
from pneumo_edge.data.tensors import Dataset
from pneumo_edge.data.tensors import prepare as prepare_data
from pneumo_edge.errors import ConversionError
from pneumo_edge.evaluation.metrics import distances
from pneumo_edge.evaluation.operating_point import ThresholdRule
from pneumo_edge.formats import Format
from pneumo_edge.runs import Run
from pneumo_edge.spec import PROBABILITY


@dataclass(frozen=True)
class Opened:
    """A finished run with its training data and the validation results of training."""

    folder: Path
    run: Run
    validation: Validation
    dataset: Dataset

    @property
    def model(self) -> Path:
        """The ``.keras`` file."""
        return self.folder / runs.MODEL_NAME

    @property
    def network(self) -> Network:
        """The network to convert."""
        return Network(self.model, self.run.task)


@dataclass(frozen=True)
class Prepared:
    """The inputs of the conversion, shared by all files of a run.

    Attributes:
        opened: The run.
        out: Folder for the model files.
        checkpoint: SHA-256 of the ``.keras`` file.
        representative: The calibration images.
        reference: The answers of the Keras model on the validation images.
        reference_sha256: SHA-256 of the reference's file in ``out``.
    """

    opened: Opened
    out: Path
    checkpoint: str
    representative: Representative
    reference: Reference
    reference_sha256: str

    @property
    def described(self) -> str:
        """A description of the reference's images, for the record."""
        return f"validation split of {self.opened.run.data.name}"

    def path(self, row: Format) -> Path:
        """The path of a format's file."""
        return self.out / row.file_name(self.opened.run.backbone)


def open_run(folder: Path, run: Run, cache: Path, data: Path | DataSource | None) -> Opened:
    """Check that a run's folder is unchanged since training, and open the data that it was trained on.

    Raises:
        ConversionError: Files have changed, or the data is different.
        DataError: The data cannot be opened.
    """
    validation = provenance.check(folder, run)
    # The split is not drawn again, because another version or further files may change it.
    split = Manifest.load(folder / runs.MANIFEST_NAME)
    if split.task != run.task:
        raise ConversionError(
            f"{folder / runs.MANIFEST_NAME} is of the classes {', '.join(split.task.class_names)}, with "
            f"{split.task.positive_class or 'none'} as the positive one",
            f"those of the run: {', '.join(run.task.class_names)}, with {run.task.positive_class or 'none'}",
            "Put back what training wrote, or train again",
        )
    read = run.data.options | run.data_paths | {"patient_pattern": run.data.patient_pattern}
    source = open_source(DataSource.of(data or recorded_path(run.data_path, folder)).with_defaults(read), task=run.task)
    dataset = prepare_data(source, cache, run.height, run.width, split)
    found = dataset.manifest.fingerprint
    if found != run.data.fingerprint:
        raise ConversionError(
            f"the data has the fingerprint {found[:12]}",
            f"{run.data.fingerprint[:12]}, that of the data the run was trained on",
            "Give that data (data / --data)",
        )
    return Opened(folder, run, validation, dataset)


def prepare(opened: Opened, out: Path, child: Child) -> Prepared:
    """Draw calibration images, fit components, and run the Keras model. Existing results are reused.

    Args:
        opened: The run; the components are written beside its ``.keras`` file.
        out: Folder for calibration manifest and reference.
        child: The child process that runs TensorFlow.

    Raises:
        ConversionError: The child process failed, or the network's answers on the validation images differ from those
            of training.
    """
    run, dataset = opened.run, opened.dataset
    checkpoint = files.sha256(opened.model)
    representative = calibration.draw(dataset, out / f"{run.backbone}-calibration.json")
    asked_for = (*keras_model.OUTPUTS, _fit_components(opened, checkpoint, child))
    path = out / reference.file_name(run.backbone)
    answers = _load_reference(path, opened, checkpoint, asked_for)
    if answers is None:
        with bar(f"Exporting {run.backbone}: answers of the Keras model", 1) as advance:
            answers = _make_reference(opened, checkpoint, asked_for, child)
            advance(1, "")
        reference.save(answers, path)
    prepared = Prepared(opened, out, checkpoint, representative, answers, files.sha256(path))
    provenance.check_scores(opened.folder, opened.validation, answers)
    return prepared


def _fit_components(opened: Opened, checkpoint: str, child: Child) -> str:
    """Fit the components beside the checkpoint, unless they exist; return the key of their inputs."""
    chosen, familiar = features.choose(opened.dataset), opened.dataset.indices("val")
    key = features.key(checkpoint, opened.dataset, np.concatenate([chosen, familiar]))
    if not features.is_fitted(opened.model, key):
        with bar(f"Exporting {opened.run.backbone}: components of training images", 1) as advance:
            grey = opened.dataset.grey
            child.call(features.fit, opened.model, grey[chosen], grey[familiar], key)
            advance(1, "")
    return key


def _load_reference(path: Path, opened: Opened, checkpoint: str, asked_for: tuple[str, ...]) -> Reference | None:
    """The existing reference, if it is up to date."""
    try:
        found = reference.load(path, opened.dataset)
    except ConversionError:
        return None
    made_from = found.checkpoint, found.fingerprint, found.asked_for
    return found if made_from == (checkpoint, opened.run.data.fingerprint, asked_for) else None


def _make_reference(opened: Opened, checkpoint: str, asked_for: tuple[str, ...], child: Child) -> Reference:
    run, dataset = opened.run, opened.dataset

    def ask(pixels: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        return child.call(keras_model.answers, opened.network, pixels)

    indices = dataset.indices("val")
    pixels, entries = dataset.rgb(indices), dataset.entries(indices)
    spread = np.linspace(0, len(indices) - 1, min(len(indices), reference.TRAVELLING)).astype(int)
    red = reference.red_alone(pixels[spread])
    said, task = ask(pixels), run.task
    scores, red_scores, blue_scores = (task.scores(each[PROBABILITY]) for each in (said, ask(red), ask(red[..., ::-1])))
    # The images whose answer changes most when red and blue are exchanged.
    telling = np.argsort(-distances(red_scores, blue_scores), kind="stable")[: reference.IN_COLOUR]
    return Reference(
        checkpoint=checkpoint,
        fingerprint=run.data.fingerprint,
        sha256=np.array([entry.sha256 for entry in entries]),
        pixels=pixels,
        labels=task.targets(dataset.labels(indices)),
        patients=np.unique([entry.patient for entry in entries], return_inverse=True)[1],
        scores=scores,
        threshold=run.decision.threshold,
        rule=ThresholdRule(run.decision.rule),
        red=red[telling],
        red_scores=red_scores[telling],
        blue_scores=blue_scores[telling],
        outputs={name: array for name, array in said.items() if name != PROBABILITY},
        asked_for=asked_for,
    )
