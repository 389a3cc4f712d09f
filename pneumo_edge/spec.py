"""ModelSpec: what a device must know to use a model file, written inside that file."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pneumo_edge import bundled, records
from pneumo_edge.errors import ModelFileError

SCHEMA_VERSION = 1
#: Names of a model's outputs. Every file has the first; which others it has, its ``ModelSpec.outputs`` says.
PROBABILITY, HEATMAP, COMPONENTS = "probability", "heatmap", "components"
#: Name of the file inside a TFLite file's metadata archive, and of the ONNX metadata property.
SPEC_NAME = "pneumo_edge_spec.json"
#: What ``TrainingSpec.initial_weights`` says where no pretrained weights were to be had.
RANDOM_WEIGHTS = "random"
#: How far a decoder may scale an image down: to no less than this multiple of the input's longer side. A backbone is
#: here where its int8 file keeps its verdicts by that (tests/test_bundled.py); others get images decoded in full.
_OVERSAMPLING = {"mobilenetv2": 1.25}
MODEL_SUFFIXES = frozenset({".tflite", ".onnx"})

_MAX_SPEC_BYTES = 1_000_000
_TFLITE_IDENTIFIER = slice(4, 8)


@dataclass(frozen=True)
class InputSpec:
    """The tensor a model takes: RGB pixels of shape (1, height, width, channels), values 0 to 255."""

    height: int
    width: int
    channels: Literal[3]
    dtype: Literal["float32", "uint8"]
    resize_filter: Literal["bilinear"]
    name: str = "image"
    minimum: Literal[0] = 0
    maximum: Literal[255] = 255


@dataclass(frozen=True)
class OutputSpec:
    """An output of a model beside its probabilities: float32 of shape (1, values).

    ``shape`` is what the values of one image stand for, in C order; ``description`` says it to a person. ``faithful``
    is False where quantization took the values too far from those of the trained model to be used.
    """

    name: str
    shape: tuple[int, ...]
    description: str
    faithful: bool = True

    def __post_init__(self) -> None:
        if not self.shape or min(self.shape) < 1:
            raise ValueError(f"shape is {list(self.shape)}, not one or more numbers of at least 1")

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class DecisionSpec:
    """When the positive class is reported: where its probability is at least ``threshold``."""

    positive_class: str
    threshold: float
    rule: str
    chosen_on: str

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"threshold is {self.threshold}, not within 0 to 1")


@dataclass(frozen=True)
class ConformalSpec:
    """When the answer is uncertain: where the prediction set is not the decided class alone.

    The set has the positive class where its probability is at least ``least_positive``, and the negative one where it
    is at most ``most_negative``; so it has one class, both or none. Both were calibrated on this file's own
    probabilities, for each class apart, so that a set has the true class for a share ``coverage`` of the images of
    each class; ``patients`` is how many there were of each.
    """

    coverage: float
    least_positive: float
    most_negative: float
    patients: dict[str, int]
    chosen_on: str

    def __post_init__(self) -> None:
        for name in ("coverage", "least_positive", "most_negative"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}, not within 0 to 1")


@dataclass(frozen=True)
class InputCheckSpec:
    """What images of the kind seen in training are like; one whose distance is more than ``limit`` is foreign.

    ``mean`` and ``scale`` are those of the output ``components`` of this file over validation images, and ``share`` of
    such images are nearer than ``limit``.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    limit: float
    share: float
    chosen_on: str

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.scale):
            raise ValueError(
                f"there are {len(self.mean)} means and {len(self.scale)} scales, not as many and at least 1"
            )
        if min(self.scale) <= 0:
            raise ValueError(f"a scale is {min(self.scale)}, not above 0")

    def distance(self, components: Sequence[float]) -> float:
        """Root mean square of the components of an image, each by its own mean and scale."""
        each = zip(components, self.mean, self.scale, strict=True)
        return math.sqrt(sum(((value - mean) / scale) ** 2 for value, mean, scale in each) / len(self.mean))


@dataclass(frozen=True)
class DataSpec:
    """The data a model was trained on.

    ``real`` is False for phantom images; ``fingerprint`` is that of the split manifest.
    """

    name: str
    real: bool
    fingerprint: str
    counts: dict[str, dict[str, int]]
    licence: str


@dataclass(frozen=True)
class TrainingSpec:
    """How a model was trained; ``validation`` holds metrics on the validation split only."""

    recipe: str
    seed: int
    initial_weights: str
    epochs: int
    validation: dict[str, float]


@dataclass(frozen=True)
class CalibrationSpec:
    """The representative dataset of a quantized file; ``manifest`` is the SHA-256 of its manifest.

    ``stability`` is how well the file agrees with one that was calibrated on other images: their number, the share of
    same decisions and the mean difference of probability; None where there were no other patients to calibrate on.
    """

    images: int
    manifest: str
    stability: dict[str, float] | None = None


@dataclass(frozen=True)
class VerificationSpec:
    """The gate that a file passed before it got its name: what was compared, and what was measured."""

    engines: dict[str, str]
    images: int
    images_from: str
    bounds: dict[str, float]
    measured: dict[str, dict[str, float]]


