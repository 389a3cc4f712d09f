"""The records that travel inside a model file: what a device must know to use it."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt

from pneumo_edge._util.records import AtLeastOne, Count, Share, Text, Within
from pneumo_edge.formats import ADOPTED
from pneumo_edge.scaling import MAX_FACTOR
from pneumo_edge.task import Task

SCHEMA_VERSION = 1
#: Names of a model's outputs. Every file has the first; which others it has, its ``ModelSpec.outputs`` says.
PROBABILITY, HEATMAP, COMPONENTS = "probability", "heatmap", "components"
#: ``TrainingSpec.recipe`` of a file that was exported from a Keras model of another program.
OWN_MODEL = "own-model"
#: What a data set was used for; its name follows.
DataUse = Literal["trained on", "threshold chosen on", "measured on"]
#: What ``TrainingSpec.initial_weights`` says where no pretrained weights were to be had.
RANDOM_WEIGHTS = "random"
#: ``DecodingSpec.least_scale`` by backbone in files from before there was a DecodingSpec. Nothing is added here.
_LEAST_SCALE_BEFORE = {"mobilenetv2": 1.1, "efficientnetb0": 1.25}

#: Larger inputs are refused: neither backbone was ever trained on a tenth of their pixels.
MAX_SIDE = 2048
#: Of one output beside the probabilities; those of our files have a few hundred.
MAX_OUTPUT_VALUES = 2**24
#: Of one histogram; those of our files have about a hundred.
MAX_EDGES = 2**12
#: A temperature that is fitted lies within 0.05 and 20.
MAX_TEMPERATURE = 1e6
#: A component's standard deviation is no less than this, and its distance from the mean no more than the other: beyond
#: that, a distance is none that a float64 holds.
_LEAST_DEVIATION, _MOST_COMPONENT = 1e-12, 1e100

_Component = Annotated[float, Within(-_MOST_COMPONENT, _MOST_COMPONENT)]
#: Of a pixel's value.
_Factor = Annotated[float, Within(-MAX_FACTOR, MAX_FACTOR)]
#: A share that is aimed at: neither nothing nor everything.
_Part = Annotated[float, Within(above=0, below=1)]


#: What a model's first output holds: a value for each class, or, for two classes, one value for the second alone.
#: A device turns logits into probabilities by softmax, and one logit by the logistic function.
Scores = Literal["probabilities", "logits", "probability", "logit"]


@dataclass(frozen=True)
class DecodingSpec:
    """What the decoder of an image file may do, if the format supports it.

    ``least_scale`` is the least size to which it may scale an image down, as a multiple of the longer side of the
    model's input; None where it decodes in full.
    """

    least_scale: Annotated[float, Within(1, MAX_SIDE)] | None


@dataclass(frozen=True)
class ScalingSpec:
    """What a device does to each pixel before the model: ``pixel * scale + offset``, channel by channel.

    An integer input then gets ``round(that / step) + zero_point``, limited to its type; ``step`` is None for a float
    input. Files that pneumo-edge exports have their scaling inside the graph; one that was adopted from another tool
    has it here.
    """

    scale: tuple[_Factor, ...]
    offset: tuple[_Factor, ...]
    step: Annotated[float, Within(above=0, high=MAX_FACTOR)] | None = None
    zero_point: Annotated[int, Within(-128, 255)] = 0


@dataclass(frozen=True)
class InputSpec:
    """The tensor a model takes: RGB pixels of shape (1, height, width, channels), values 0 to 255.

    ``layout`` is "nchw" where the channels stand before height and width. ``scaling`` is None where the model takes
    pixels as they are.
    ``decoding`` is None in files from before it was written; see :attr:`ModelSpec.smallest_decoded`.
    """

    height: int
    width: int
    channels: Literal[1, 3]
    dtype: Literal["float32", "uint8", "int8"]
    resize_filter: Literal["bilinear"]
    name: str = "image"
    minimum: Literal[0] = 0
    maximum: Literal[255] = 255
    decoding: DecodingSpec | None = None
    layout: Literal["nhwc", "nchw"] = "nhwc"
    scaling: ScalingSpec | None = None

    def __post_init__(self) -> None:
        if self.scaling and {len(self.scaling.scale), len(self.scaling.offset)} != {self.channels}:
            raise ValueError(f"scaling is not of {self.channels} channels")
        if self.scaling and (self.scaling.step is None) != (self.dtype == "float32"):
            raise ValueError(f"scaling.step does not go with the type {self.dtype}")
        if self.dtype == "int8" and self.scaling is None:
            raise ValueError("dtype is int8, which pixels are not, and there is no scaling")
        if not (1 <= self.height <= MAX_SIDE and 1 <= self.width <= MAX_SIDE):
            raise ValueError(f"height and width are {self.height} and {self.width}, not within 1 to {MAX_SIDE}")


@dataclass(frozen=True)
class OutputSpec:
    """An output of a model beside its probabilities: float32 of shape (1, values).

    ``shape`` is what the values of one image stand for, in C order; ``description`` says it to a person. ``faithful``
    is False where quantization took the values too far from those of the trained model to be used.
    """

    name: str
    shape: tuple[AtLeastOne, ...]
    description: str
    faithful: bool = True

    def __post_init__(self) -> None:
        if not self.shape or min(self.shape) < 1:
            raise ValueError(f"shape is {list(self.shape)}, not one or more numbers of at least 1")
        if self.size > MAX_OUTPUT_VALUES:
            raise ValueError(f"shape is {list(self.shape)}, of more than {MAX_OUTPUT_VALUES} values")

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class DecisionSpec:
    """The positive class is reported if its probability is at least ``threshold``.

    Both are None if the model has no positive class; then the most probable class is reported.
    """

    positive_class: str | None
    threshold: Share | None
    rule: str
    chosen_on: str

    def __post_init__(self) -> None:
        if (self.threshold is None) != (self.positive_class is None):
            raise ValueError(
                f"threshold is {self.threshold} and positive_class {self.positive_class!r}: of these, both are set, or "
                "neither is"
            )
        if self.threshold is not None and not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"threshold is {self.threshold}, not within 0 to 1")


@dataclass(frozen=True)
class ConformalSpec:
    """Prediction sets; an answer is uncertain if the prediction set is not just the decided class.

    The set has the positive class where its probability is at least ``least_positive``, and the negative one where it
    is at most ``most_negative``; so it has one class, both or none. Of more than two classes it has those whose
    probability is at least that of ``least``, by name, and the other two are None. They were calibrated on this file's
    own probabilities, for each class apart, so that a set has the true class for a share ``coverage`` of the images of
    each class; ``patients`` is how many there were of each. ``nearest`` is the share of calibration images whose sets
    have both classes because they are the nearest to the threshold, and ``counterfactual_coverage`` the coverage for
    each kind of counterfactual validation; both are None where the bounds were chosen without.
    """

    coverage: _Part
    least_positive: Share | None
    most_negative: Share | None
    patients: dict[str, Count]
    chosen_on: str
    least: dict[str, Share] | None = None
    nearest: _Part | None = None
    counterfactual_coverage: _Part | None = None

    def __post_init__(self) -> None:
        for name in ("coverage", "least_positive", "most_negative"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} is {value}, not within 0 to 1")
        given = {self.least_positive is None, self.most_negative is None, self.least is not None}
        if len(given) > 1:
            raise ValueError("it has least_positive and most_negative, or least, and not some of both")


@dataclass(frozen=True)
class InputCheckSpec:
    """Statistics of images like the training images; one at a distance above ``limit`` is out-of-distribution.

    ``mean`` and ``scale`` are those by which the output ``components`` of this file is standardized, ``parts`` how many
    components each part of it has, in their order, and ``share`` of validation images are nearer than ``limit``.
    """

    mean: tuple[_Component, ...]
    scale: tuple[Annotated[float, Within(_LEAST_DEVIATION, _MOST_COMPONENT)], ...]
    parts: tuple[AtLeastOne, ...]
    limit: Annotated[float, Within(0, _MOST_COMPONENT)]
    share: _Part
    chosen_on: str

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.scale):
            raise ValueError(
                f"there are {len(self.mean)} means and {len(self.scale)} scales, not as many and at least 1"
            )
        # Written so that NaN fails it.
        if not all(scale > 0 for scale in self.scale):
            raise ValueError(f"a scale is {min(self.scale)}, not above 0")
        if not self.parts or min(self.parts) < 1 or sum(self.parts) != len(self.mean):
            raise ValueError(f"parts are {list(self.parts)}, not of 1 or more that sum to {len(self.mean)}")

    def distances(self, components: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return the distance of images from the training images, at least 0, float64.

        Each part has a distance, the root mean square of its standardized components. The distance of an image is the
        largest of them, so that one unusual part is not averaged out.

        Args:
            components: Of shape (..., components); the distances have the shape that stands before.
        """
        mean, scale, starts, sizes = self._arrays
        squares = ((components - mean) / scale) ** 2
        return np.asarray(np.sqrt((np.add.reduceat(squares, starts, axis=-1) / sizes).max(axis=-1)))

    @functools.cached_property
    def _arrays(self) -> tuple[npt.NDArray[Any], ...]:
        sizes = np.array(self.parts)
        return np.array(self.mean), np.array(self.scale), np.cumsum(sizes) - sizes, sizes


