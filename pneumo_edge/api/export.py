"""``pneumo_edge.export``: from a trained run to model files that passed the acceptance checks of their format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pneumo_edge._util import outputs
from pneumo_edge._util.cache import cache_folder
from pneumo_edge.api import arguments
from pneumo_edge.api.arguments import DataArgument, PathArgument
from pneumo_edge.converters import export as pipeline
from pneumo_edge.converters import proof
from pneumo_edge.converters.export import Exported
from pneumo_edge.converters.proof import Proof
from pneumo_edge.data.datasource import DataSource
from pneumo_edge.errors import ArgumentError, GateError
from pneumo_edge.formats import USUAL, select
from pneumo_edge.spec import ModelSpec


@dataclass(frozen=True)
class ExportedFile:
    """A model file that passed its acceptance checks. It can be used wherever a path of a model file can.

    Attributes:
        path: The ``.tflite`` or ``.onnx`` file.
        spec: The ModelSpec in the file: classes, input, threshold, training, and measurements.
        proof: The content of ``PATH.proof.json``: what the file was made from, and what was measured.
        made: False if the file already existed and would be the same.
    """

    path: Path
    spec: ModelSpec
    proof: Proof
    made: bool

    def __fspath__(self) -> str:
        return str(self.path)


def export(
    runs: PathArgument | Sequence[PathArgument],
    formats: str | Sequence[str] = USUAL,
    *,
    out: PathArgument = "models",
    data: DataArgument | None = None,
) -> tuple[ExportedFile, ...]:
    """Convert trained runs to model files and verify each file against the Keras model.

    TensorFlow runs in a child process. Each file is verified on every installed engine of its format.

    Args:
        runs: Finished runs, or their folders; one or several.
        formats: A format (``"tflite-int8"``), all formats of a target (``"tflite"``, ``"onnx"``) or of a name
            (``"int8"``), or ``"all"``; one or several. By default tflite-fp32, tflite-fp16, tflite-int8 and onnx-fp32.
        out: Folder for the model files.
        data: The data that the runs were trained on; by default at the path used for training.

    Returns:
        The files, by run and then by format.

    Raises:
        GateError: A file failed its acceptance checks, or its converter failed. The other files exist and are
            returned at once by the next call.
        ArgumentError: ``formats`` is empty or names an unknown format, or ``out`` is a file.
        ConversionError: A run is not finished, or the data is not what it was trained on.
        BusyError: Another process writes the same files.
        MissingExtraError: The extra ``convert`` is not installed.

    Example:
        >>> files = pneumo_edge.export(run, formats="tflite-int8")
        >>> files[0].path, files[0].spec.decision.threshold
        (PosixPath('models/mobilenetv2-int8.tflite'), 0.62)
    """
    made: list[ExportedFile] = []
    missed: list[str] = []
    for outcome in convert(runs, formats, Path(out), data):
        if outcome.spec is None:
            missed.append(str(outcome.missed))
        else:
            made.append(ExportedFile(outcome.path, outcome.spec, proof.load(outcome.path), outcome.made))
    if missed:
        raise GateError(
            f"{len(missed)} of {len(missed) + len(made)} files failed ({' '.join(missed)})",
            "files that pass the acceptance checks of their format",
            f"Omit those formats; the files that passed are in {out}",
        )
    return tuple(made)


def convert(
    runs: PathArgument | Sequence[PathArgument], formats: str | Sequence[str], out: Path, data: DataArgument | None
) -> Iterator[Exported]:
    """Convert as :func:`export` does.

    Yields:
        The outcome of each format of each run as soon as it is known, also of files that failed.

    Raises:
        PneumoEdgeError: As :func:`export`, except GateError.
    """
    words = [formats] if isinstance(formats, str) else list(formats)
    if not words:
        raise ArgumentError("formats is empty", "at least one format, or all", "Give one, or omit formats")
    rows = select(words)
    outputs.check_folder(out)
    for run in arguments.paths(runs):
        yield from pipeline.export(run, rows, out, cache_folder(), None if data is None else DataSource.of(data))