@dataclass(frozen=True)
class ModelSpec:
    """The contract that travels inside every model file.

    ``class_names`` are in the order of the model's output, a float32 tensor of shape
    (1, len(class_names)) that holds a probability for each class. ``temperature`` was fitted on
    validation and is already folded into the graph: a device does not apply it again. ``outputs`` are those
    that the model has beside the probabilities. ``conformal`` and ``input_check`` are None in a file that was made
    before there were such things, ``input_check`` also where the network has nothing to tell familiar images by.
    """

    name: str
    backbone: str
    format: str
    class_names: tuple[str, ...]
    input: InputSpec
    decision: DecisionSpec
    temperature: float
    data: DataSpec
    training: TrainingSpec
    versions: dict[str, str]
    notice: str
    verification: VerificationSpec | None = None
    calibration: CalibrationSpec | None = None
    outputs: tuple[OutputSpec, ...] = ()
    conformal: ConformalSpec | None = None
    input_check: InputCheckSpec | None = None
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.schema_version > SCHEMA_VERSION:
            raise ValueError(f"schema_version is {self.schema_version}, newer than {SCHEMA_VERSION}")
        if len(set(self.class_names)) != len(self.class_names) or len(self.class_names) < 2:
            raise ValueError(f"class_names are {list(self.class_names)}, not two or more different names")
        if self.decision.positive_class not in self.class_names:
            raise ValueError(f"decision.positive_class {self.decision.positive_class!r} is not in class_names")
        names = [PROBABILITY, *(output.name for output in self.outputs)]
        if len(set(names)) != len(names):
            raise ValueError(f"outputs are named {names}, not each by another name")
        heatmap = self.output(HEATMAP)
        if heatmap and len(heatmap.shape) != 2:
            raise ValueError(f"the shape of the output {HEATMAP!r} is {list(heatmap.shape)}, not height and width")
        components = self.output(COMPONENTS)
        if self.input_check and (components is None or components.size != len(self.input_check.mean)):
            raise ValueError(f"input_check is not for the output {COMPONENTS!r} of this file")
        if self.conformal and len(self.class_names) != 2:
            raise ValueError(f"conformal is for two classes, and class_names are {list(self.class_names)}")

    @property
    def positive_index(self) -> int:
        """Index of the positive class in the model's output."""
        return self.class_names.index(self.decision.positive_class)

    def output(self, name: str) -> OutputSpec | None:
        """The output of a name beside the probabilities, or None where the model has none."""
        return next((output for output in self.outputs if output.name == name), None)

    @property
    def smallest_decoded(self) -> int | None:
        """What :func:`pneumo_edge.images.decode` takes as ``smallest``: a side in pixels, or None for no scaling."""
        factor = _OVERSAMPLING.get(self.backbone)
        return math.ceil(factor * max(self.input.height, self.input.width)) if factor else None


def parse(text: str | bytes, path: Path) -> ModelSpec:
    """Read a ModelSpec from its JSON text.

    Raises:
        ModelFileError: The text is not a valid ModelSpec, or one of a newer schema.
    """
    try:
        return records.loads(ModelSpec, text)
    except records.RecordError as error:
        raise ModelFileError(
            f"the ModelSpec inside {path} is not valid: {error}",
            f"a ModelSpec of schema {SCHEMA_VERSION}",
            "Export the model again, or install the version of pneumo-edge that made it",
        ) from error


def check_file(path: Path) -> None:
    """Refuse a path that cannot be a model file, before any engine is asked.

    Raises:
        ModelFileError: The file is missing, empty, of another kind than its ending says, or unreadable.
    """
    if path.suffix not in MODEL_SUFFIXES:
        raise ModelFileError(
            f"{path} is no model file",
            f"a .tflite or .onnx file, or the name of a bundled model: {' or '.join(bundled.NAMES)}",
            "Give the path of an exported model, or one of these names",
        )
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
    except FileNotFoundError as error:
        raise ModelFileError(
            f"there is no file {path}", "the path of a model file", "Make one with: pneumo-edge export"
        ) from error
    except OSError as error:
        raise ModelFileError(
            f"{path} cannot be read ({error.strerror})", "a readable model file", "Check its permissions"
        ) from error
    if not head or (path.suffix == ".tflite" and head[_TFLITE_IDENTIFIER] != b"TFL3"):
        raise ModelFileError(
            f"{path} does not hold a {path.suffix[1:]} model", "a whole model file", "Copy it again, or export it again"
        )


def read_tflite(path: Path) -> ModelSpec:
    """Read the ModelSpec inside a TFLite file, with the standard library alone.

    Raises:
        ModelFileError: The file is missing, no TFLite file, cut short, or carries no valid ModelSpec.
    """
    check_file(path)
    try:
        with zipfile.ZipFile(path) as archive, archive.open(SPEC_NAME) as stream:
            text = stream.read(_MAX_SPEC_BYTES)
    except Exception as error:  # zipfile promises no common base class for broken input
        raise no_spec(path) from error
    return parse(text, path)


def no_spec(path: Path) -> ModelFileError:
    """The error for a model file without a ModelSpec."""
    return ModelFileError(
        f"{path} carries no ModelSpec: it comes from elsewhere or was cut short",
        "a file made by `pneumo-edge export`",
        "Copy it again, or export the model with pneumo-edge",
    )
