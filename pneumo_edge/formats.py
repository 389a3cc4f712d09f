"""The table of formats: one row for each kind of model file. Nothing else in the project names a format.

Export, verification, benchmark, command line and the pages of the documentation read it. To add a format, add a row; a
new way of converting is a function in ``converters/``, which the row names.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

from pneumo_edge.errors import ArgumentError

#: The arithmetic that most multiply-adds of a file are done in.
Arithmetic = Literal["float32", "int8", "int16x8"]


@dataclass(frozen=True)
class Bounds:
    """Bounds on a file's probabilities, compared with the Keras model on validation images.

    Attributes:
        max_difference: Largest absolute difference of the positive class's probability, 0 to 1.
        mean_difference: Mean of that difference.
        min_agreement: Share of images with the same decision. Images whose probability in Keras is within
            ``undecided`` of the threshold do not count.
        max_auc_loss: AUC of Keras minus AUC of the file: the upper end of its paired 95 % interval.
        undecided: See ``min_agreement``.
    """

    max_difference: float
    mean_difference: float
    min_agreement: float
    max_auc_loss: float
    undecided: float = 0.0


@dataclass(frozen=True)
class OutputBounds:
    """Bounds on each output other than the probabilities, such as the heatmap, compared with the Keras model.

    Attributes:
        max_output_difference: Root mean square of the difference, as a multiple of the standard deviation in Keras.
        min_output_correlation: Pearson's correlation of the values of an image, as a median over the images.
        min_components_correlation: Pearson's correlation of a component over the images, as a median over the
            components. This is the only bound on components, because each is standardized per file.
    """

    max_output_difference: float
    min_output_correlation: float
    min_components_correlation: float


@dataclass(frozen=True)
class FormatRecord:
    """The guarantees of a format; the proof beside each file records them (:mod:`pneumo_edge.converters.proof`).

    Attributes:
        target: The kind of file, which is its suffix.
        name: Its name within the target, and in file names.
        summary: What is quantized and how, in words.
        input_dtype: Type of the input; the values are pixels of 0 to 255 in either case.
        engines: Names of the engines that it must run on.
        bounds: Bounds on the probabilities on each of them.
        quantized: Whether integers replace floats; the decision threshold is then chosen again, on the file's own
            validation probabilities.
        calibrated: Whether activations are quantized with ranges from training images.
        by_processor: Whether its engines' integer kernels may give other answers on another kind of processor: by 0.005
            or more, as measured (docs/formats.md).
    """

    target: Literal["tflite", "onnx"]
    name: str
    summary: str
    input_dtype: Literal["float32", "uint8"]
    engines: tuple[str, ...]
    bounds: Bounds
    quantized: bool = False
    calibrated: bool = False
    by_processor: bool = False


@dataclass(frozen=True, kw_only=True)
class Format(FormatRecord):
    """One row of the table: a kind of model file.

    Attributes:
        converter: The function that makes the file, ``"MODULE:FUNCTION"`` with a module relative to
            :mod:`pneumo_edge.converters`; see :class:`pneumo_edge.converters.interface.Converter`.
        arithmetic: Arithmetic of most of its multiply-adds; the benchmark measures the machine's limit for some.
        usual: Whether ``pneumo-edge export`` makes it by default.
        searched: Whether its settings are searched for on each network (:mod:`pneumo_edge.converters.mixed`).
        signed_before: Whether older files, which do not name the processor that verified them, have signed 8-bit
            weights. Their products saturate in onnxruntime on x86-64 without VNNI, so their answers depend on it.
    """

    converter: str
    arithmetic: Arithmetic
    usual: bool = False
    searched: bool = False
    signed_before: bool = False

    @property
    def id(self) -> str:
        """Unique name, ``target-name``."""
        return f"{self.target}-{self.name}"

    @property
    def record(self) -> FormatRecord:
        """The columns that a proof records."""
        return FormatRecord(**{each.name: getattr(self, each.name) for each in fields(FormatRecord)})

    @property
    def output_bounds(self) -> OutputBounds:
        """Bounds on the other outputs; for float formats, as strict as those on the probabilities."""
        most = self.bounds.max_difference
        return OutputBounds(0.5, 0.95, 0.5) if self.quantized else OutputBounds(most, 1 - most, 0.99)

    def file_name(self, backbone: str) -> str:
        """Name of the file for a backbone, for example ``mobilenetv2-int8.tflite``."""
        return f"{backbone}-{self.name}.{self.target}"


_TFLITE = ("litert", "tflite-runtime")
_ONNX = ("onnxruntime",)
_EXACT = Bounds(1e-3, mean_difference=1e-4, min_agreement=1.0, max_auc_loss=1e-3, undecided=1e-3)
_HALF = Bounds(5e-3, mean_difference=1e-3, min_agreement=1.0, max_auc_loss=1e-3, undecided=5e-3)
#: A single probability may change much if decisions and ranking stay the same.
_QUANTIZED = Bounds(0.9, mean_difference=0.05, min_agreement=0.98, max_auc_loss=0.005)

#: Probabilities in steps of 1/256 tie at both ends, where most images are. Ties cost AUC for any network.
_COARSE = replace(_QUANTIZED, max_auc_loss=0.01)

FORMATS: dict[str, Format] = {
    row.id: row
    for row in (
        Format(
            "tflite",
            "fp32",
            "nothing; float32 throughout",
            "float32",
            _TFLITE,
            _EXACT,
            converter=".tflite:fp32",
            arithmetic="float32",
            usual=True,
        ),
        Format(
            "tflite",
            "fp16",
            "weights in float16 but for depthwise and small layers; arithmetic in float32",
            "float32",
            _TFLITE,
            _HALF,
            converter=".tflite:fp16",
            arithmetic="float32",
            usual=True,
        ),
        Format(
            "tflite",
            "dynamic",
            "weights in int8; activations quantized as they come",
            "float32",
            _TFLITE,
            _QUANTIZED,
            quantized=True,
            by_processor=True,
            converter=".tflite:dynamic",
            arithmetic="int8",
        ),
        Format(
            "tflite",
            "weight-only",
            "weights in int8 per channel; arithmetic in float32",
            "float32",
            _TFLITE,
            _QUANTIZED,
            quantized=True,
            converter=".tflite:weight_only",
            arithmetic="float32",
        ),
        Format(
            "tflite",
            "int8",
            "weights in int8 per channel and activations in int8; uint8 pixels in; softmax in float32",
            "uint8",
            _TFLITE,
            _QUANTIZED,
            quantized=True,
            calibrated=True,
            converter=".tflite:int8",
            arithmetic="int8",
            usual=True,
        ),
        Format(
            "tflite",
            "integer-only",
            "as int8, softmax too: uint8 pixels in, uint8 probabilities out",
            "uint8",
            _TFLITE,
            _COARSE,
            quantized=True,
            calibrated=True,
            converter=".tflite:integer_only",
            arithmetic="int8",
        ),
        Format(
            "tflite",
            "int16x8",
            "weights in int8 per channel and activations in int16",
            "float32",
            _TFLITE,
            _QUANTIZED,
            quantized=True,
            calibrated=True,
            converter=".tflite:int16x8",
            arithmetic="int16x8",
        ),
        Format(
            "onnx",
            "fp32",
            "nothing; float32 throughout",
            "float32",
            _ONNX,
            _EXACT,
            converter=".onnx:fp32",
            arithmetic="float32",
            usual=True,
        ),
        Format(
            "onnx",
            "fp16",
            "weights in float16 but for depthwise and small layers; arithmetic in float32",
            "float32",
            _ONNX,
            _HALF,
            converter=".onnx:fp16",
            arithmetic="float32",
        ),
        Format(
            "onnx",
            "dynamic",
            "weights in int8 but for depthwise convolutions; activations quantized as they come",
            "float32",
            _ONNX,
            _QUANTIZED,
            quantized=True,
            converter=".onnx:dynamic",
            arithmetic="int8",
        ),
        Format(
            "onnx",
            "int8",
            "weights in 8 bits per channel and activations in 8 bits, both uint8 (QDQ); softmax in float32",
            "float32",
            _ONNX,
            _QUANTIZED,
            quantized=True,
            calibrated=True,
            by_processor=True,
            converter=".onnx:int8",
            arithmetic="int8",
            signed_before=True,
        ),
    )
}

_MIXED = replace(
    FORMATS["tflite-int8"],
    name="mixed",
    summary="as int8, but for the fewest operators in float32 with which the file passes",
    usual=False,
    searched=True,
)
#: Formats that are made only where they are asked for by name, because each takes a search.
ON_REQUEST: dict[str, Format] = {
    _MIXED.id: _MIXED,
}

#: ``ModelSpec.format`` of a file of another tool that got its spec by ``pneumo-edge adopt``.
ADOPTED = "adopted"


def of_another_tool(suffix: str, engines: tuple[str, ...], quantized: bool) -> FormatRecord:
    """The guarantees of an adopted file: on any machine it answers as on the one that adopted it, within these bounds.

    Args:
        suffix: The file's ending, for example ``".tflite"``.
        engines: The engines on which it did so when it was adopted.
        quantized: Whether it computes with integers, whose kernels differ between processors.
    """
    return FormatRecord(
        "onnx" if suffix == ".onnx" else "tflite",
        ADOPTED,
        "as another tool made it",
        "float32",
        engines,
        _QUANTIZED if quantized else _HALF,
        quantized=quantized,
        by_processor=quantized,
    )


def adopted(record: FormatRecord) -> Format:
    """The row of an adopted file, which its proof records. Nothing converts to it."""
    columns = {each.name: getattr(record, each.name) for each in fields(FormatRecord)}
    return Format(**columns, converter="", arithmetic="int8" if record.quantized else "float32")


#: Formats that are made by default: those that a device runs fast, and the float format of each target.
USUAL = tuple(row.id for row in FORMATS.values() if row.usual)
#: Name of the formats whose numbers are all float32; benchmarks compare the others with these.
FLOAT32 = "fp32"


def find(suffix: str, name: str) -> Format | None:
    """The row of a model file.

    Args:
        suffix: The file's ending, for example ``".tflite"``.
        name: The format that its ModelSpec names.

    Returns:
        None where another version of pneumo-edge made the file, with a format that this one does not have.
    """
    key = f"{suffix.removeprefix('.')}-{name}"
    return FORMATS.get(key) or ON_REQUEST.get(key)


def select(wanted: list[str]) -> list[Format]:
    """The rows that a user asked for: ``all``, an id such as ``tflite-int8``, a target or a name such as ``int8``.

    Rows of :data:`ON_REQUEST` have to be asked for by id or name.

    Raises:
        ArgumentError: A word matches no row.
    """
    chosen = []
    for word in wanted:
        rows = [row for row in FORMATS.values() if word in ("all", row.id, row.name, row.target)]
        rows += [row for row in ON_REQUEST.values() if word in (row.id, row.name)]
        if not rows:
            raise ArgumentError(
                f"there is no format {word!r}",
                "all, or one of " + ", ".join([*FORMATS, *ON_REQUEST]),
                "Give another format",
            )
        chosen += [row for row in rows if row not in chosen]
    return chosen
