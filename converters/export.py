"""From a finished run to verified files: the one function behind ``pneumo-edge export``."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from converters import calibration, isolated, keras_model, metadata, onnx, tflite
from converters.formats import Format
from converters.verify import Reference, Verified, verify
from pneumo_edge import files, runs
from pneumo_edge.data.sources import POSITIVE_CLASS, open_source
from pneumo_edge.data.tensors import Dataset, prepare
from pneumo_edge.errors import ConversionError, GateError
from pneumo_edge.evaluation.operating_point import ThresholdRule
from pneumo_edge.progress import bar
from pneumo_edge.runs import Run
from pneumo_edge.spec import CalibrationSpec, InputSpec, ModelSpec

_CONVERT = {"tflite": tflite.convert, "onnx": onnx.convert}
_CONVERTER_LIBRARIES = ("keras", "tensorflow", "onnx", "tf2onnx")
_LOG_NAME = "converter.log"


@dataclass(frozen=True)
class Exported:
    """A format's outcome: the file's path and spec, or the bound that was missed."""

    row: Format
    path: Path
    spec: ModelSpec | None
    missed: GateError | None = None


def export(
    folder: Path, rows: Sequence[Format], out: Path, cache: Path, data: Path | None = None
) -> Iterator[Exported]:
    """Convert a finished run to each format, verify each file, and keep those that pass.

    Args:
        folder: The run's folder.
        rows: Formats to make.
        out: Folder for the model files and the calibration manifest.
        cache: Folder with decoded data sets.
        data: The data set that the run was trained on; by default where it lay then.

    Yields:
        The outcome of each format, as soon as it is known. A file of that name from before is removed
        first, so that what lies in ``out`` has passed.

    Raises:
        ConversionError: There is no finished run, the data is not what it was trained on, or a
            converter failed.
        DataError: The data cannot be opened.
        MissingExtraError: TensorFlow, a converter or every engine of a format is missing.
    """
    run = runs.load(folder)
    dataset = prepare(open_source(data or Path(run.data_path)), cache, run.height, run.width)
    _check_fingerprint(run, dataset)
    model = folder / runs.MODEL_NAME
    with isolated.child_process(folder / _LOG_NAME) as child, tempfile.TemporaryDirectory(dir=folder) as workplace:
        with bar(f"Exporting {run.backbone}: reference probabilities", 1) as advance:
            reference = _reference(child, model, run, dataset)
            advance(1, "")
        chosen = calibration.choose(dataset)
        manifest = out / f"{run.backbone}-calibration.json"
        calibrated = CalibrationSpec(len(chosen), calibration.write_manifest(dataset, chosen, manifest))
        pixels = calibration.pixels(dataset, chosen)

        def start(row: Format) -> Callable[[], None]:
            target = Path(workplace) / row.file_name(run.backbone)
            return child.start(_CONVERT[row.target], model, row, pixels if row.calibrated else None, target)

        # One file is converted in the child process while this one verifies the file before it.
        under_way = start(rows[0])
        for row, following in itertools.zip_longest(rows, rows[1:]):
            path = out / row.file_name(run.backbone)
            path.unlink(missing_ok=True)
            # Under its own name already, because engines and messages name the file.
            converted = Path(workplace) / path.name
            with bar(f"Converting to {path.name}", 1) as advance:
                under_way()
                advance(1, "")
            if following:
                under_way = start(following)
            try:
                verified = verify(converted, row, reference)
            except GateError as error:
                yield Exported(row, path, None, error)
                continue
            spec = _spec(run, row, verified, calibrated if row.calibrated else None)
            with files.atomic(path) as temporary:
                metadata.write_spec(converted, temporary, spec)
            yield Exported(row, path, spec)


def _reference(child: isolated.Child, model: Path, run: Run, dataset: Dataset) -> Reference:
    indices = dataset.indices("val")
    pixels = dataset.rgb(indices)
    positive = run.class_names.index(POSITIVE_CLASS)
    scores = child.call(keras_model.probabilities, model, pixels)[:, positive].astype("float64")
    described = f"validation split of {run.data.name}"
    rule = ThresholdRule(run.decision.rule)
    return Reference(pixels, dataset.labels(indices), scores, positive, run.decision.threshold, rule, described)


def _spec(run: Run, row: Format, verified: Verified, calibrated: CalibrationSpec | None) -> ModelSpec:
    return ModelSpec(
        name=f"{run.backbone}-{row.name}",
        backbone=run.backbone,
        format=row.name,
        class_names=run.class_names,
        input=InputSpec(run.height, run.width, 3, row.input_dtype, "bilinear"),
        decision=replace(run.decision, threshold=verified.threshold),
        temperature=run.temperature,
        data=run.data,
        training=run.training,
        versions={**run.versions, **{name: version(name) for name in _CONVERTER_LIBRARIES}},
        notice=run.notice,
        verification=verified.verification,
        calibration=calibrated,
    )


def _check_fingerprint(run: Run, dataset: Dataset) -> None:
    found = dataset.manifest.fingerprint
    if found != run.data.fingerprint:
        raise ConversionError(
            f"the data has the fingerprint {found[:12]}",
            f"{run.data.fingerprint[:12]}, that of the data the run was trained on",
            "Give that data with --data",
        )