@dataclass(frozen=True)
class HistogramSpec:
    """How many validation images have a value within each interval; ``edges`` rise and end the intervals.

    ``counts[i]`` images have a value above ``edges[i - 1]`` and of at most ``edges[i]``. The first interval has no
    lower end and the last one no upper end, so there is one count more than there are edges.
    """

    edges: tuple[_Component, ...]
    counts: tuple[Count, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.edges) <= MAX_EDGES or len(self.counts) != len(self.edges) + 1:
            raise ValueError(
                f"there are {len(self.edges)} edges and {len(self.counts)} counts, not 1 to {MAX_EDGES} edges and one "
                "count more"
            )
        if any(high <= low for low, high in itertools.pairwise(self.edges)):
            raise ValueError("the edges do not rise")
        if not 0 < sum(self.counts) < 2**53:
            raise ValueError(f"the counts sum to {sum(self.counts)}, not to a number of images")


@dataclass(frozen=True)
class ValidationDistributionSpec:
    """This file's own answers on the validation images, to compare with those on other images (drift).

    ``probabilities`` has the distribution for the positive class, or for every class where none is positive, by class
    name. ``distance`` is that of the input check; None where the file has no check. Images of one patient resemble each
    other: if those of a patient were identical, all images would tell as much as ``independent`` different ones.
    """

    probabilities: dict[str, HistogramSpec]
    distance: HistogramSpec | None
    independent: Annotated[float, Within(1, 2**53)]
    chosen_on: str


