"""``pneumo_edge.export``: from a trained run to model files that passed the acceptance checks of their format."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pneumo_edge import backbones, keras_file, runs, scaling, studies
from pneumo_edge._util import outputs
from pneumo_edge._util.cache import cache_folder
from pneumo_edge.api import arguments, datasets
from pneumo_edge.api.arguments import DataArgument, PathArgument, Tell
from pneumo_edge.backbones import LEAST_SIDE, MOST_SIDE
from pneumo_edge.converters import export as pipeline
from pneumo_edge.converters import own_model, proof
from pneumo_edge.converters.convert import check_libraries
from pneumo_edge.converters.export import Exported
from pneumo_edge.converters.own_model import OwnModel
from pneumo_edge.converters.proof import Proof
from pneumo_edge.data.datasource import DataSource
from pneumo_edge.errors import ArgumentError, GateError, PneumoEdgeError, printable
from pneumo_edge.formats import USUAL, select
from pneumo_edge.spec import ModelSpec

#: Fewer validation images of a class than this are said.
_FEW = 10


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
    out: PathArgument | None = None,
    data: DataArgument | None = None,
    input_range: str | None = None,
    output: str | None = None,
    image_size: int | None = None,
    accept_input_range: bool = False,
    tell: Tell = arguments.print_line,
) -> tuple[ExportedFile, ...]:
    """Convert trained runs to model files and verify each file against the Keras model.

    TensorFlow runs in a child process. Each file is verified on every installed engine of its format.

    Args:
        runs: Finished runs, their folders, the folder of a study for its finished runs, or Keras models that were
            trained elsewhere (``.keras``, ``.h5``, the folder of a SavedModel); one or several.
        formats: A format (``"tflite-int8"``), all formats of a target (``"tflite"``, ``"onnx"``) or of a name
            (``"int8"``), or ``"all"``; one or several. By default tflite-fp32, tflite-fp16, tflite-int8 and onnx-fp32.
            ``"tflite-mixed"``, by this name alone, searches the fewest operators that must stay in float32 where int8
            fails.
        out: Folder for the model files; by default ``models``, or ``models`` in the folder of a study. Several runs of
            the same network get a folder each inside it, with the name of the run's folder. So do several Keras models
            of one file name, with the name of the folder that each is in.
        data: The data that the runs were trained on; by default at the path used for training. For a Keras model:
            labelled images of its classes.
        input_range: For a Keras model: what pixels were scaled to before they went into it. ``"0..255"``, ``"0..1"``,
            ``"-1..1"``, ``"imagenet"``, ``"caffe"``, ``"LOW..HIGH"``, or ``"mean=M;std=S"`` with one number or three.
        output: For a Keras model: what its last layer gives, ``"sigmoid"``, ``"softmax"`` or ``"logits"``; by default
            found out.
        image_size: For a Keras model that takes any size: height and width of the images, 96 to 512 pixels.
        accept_input_range: Keep ``input_range`` although another one is right more often.
        tell: Called with each note and warning, a line each; by default they are printed on standard error.

    Returns:
        The files, by run and then by format.

    Raises:
        GateError: A file failed its acceptance checks, or its converter failed. The other files exist and are
            returned at once by the next call. Or a Keras model is right more often with another input range.
        ArgumentError: ``formats`` is empty or names an unknown format, ``out`` is a file, or a Keras model comes
            without data.
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
    own = OwnOptions(input_range, output, image_size, accept_input_range)
    folder = default_folder(arguments.paths(runs)) if out is None else Path(out)
    for outcome in convert(runs, formats, folder, data, own, tell):
        if outcome.spec is None:
            missed.append(str(outcome.missed))
        else:
            made.append(ExportedFile(outcome.path, outcome.spec, proof.load(outcome.path), outcome.made))
    if missed:
        raise GateError(
            f"{len(missed)} of {len(missed) + len(made)} files failed ({' '.join(missed)})",
            "files that pass the acceptance checks of their format",
            f"Omit those formats; the files that passed are in {folder}",
        )
    return tuple(made)


def default_folder(given: Sequence[Path]) -> Path:
    """The default folder for model files: ``models``, in the folder of a study where one is given alone."""
    return given[0] / studies.MODELS if len(given) == 1 and studies.is_study(given[0]) else Path(studies.MODELS)


@dataclass(frozen=True)
class OwnOptions:
    """What is said of Keras models that were trained elsewhere; see :func:`export`."""

    input_range: str | None = None
    output: str | None = None
    image_size: int | None = None
    accept_input_range: bool = False


