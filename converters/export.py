"""From a finished run to verified files: the one function behind ``pneumo-edge export``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pneumo_edge import runs
from pneumo_edge._util import extras, files, jobs, processor, scratch
from pneumo_edge._util.progress import bar
from pneumo_edge.backbones import BACKBONES
from pneumo_edge.converters import (
    calibration,
    convert,
    features,
    isolated,
    keras_model,
    metadata,
    proof,
    provenance,
    reference,
)
from pneumo_edge.converters.proof import Origin, Proof
from pneumo_edge.converters.provenance import Validation
from pneumo_edge.converters.reference import Reference
from pneumo_edge.converters.verify import Verified, compare_calibrations, verify
from pneumo_edge.data.sources import open_source
from pneumo_edge.data.splits import Manifest
from pneumo_edge.data.tensors import Dataset, prepare
from pneumo_edge.errors import ConversionError, GateError, ModelFileError, PneumoEdgeError
from pneumo_edge.evaluation import input_check
from pneumo_edge.evaluation.conformal import COVERAGE, conformal_bounds, reachable
from pneumo_edge.evaluation.metrics import Scores
from pneumo_edge.evaluation.operating_point import ThresholdRule
from pneumo_edge.formats import Format
from pneumo_edge.runs import Run
from pneumo_edge.runtime import engines
from pneumo_edge.runtime.classifier import read_spec
from pneumo_edge.spec import (
    COMPONENTS,
    PROBABILITY,
    CalibrationSpec,
    ConformalSpec,
    DecodingSpec,
    InputCheckSpec,
    InputSpec,
    ModelSpec,
    OutputSpec,
)

_CONVERTER_LIBRARIES = ("ai-edge-quantizer", "keras", "onnx", "tensorflow", "tf2onnx")
_LOG_NAME = "converter.log"


@dataclass(frozen=True)
class Exported:
    """A format's outcome: the file's path and spec, or why there is none.

    ``made`` is False where a file from before is still right.
    """

    row: Format
    path: Path
    spec: ModelSpec | None
    missed: PneumoEdgeError | None = None
    made: bool = True


def export(
    folder: Path, rows: Sequence[Format], out: Path, cache: Path, data: Path | None = None
) -> Iterator[Exported]:
    """Convert a finished run to each format, verify each file, and keep those that pass.

    Beside the files come their proofs (:mod:`pneumo_edge.converters.proof`), the reference set that they were held
    against (:mod:`pneumo_edge.converters.reference`) and the calibration manifest.

    Args:
        folder: The run's folder.
        rows: Formats to make.
        out: Folder for the model files.
        cache: Folder with decoded data sets.
        data: The data set that the run was trained on; by default where it lay then.

    Yields:
        The outcome of each format, as soon as it is known. A file that follows from the same network, settings and
        versions as it would now is left alone; any other of that name is removed first, so that what lies in
        ``out`` has passed.

    Raises:
        ConversionError: There is no finished run, the data is not what it was trained on, or the folder does not hold
            what training left in it (:mod:`pneumo_edge.converters.provenance`).
        BusyError: Another process trains the run, exports it, or writes the same files.
        DataError: The data cannot be opened.
        MissingExtraError: TensorFlow, a converter or every engine of a format is missing.
    """
    run = runs.load(folder)
    with ExitStack() as stack:
        # Runs of several backbones may go into one folder side by side.
        for target in (folder / runs.RECORD_NAME, out / reference.file_name(run.backbone)):
            stack.enter_context(jobs.alone(target, "export", jobs.SAME_COMMAND))
        validation = provenance.check(folder, run)
        # Not drawn again: another version may draw otherwise, and files may have come to lie beside the run's own.
        split = Manifest.load(folder / runs.MANIFEST_NAME)
        source = open_source(data or Path(run.data_path), run.data.patient_pattern)
        dataset = prepare(source, cache, run.height, run.width, split)
        _check_fingerprint(run, dataset)
        workshop = _Workshop(folder, run, dataset, out, stack)
        workshop.check_claims(validation)
        up_to_date = [row for row in rows if workshop.is_up_to_date(row)]
        for row in rows:
            if row not in up_to_date:
                workshop.order(row)
        for row in rows:
            if row in up_to_date:
                path = workshop.path(row)
                yield Exported(row, path, read_spec(path), made=False)
            else:
                yield workshop.deliver(row)


class _Workshop:
    """Makes and verifies the files of one run; TensorFlow works in a child process, one order after the other."""

    def __init__(self, folder: Path, run: Run, dataset: Dataset, out: Path, stack: ExitStack) -> None:
        self._model, self._run, self._dataset, self._out = folder / runs.MODEL_NAME, run, dataset, out
        # It outlives the child, which may be at work there when it is ended.
        self._place = stack.enter_context(scratch.folder(folder))
        self._child = stack.enter_context(isolated.child_process(folder / _LOG_NAME))
        self._orders: dict[str, Callable[[], float]] = {}
        self._other_orders: dict[str, Callable[[], float]] = {}
        self._checkpoint = files.sha256(self._model)
        count = calibration.IMAGES
        chosen, others = calibration.choose(dataset, count), calibration.choose(dataset, count, skip=count)
        manifest = calibration.write_manifest(dataset, chosen, others, out / f"{run.backbone}-calibration.json")
        self._calibrated = CalibrationSpec(len(chosen), manifest)
        self._pixels = calibration.pixels(dataset, chosen)
        # A set of fewer is another kind of set, and its ranges say nothing of the first one's.
        self._other_pixels = calibration.pixels(dataset, others) if len(others) == len(chosen) else None
        self._asked_for = (*keras_model.OUTPUTS, self._fit_components())
        self._described = f"validation split of {run.data.name}"
        self._reference = self._find_reference()
        self._reference_sha256 = files.sha256(out / reference.file_name(run.backbone))

    def check_claims(self, validation: Validation) -> None:
        """Refuse a network that says something else of the validation images than was written in training."""
        provenance.check_scores(self._model.parent, validation, self._reference)

    def path(self, row: Format) -> Path:
        """Where a format's file belongs."""
        return self._out / row.file_name(self._run.backbone)

    def is_up_to_date(self, row: Format) -> bool:
        """Whether that file is there, and would come out the same."""
        return proof.still_holds(self.path(row), self._origin(row))

    def order(self, row: Format) -> None:
        """Have the child process convert a format in its turn."""
        for path in (self.path(row), proof.path(self.path(row))):
            path.unlink(missing_ok=True)
        pixels = self._pixels if row.calibrated else None
        self._orders[row.id] = self._child.start(convert.convert, self._model, row, pixels, self._converted(row))
        if row.calibrated and self._other_pixels is not None:
            self._other_orders[row.id] = self._child.start(
                convert.convert, self._model, row, self._other_pixels, self._calibrated_otherwise(row)
            )

    def deliver(self, row: Format) -> Exported:
        """Wait for an ordered file, verify it, and put it in its place with its spec and its proof."""
        path = self.path(row)
        try:
            with bar(f"Converting to {path.name}", 1) as advance:
                share = self._orders[row.id]()
                advance(1, "")
            positive = self._run.task.positive_index
            verified = verify(self._converted(row), row, self._reference, positive, self._described)
            calibrated = self._calibration(row, share, positive, verified)
        except (ConversionError, GateError, ModelFileError) as error:
            return Exported(row, path, None, error)
        spec = self._spec(row, verified, calibrated)
        with files.atomic(path) as temporary:
            spec = metadata.write_spec(self._converted(row), temporary, spec)
            Proof(
                path.name,
                temporary.stat().st_size,
                files.sha256(temporary),
                self._origin(row),
                verified.threshold,
                verified.verification,
                calibrated,
            ).save(path)
        return Exported(row, path, spec)

    def _calibration(self, row: Format, share: float, positive: int, verified: Verified) -> CalibrationSpec | None:
        if not row.calibrated:
            return None
        calibrated = replace(self._calibrated, share=share)
        if row.id not in self._other_orders:
            return calibrated
        with bar(f"Converting to {self.path(row).name} on other calibration images", 1) as advance:
            self._other_orders[row.id]()
            advance(1, "")
        stability = compare_calibrations(self._converted(row), self._calibrated_otherwise(row), row, verified, positive)
        return replace(calibrated, stability=stability)

    def _converted(self, row: Format) -> Path:
        # Under its own name already, because engines and messages name the file.
        return self._place / row.file_name(self._run.backbone)

    def _calibrated_otherwise(self, row: Format) -> Path:
        return self._place / row.file_name(f"{self._run.backbone}-on-other-images")

    def _origin(self, row: Format) -> Origin:
        versions = self._converter_versions()
        for name in row.engines:
            info = engines.ENGINES[name]
            if extras.is_installed(info.library):
                versions[name] = version(info.library)
        return Origin(
            self._run.backbone,
            self._checkpoint,
            self._run.data.fingerprint,
            self._calibrated.manifest if row.calibrated else None,
            self._reference_sha256,
            row.record,
            versions,
            COVERAGE,
            processor.kind() if row.by_processor else None,
        )

    def _converter_versions(self) -> dict[str, str]:
        return {name: version(name) for name in _CONVERTER_LIBRARIES}

    def _fit_components(self) -> str:
        """Fit the components beside the checkpoint, unless they are there; what they follow from."""
        chosen = features.choose(self._dataset)
        key = features.key(self._checkpoint, self._dataset, chosen)
        if not features.is_fitted(self._model, key):
            with bar(f"Exporting {self._run.backbone}: components of training images", 1) as advance:
                self._child.call(features.fit, self._model, self._dataset.grey[chosen], key)
                advance(1, "")
        return key

    def _find_reference(self) -> Reference:
        path = self._out / reference.file_name(self._run.backbone)
        try:
            found = reference.load(path, self._dataset)
        except ConversionError:
            pass
        else:
            made_from = found.checkpoint, found.fingerprint, found.asked_for
            if made_from == (self._checkpoint, self._run.data.fingerprint, self._asked_for):
                return found
        with bar(f"Exporting {self._run.backbone}: what the Keras model says", 1) as advance:
            made = self._make_reference()
            advance(1, "")
        reference.save(made, path)
        return made

    def _make_reference(self) -> Reference:
        run, dataset, indices = self._run, self._dataset, self._dataset.indices("val")
        pixels, labels, entries = dataset.rgb(indices), dataset.labels(indices), dataset.entries(indices)
        spread = np.linspace(0, len(indices) - 1, min(len(indices), reference.TRAVELLING)).astype(int)
        red = reference.red_alone(pixels[spread])
        said = self._keras_says(pixels)
        scores, red_scores, blue_scores = map(
            self._scores, (said, self._keras_says(red), self._keras_says(red[..., ::-1]))
        )
        telling = np.argsort(-np.abs(red_scores - blue_scores), kind="stable")[: reference.IN_COLOUR]
        return Reference(
            checkpoint=self._checkpoint,
            fingerprint=run.data.fingerprint,
            sha256=np.array([entry.sha256 for entry in entries]),
            pixels=pixels,
            labels=labels,
            patients=np.unique([entry.patient for entry in entries], return_inverse=True)[1],
            scores=scores,
            threshold=run.decision.threshold,
            rule=ThresholdRule(run.decision.rule),
            red=red[telling],
            red_scores=red_scores[telling],
            blue_scores=blue_scores[telling],
            outputs={name: array for name, array in said.items() if name != PROBABILITY},
            asked_for=self._asked_for,
        )

    def _keras_says(self, pixels: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        said: dict[str, npt.NDArray[np.float32]] = self._child.call(keras_model.answers, self._model, pixels)
        return said

    def _scores(self, said: dict[str, npt.NDArray[np.float32]]) -> Scores:
        return said[PROBABILITY][:, self._run.task.positive_index].astype(np.float64)

    def _spec(self, row: Format, verified: Verified, calibrated: CalibrationSpec | None) -> ModelSpec:
        run = self._run
        return ModelSpec(
            name=f"{run.backbone}-{row.name}",
            backbone=run.backbone,
            format=row.name,
            class_names=run.class_names,
            input=InputSpec(run.height, run.width, 3, row.input_dtype, "bilinear", decoding=_decoding(run.backbone)),
            decision=replace(run.decision, threshold=verified.threshold),
            temperature=run.temperature,
            data=run.data,
            training=run.training,
            versions={**run.versions, **self._converter_versions()},
            notice=run.notice,
            verification=verified.verification,
            calibration=calibrated,
            outputs=tuple(
                OutputSpec(
                    name, array.shape[1:], keras_model.OTHER_OUTPUTS[name].description, name not in verified.strayed
                )
                for name, array in self._reference.outputs.items()
            ),
            conformal=self._conformal(verified),
            input_check=self._input_check(verified),
        )

    def _input_check(self, verified: Verified) -> InputCheckSpec | None:
        answers = verified.answers
        if COMPONENTS not in answers.outputs or COMPONENTS in verified.strayed:
            return None
        components = answers.outputs[COMPONENTS].astype(np.float64)
        return input_check.learn(components, features.parts(self._model), answers.patients.tolist(), self._described)

    def _conformal(self, verified: Verified) -> ConformalSpec:
        answers = verified.answers
        patients = {
            name: len(np.unique(answers.patients[answers.labels == (name == self._run.task.positive_class)]))
            for name in self._run.class_names
        }
        coverage = reachable(COVERAGE, min(patients.values()))
        bounds = conformal_bounds(answers.labels, answers.scores, answers.patients.tolist(), coverage)
        return ConformalSpec(coverage, bounds.least_positive, bounds.most_negative, patients, self._described)


def _decoding(backbone: str) -> DecodingSpec:
    """What was measured of a backbone; images of another one are decoded in full."""
    return DecodingSpec(BACKBONES[backbone].decoder_scale if backbone in BACKBONES else None)


def _check_fingerprint(run: Run, dataset: Dataset) -> None:
    found = dataset.manifest.fingerprint
    if found != run.data.fingerprint:
        raise ConversionError(
            f"the data has the fingerprint {found[:12]}",
            f"{run.data.fingerprint[:12]}, that of the data the run was trained on",
            "Give that data with --data",
        )