@dataclass(frozen=True)
class DataSpec:
    """The data a model was trained on.

    ``real`` is False for phantom images; ``fingerprint`` is that of the split manifest. ``patient_pattern`` is the
    user's own, by which patients were read from the names of its images, or ""; ``options`` are the user's others for
    reading the data set, such as ``classes`` and ``positive``, by their names. ``used_images`` has the first 12 digits
    of the SHA-256 of at most 256 images in train and val, those with the smallest; older files have none.
    """

    name: str
    real: bool
    fingerprint: str
    counts: dict[str, dict[str, Count]]
    licence: str
    patient_pattern: str = ""
    options: dict[str, str] = field(default_factory=dict)
    used_images: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainingSpec:
    """How a model was trained; ``validation`` holds metrics on the validation split only."""

    recipe: str
    seed: Count
    initial_weights: str
    epochs: Count
    validation: dict[str, float]


def is_trained_elsewhere(format_name: str, recipe: str) -> bool:
    """Whether another program trained the network of a file, by the format and the recipe of its spec."""
    return format_name == ADOPTED or recipe == OWN_MODEL


def data_use(format_name: str, recipe: str, threshold: float | None) -> DataUse:
    """What the data that a spec names was used for, by the format, the recipe and the threshold of the spec."""
    if not is_trained_elsewhere(format_name, recipe):
        return "trained on"
    return "measured on" if threshold is None else "threshold chosen on"