def convert(
    runs: PathArgument | Sequence[PathArgument],
    formats: str | Sequence[str],
    out: Path,
    data: DataArgument | None,
    own: OwnOptions,
    tell: Tell,
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
    source = None if data is None else DataSource.of(data)
    paths = studies.expand(arguments.paths(runs))
    check_own(paths, source, own)
    check_libraries()
    for path, folder in _folders(paths, out, tell).items():
        run = path
        if source is not None and keras_file.is_own_model(path):
            output = next((each for each in keras_file.OUTPUTS if each == own.output), None)
            model = OwnModel(path, own.input_range, output, own.image_size, own.accept_input_range)
            run = own_model.make_run(model, datasets.open_data(source, tell=tell), source, folder, cache_folder(), tell)
        warned = False
        for outcome in pipeline.export(run, rows, folder, cache_folder(), source):
            if outcome.spec is not None and not warned and (doubt := _doubt_validation(path, outcome.spec)):
                tell(f"warning: {doubt}.")
                warned = True
            yield outcome
        if others := pipeline.of_other_weights(run, folder):
            tell(
                f"note: {folder} also has {', '.join(others)}, of an earlier export with other weights. They are not "
                "part of this export, and verify refuses them. Export these formats again, or remove the files"
            )


def _doubt_validation(path: Path, spec: ModelSpec) -> str:
    """Return a warning if a class has very few validation images, one line without its full stop; else ""."""
    counts = spec.data.counts.get("val", {})
    fewest = min(counts, key=lambda name: counts[name], default="")
    if counts.get(fewest, _FEW) >= _FEW:
        return ""
    return printable(
        f"the threshold of {path} and its acceptance checks rest on {sum(counts.values())} validation images, "
        f"{counts[fewest]} of {fewest}; with others they may differ"
    )


def _folders(paths: Sequence[Path], out: Path, tell: Tell) -> dict[Path, Path]:
    """The folder for the files of each model: ``out``, or one inside it for each of several of the same name.

    Raises:
        ArgumentError: The names of those folders would be the same.
    """
    named: dict[str, list[Path]] = {}
    for path in dict.fromkeys(paths):
        # What is wrong with a run is said when its turn comes.
        with contextlib.suppress(PneumoEdgeError):
            own = keras_file.is_own_model(path)
            named.setdefault(backbones.own_name(path.stem) if own else runs.load(path).backbone, []).append(path)
    found = dict.fromkeys(paths, out)
    for name, alike in named.items():
        if len(alike) == 1:
            continue
        is_own = [keras_file.is_own_model(path) for path in alike]
        several = f"{len(alike)} {'models named' if any(is_own) else 'runs of'} {name}"
        # A run is a folder; a model that was trained elsewhere lies in one.
        places = [path.resolve().parent if own else path.resolve() for path, own in zip(alike, is_own, strict=True)]
        names = [place.name for place in places]
        if len(set(names)) < len(names):
            raise ArgumentError(
                f"{several} are in folders of the same name ({', '.join(map(str, alike))})",
                "another name for each, because it names the folder of its files",
                "Rename a folder, or export each to an --out of its own",
            )
        tell(f"{several}: the files of each are in a folder of its own in {out} ({', '.join(names)})")
        found |= {path: out / folder for path, folder in zip(alike, names, strict=True)}
    return found


def check_own(paths: Sequence[Path], data: DataSource | None, own: OwnOptions) -> None:
    """Check what is said of Keras models that were trained elsewhere.

    Raises:
        ArgumentError: It cannot be used, there is no data for them, or there is no such model.
    """
    models = [path for path in paths if keras_file.is_own_model(path)]
    if own != OwnOptions() and len(models) < len(paths):
        run = next(path for path in paths if path not in models)
        raise ArgumentError(
            f"{run} is no Keras model (.keras, .h5, SavedModel), and an input range, output or image size was given",
            "a training run without them: they are in its network",
            "Omit them, or give the path of a model",
        )
    if models and data is None:
        raise ArgumentError(
            f"{models[0]} was not trained here, and no data was given",
            "labelled images, to verify its files on",
            "Give a data set with --data",
        )
    if own.input_range is not None:
        scaling.parse(own.input_range)
    if own.output is not None:
        arguments.check_name("output", own.output, keras_file.OUTPUTS)
    if own.image_size is not None:
        arguments.whole("image_size", own.image_size, LEAST_SIDE, MOST_SIDE)