@dataclass(frozen=True)
class MixedPrecisionSpec:
    """The operators of a quantized file that are in float32, and what was measured of the file without them.

    ``in_float`` has the kind of each and the name of its output tensor, out of ``operators`` that ``int8`` quantizes;
    ``order`` is the one that they are the first of: "sensitivity", how much groups of neighbours alone, quantized,
    change answers, or "graph". ``int8`` is what the acceptance checks measured with all of them in int8, and
    ``int8_failed`` why that file fails. ``milliseconds`` is CPU time of one inference with one thread, as "float32",
    "int8" and "mixed", each measured in turns at the export. Where no operator is in float32, the last four have
    nothing.
    """

    in_float: tuple[Text, ...]
    operators: Count
    order: Literal["sensitivity", "graph"] | None
    int8: dict[str, float]
    int8_failed: str | None
    milliseconds: dict[str, float]


@dataclass(frozen=True)
class CalibrationSpec:
    """The representative dataset of a quantized file; ``manifest`` is the SHA-256 of its manifest.

    ``share`` is how many of a feature map's values lie above the lower end of the range that it is quantized with, and
    how many below the upper end, at least: 1 where the ranges hold all values that were seen. ``stability`` is how well
    the file agrees with one that was calibrated on other images: their number, the share of same decisions and the mean
    difference of probability; None where there were no other patients to calibrate on. ``mixed_precision`` is None in
    a file whose operators are all quantized alike.
    """

    images: Count
    manifest: str
    share: Share = 1.0
    stability: dict[str, float] | None = None
    mixed_precision: MixedPrecisionSpec | None = None

    def __post_init__(self) -> None:
        if not 0.5 < self.share <= 1:
            raise ValueError(f"share is {self.share}, not above 0.5 and at most 1")


@dataclass(frozen=True)
class VerificationSpec:
    """The acceptance checks that a file passed: what was compared, and what was measured.

    ``processor`` is the kind of processor that it was run on (:func:`pneumo_edge._util.processor.kind`), and
    ``by_processor`` whether the answers of its format may depend on that. Files from before either was written have
    None.
    """

    engines: dict[str, str]
    images: Count
    images_from: str
    bounds: dict[str, float]
    measured: dict[str, dict[str, float]]
    processor: str | None = None
    by_processor: bool | None = None


@dataclass(frozen=True)
class ModelSpec:
    """The contract that travels inside every model file.

    ``class_names`` are in the order of the model's output, a float32 tensor of shape
    (1, len(class_names)) that holds a probability for each class. ``temperature`` was fitted on
    validation and is already folded into the graph: a device does not apply it again. ``outputs`` are those
    that the model has beside the probabilities. ``conformal`` and ``input_check`` are None in a file that was made
    before there were such things, ``input_check`` also where the network has nothing to tell familiar images by.
    ``validation_distribution`` is None in files from before it was written.
    ``scores`` is what the first output holds: every exported file holds probabilities.
    ``model_sha256`` is that of the rest of the file, see :func:`pneumo_edge.spec.model_sha256`; files from before it
    was written have none.
    """

    name: Text
    backbone: Text
    format: Text
    class_names: tuple[Text, ...]
    input: InputSpec
    decision: DecisionSpec
    temperature: Annotated[float, Within(above=0, high=MAX_TEMPERATURE)]
    data: DataSpec
    training: TrainingSpec
    versions: dict[str, str]
    notice: str
    verification: VerificationSpec | None = None
    calibration: CalibrationSpec | None = None
    outputs: tuple[OutputSpec, ...] = ()
    conformal: ConformalSpec | None = None
    input_check: InputCheckSpec | None = None
    validation_distribution: ValidationDistributionSpec | None = None
    model_sha256: str | None = None
    scores: Scores = "probabilities"
    schema_version: AtLeastOne = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.schema_version > SCHEMA_VERSION:
            raise ValueError(f"schema_version is {self.schema_version}, newer than {SCHEMA_VERSION}")
        self.task  # noqa: B018 - raises ValueError
        if self.scores in ("probability", "logit") and len(self.class_names) != 2:
            raise ValueError(f"scores is {self.scores!r}, which is for two classes")
        names = [PROBABILITY, *(output.name for output in self.outputs)]
        if len(set(names)) != len(names):
            raise ValueError(f"outputs are named {names}, not each by another name")
        heatmap, by_argmax = self.output(HEATMAP), self.task.decided_by == "argmax"
        of_class = (len(self.class_names),) if by_argmax else ()
        if heatmap and (len(heatmap.shape) != len(of_class) + 2 or heatmap.shape[: len(of_class)] != of_class):
            expected = f"{of_class[0]} classes, height and width" if of_class else "height and width"
            raise ValueError(f"the shape of the output {HEATMAP!r} is {list(heatmap.shape)}, not {expected}")
        components = self.output(COMPONENTS)
        if self.input_check and (components is None or components.size != len(self.input_check.mean)):
            raise ValueError(f"input_check is not for the output {COMPONENTS!r} of this file")
        if self.conformal and self.conformal.least is None and len(self.class_names) != 2:
            raise ValueError(f"conformal is for two classes, and class_names are {list(self.class_names)}")
        least = self.conformal.least if self.conformal else None
        if least is not None and not (by_argmax and least.keys() == set(self.class_names)):
            raise ValueError(f"conformal.least is not for the classes {list(self.class_names)}, decided by argmax")
        if self.conformal and (unknown := self.conformal.patients.keys() - set(self.class_names)):
            raise ValueError(f"conformal.patients counts {min(unknown)!r}, which is not in class_names")
        described, positive = self.validation_distribution, self.decision.positive_class
        classes = set(self.class_names) if positive is None else {positive}
        if described and described.probabilities.keys() != classes:
            raise ValueError(f"validation_distribution.probabilities is not for the classes {sorted(classes)}")
        if described and described.distance and not self.input_check:
            raise ValueError("validation_distribution.distance is given, and there is no input_check")

    @property
    def is_adopted(self) -> bool:
        """Whether another tool made the file, and pneumo-edge added the ModelSpec alone."""
        return self.format == ADOPTED

    @property
    def is_trained_elsewhere(self) -> bool:
        """Whether another program trained the network: ``data`` is then what it was measured on here."""
        return is_trained_elsewhere(self.format, self.training.recipe)

    @property
    def data_use(self) -> DataUse:
        """What ``data`` was used for."""
        return data_use(self.format, self.training.recipe, self.decision.threshold)

    @property
    def data_remark(self) -> str:
        """What the data of the model are, and what they were used for, for people who see its answers."""
        images = f"{self.task.image}s" if self.data.real else "PHANTOM images, not X-rays; do not use it on patients"
        return f"{self.data_use} {images}"

    @property
    def score_count(self) -> int:
        """How many values the first output holds."""
        return len(self.class_names) if self.scores in ("probabilities", "logits") else 1

    @functools.cached_property
    def task(self) -> Task:
        """The task that the model was trained for."""
        return Task.of(self.class_names, self.decision.positive_class)

    def output(self, name: str) -> OutputSpec | None:
        """Return the additional output with this name, or None if the model has none."""
        return next((output for output in self.outputs if output.name == name), None)

    @property
    def smallest_decoded(self) -> int | None:
        """The parameter ``smallest`` of :func:`pneumo_edge.imaging.images.decode`: a side in pixels, or None."""
        decoding = self.input.decoding or DecodingSpec(_LEAST_SCALE_BEFORE.get(self.backbone))
        if decoding.least_scale is None:
            return None
        return math.ceil(decoding.least_scale * max(self.input.height, self.input.width))
