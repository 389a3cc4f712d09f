"""Classifies images with a model file."""

from __future__ import annotations

import operator
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pneumo_edge import bundled, spec
from pneumo_edge.errors import ModelFileError, NoAnswerError
from pneumo_edge.imaging import images
from pneumo_edge.runtime import engines, forks, inputs, pixels
from pneumo_edge.runtime.engines.tensors import Given
from pneumo_edge.spec import COMPONENTS, HEATMAP, PROBABILITY, ModelSpec, Scores

#: How far the sum of the probabilities may be from 1: an int8 output has multiples of 1/256.
SUM_TOLERANCE = 0.02
#: Properties of a prediction that warn about its label: True or False, or None if the model file does not check. JSON,
#: CSV and metrics use these names.
REMARKS = ("uncertain", "foreign")


@dataclass(frozen=True)
class Timings:
    """Wall time of each stage of one prediction, in milliseconds."""

    read: float
    decode: float
    resize: float
    tensor: float
    inference: float
    decision: float

    @property
    def total(self) -> float:
        """Total time from file to prediction, in milliseconds."""
        return float(sum(asdict(self).values()))


@dataclass(frozen=True)
class Prediction:
    """The result for one image.

    Attributes:
        source: The path that was given, or the type of an image that was not a file.
        label: The positive class if its probability is at least ``threshold``, else the most probable other class.
            Without a positive class, the most probable class.
        probabilities: The probability of each class by its name, 0 to 1, in the order of the model's output.
        threshold: The threshold of the model file, 0 to 1; None without a positive class.
        timings: Wall time of each stage.
        heatmap: None unless asked for. float32 of shape (grid height, grid width): the contribution of each cell of a
            grid over the image to the logit of the positive class (without one, of ``label``), minus that of the
            others. The mean over the cells is the difference of the logits. :func:`pneumo_edge.imaging.heatmap.draw`
            draws it.
        prediction_set: The plausible classes of the image (:class:`pneumo_edge.spec.ConformalSpec`): one, several or
            none. None if the file has no prediction sets.
        distance: Distance of the image from the training images (:class:`pneumo_edge.spec.InputCheckSpec`), at least 0.
            None if the file has no input check.
        limit: If ``distance`` exceeds it, the image is out-of-distribution, and label and probabilities mean nothing.
            None if the file has no input check.
    """

    source: str
    label: str
    probabilities: Mapping[str, float]
    threshold: float | None
    timings: Timings
    #: An array is not equal or unequal as a whole.
    heatmap: npt.NDArray[np.float32] | None = field(default=None, compare=False)
    prediction_set: tuple[str, ...] | None = None
    distance: float | None = None
    limit: float | None = None

    @property
    def probability(self) -> float:
        """The probability of ``label``, within 0 to 1."""
        return self.probabilities[self.label]

    @property
    def uncertain(self) -> bool | None:
        """Whether the prediction set is not just ``label``; None if the file does not check."""
        return None if self.prediction_set is None else self.prediction_set != (self.label,)

    @property
    def out_of_distribution(self) -> bool | None:
        """Whether the image is unlike those the model was trained on; None if the file does not check."""
        return None if self.distance is None or self.limit is None else self.distance > self.limit

    @property
    def foreign(self) -> bool | None:
        """The earlier name of :attr:`out_of_distribution`, still used in JSON and CSV."""
        return self.out_of_distribution

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON: the fields without the heatmap, plus the remarks and the total time."""
        remarks = {name: getattr(self, name) for name in REMARKS}
        document = {**asdict(self), **remarks, "total_ms": self.timings.total}
        del document["heatmap"]
        return document


class Classifier:
    """Classifies chest X-rays with one model file on one engine.

    Threads can share a classifier: they decode in parallel and run inference one after the other. For parallel
    inference, give each thread a :meth:`copy`, or use :func:`pneumo_edge.runtime.batch.predict_each`.

    Processes can share a classifier: a forked child, or one that receives it pickled, loads the model file again. The
    file must still exist.

    Args:
        model: The name of a bundled model (:mod:`pneumo_edge.bundled`), or the path of a ``.tflite`` or
            ``.onnx`` file that carries a ModelSpec.
        engine: ``"litert"``, ``"tflite-runtime"``, ``"onnxruntime"``, ``"openvino"``, or the name of an engine that
            another package adds; by default the first of them that runs the file and is installed.
        threads: Threads for one inference, from 1 to :data:`pneumo_edge._util.cores.MOST`.
        max_pixels: A file with a larger image is refused before it is decoded; by default 50 million pixels.

    Raises:
        TypeError: ``threads`` or ``max_pixels`` is not a whole number.
        ValueError: ``threads`` is out of range, or ``max_pixels`` is less than 1.
        ModelFileError: The file is missing, damaged, has no valid ModelSpec, or does not match it; or
            the engine does not run this kind of file.
        MissingExtraError: No engine for the file is installed, or the given one is not.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = bundled.DEFAULT,
        *,
        engine: str | None = None,
        threads: int = 1,
        max_pixels: int = images.MAX_PIXELS,
    ) -> None:
        try:
            operator.index(max_pixels)
        except TypeError as error:
            raise TypeError(f"max_pixels is {max_pixels!r}, not a whole number of at least 1") from error
        if max_pixels < 1:
            raise ValueError(f"max_pixels is {max_pixels}, not at least 1")
        self.max_pixels = max_pixels
        self.path = bundled.find(model)
        self.spec = read_spec(self.path)
        self.engine = engines.load(
            self.path,
            engines.choose(self.path, engine),
            threads,
            Given({"": pixels.shape(self.spec.input)}),
        )
        self._check_engine()
        self._tensor = np.empty(self.engine.input_shape, self.engine.input_dtype)
        self._fill = pixels.filler(self.spec.input)
        #: Protects the tensor and the engine.
        self._lock = threading.Lock()
        #: For another process, whose working directory may differ.
        self._origin = _Origin(str(self.path.absolute()), self.engine.name, threads, self.spec)
        self._is_forked = False
        forks.tell(self)

    def after_fork(self) -> None:
        """Mark the engine to be loaded again in this child process when it is needed."""
        self._lock = threading.Lock()
        self._is_forked = True

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_again, (self._origin, self.max_pixels)

    def predict(self, image: inputs.ImageInput, *, explain: bool = False) -> Prediction:
        """Classify one image.

        Args:
            image: The path of an image file; its bytes (``bytes``, ``bytearray`` or ``memoryview``); a binary file
                object, which is read from its beginning if it can be rewound; a Pillow image; or an array of pixels,
                uint8 of shape (height, width), or (height, width, 3) in RGB. Images and arrays can have any size.
            explain: Also return the heatmap.

        Raises:
            TypeError: The image has another type.
            ImageError: The image cannot be classified, or the model gives no probabilities for it; the message says
                why and what to do.
            ModelFileError: The engine cannot run the model, or the model has no heatmap.
        """
        if explain:
            self.check_explains()
        check, clock = self.spec.input_check, _Clock()
        source, content = inputs.take(image)
        clock.lap()
        grey = self._decode(content)
        clock.lap()
        size = self.spec.input
        grey = images.resize(grey, size.height, size.width, size.resize_filter)
        clock.lap()
        with self._lock:
            if self._is_forked:
                self.engine = self._origin.load().engine
                self._is_forked = False
            self._fill(self._tensor, grey)
            clock.lap()
            with engines.refusal(self.engine.name, self.path, "run"):
                outputs = self._run([name for name, asked in ((HEATMAP, explain), (COMPONENTS, check)) if asked])
            clock.lap()
        probabilities = self._probabilities(outputs[PROBABILITY])
        label, kept = self.decide(probabilities), self.prediction_set(probabilities)
        distance = float(check.distances(outputs[COMPONENTS])) if check else None
        clock.lap()
        return Prediction(
            source=source,
            label=label,
            probabilities=probabilities,
            threshold=self.spec.decision.threshold,
            timings=Timings(*clock.laps),
            heatmap=self._heatmap_of(label, outputs[HEATMAP]) if explain else None,
            prediction_set=kept,
            distance=distance,
            limit=check.limit if check else None,
        )

    def _heatmap_of(self, label: str, heatmap: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The map that explains a label: without a positive class there is one for each."""
        return heatmap if heatmap.ndim == 2 else heatmap[self.spec.class_names.index(label)]

    def check_explains(self) -> None:
        """Check that the model has a heatmap.

        Raises:
            ModelFileError: It has none, or it is not faithful to the trained model's.
        """
        output = self.spec.output(HEATMAP)
        if output and not output.faithful:
            raise ModelFileError(
                f"the heatmap of {self.path} lost too much precision in quantization",
                "a heatmap that is faithful to the trained model's",
                "Use another file of the same model in a float format, such as fp32",
            )
        if not output:
            raise ModelFileError(
                f"{self.path} has no heatmap",
                f"a model file with the output {HEATMAP!r}",
                "Classify without it; an adopted file has none"
                if self.spec.is_adopted
                else "Export the model again with this version of pneumo-edge, to a format that has one",
            )

    def check_checks_input(self) -> None:
        """Check that the model has an input check.

        Raises:
            ModelFileError: It has none.
        """
        if not self.spec.input_check:
            raise ModelFileError(
                f"{self.path} has no input check",
                "a model file that can detect out-of-distribution images",
                "Classify without it; an adopted file has none"
                if self.spec.is_adopted
                else "Export the model again with this version of pneumo-edge",
            )

    def _run(self, others: Sequence[str]) -> engines.Outputs:
        """Return the probabilities, and the other outputs with these names, each in its own shape."""
        if not others:
            return {PROBABILITY: self.engine.run(self._tensor)}
        outputs = self.engine.run_all(self._tensor)
        for output in self.spec.outputs:
            if output.name in others:
                values = outputs[output.name]
                if not np.isfinite(values).all():
                    raise self._no_answer(f"{output.name} with values that are not finite", "finite ones")
                outputs[output.name] = values.reshape(output.shape)
        return outputs

    def _decode(self, image: bytes | Image.Image) -> Image.Image:
        if isinstance(image, bytes):
            return images.decode(image, self.spec.smallest_decoded, self.max_pixels)
        return images.to_grey(image)

    def copy(self) -> Classifier:
        """Return another classifier of the same file, for another thread."""
        return Classifier(self.path, engine=self.engine.name, threads=self.engine.threads, max_pixels=self.max_pixels)

    def as_input(self, rgb: images.Pixels) -> engines.Tensor:
        """Turn pixels, uint8 of shape (height, width, 3), into the tensor that the engine takes."""
        return pixels.convert(self.spec.input, rgb)

    def decide(self, probabilities: Mapping[str, float]) -> str:
        """The label for class probabilities: by the threshold of the spec, or the most probable where it has none."""
        positive, threshold = self.spec.decision.positive_class, self.spec.decision.threshold
        if positive is not None and threshold is not None and probabilities[positive] >= threshold:
            return positive
        return max((name for name in self.spec.class_names if name != positive), key=probabilities.__getitem__)

    def prediction_set(self, probabilities: Mapping[str, float]) -> tuple[str, ...] | None:
        """The classes that an image with these class probabilities may well be of; None where the spec does not say."""
        bounds, positive = self.spec.conformal, self.spec.decision.positive_class
        if bounds is None:
            return None
        if positive is None or bounds.least_positive is None or bounds.most_negative is None:
            least = bounds.least or {}
            return tuple(name for name in self.spec.class_names if probabilities[name] >= least[name])
        probability, least_positive, most_negative = (
            probabilities[positive],
            bounds.least_positive,
            bounds.most_negative,
        )
        return tuple(
            name
            for name in self.spec.class_names
            if (probability >= least_positive if name == positive else probability <= most_negative)
        )

    def _probabilities(self, output: engines.Probabilities) -> dict[str, float]:
        names, values = self.spec.class_names, as_probabilities(output, self.spec.scores).tolist()
        # Written so that NaN fails it.
        if not (all(0 <= value <= 1 for value in values) and abs(sum(values) - 1) <= SUM_TOLERANCE):
            raise self._no_answer(str(values), f"{len(names)} probabilities that sum to 1")
        return dict(zip(names, values, strict=True))

    def _no_answer(self, given: str, expected: str) -> NoAnswerError:
        return NoAnswerError(
            f"{self.path} gave {given} on {self.engine.name}",
            expected,
            "Leave the image out, or use another model file; `pneumo-edge verify` checks a file",
        )

    def _check_engine(self) -> None:
        size, engine = self.spec.input, self.engine
        found = _describe(engine.input_dtype, engine.input_shape, engine.output_shape, engine.other_shapes)
        promised = _describe(
            size.dtype,
            pixels.shape(size),
            (1, self.spec.score_count),
            {output.name: (1, output.size) for output in self.spec.outputs},
        )
        if found != promised:
            raise ModelFileError(
                f"{self.path} {found}", f"that it {promised}, as its ModelSpec says", "Export the model again"
            )


@dataclass(frozen=True)
class _Origin:
    """The file and arguments of a classifier, for another process to load it."""

    path: str
    engine: str
    threads: int
    spec: ModelSpec

    def load(self) -> Classifier:
        """Load the classifier again.

        Raises:
            ModelFileError: As :class:`Classifier`; or the file has changed.
        """
        loaded = Classifier(self.path, engine=self.engine, threads=self.threads)
        # The spec contains the hash of the file.
        if loaded.spec != self.spec:
            raise ModelFileError(
                f"{self.path} has changed since another process loaded it",
                "the same file",
                "Make a Classifier in each process",
            )
        return loaded


def _load_again(origin: _Origin, max_pixels: int) -> Classifier:
    loaded = origin.load()
    loaded.max_pixels = max_pixels
    return loaded


def _describe(
    dtype: str, input_shape: tuple[int, ...], output_shape: tuple[int, ...], others: Mapping[str, tuple[int, ...]]
) -> str:
    outputs = "".join(f", {name} of shape {shape}" for name, shape in others.items())
    return f"takes {dtype} of shape {input_shape} and gives shape {output_shape}{outputs}"


def read_spec(path: Path) -> ModelSpec:
    """Read the ModelSpec of a model file; see :func:`pneumo_edge.spec.read`."""
    return spec.read(path)


def as_probabilities(output: engines.Probabilities, scores: Scores) -> npt.NDArray[Any]:
    """What a model's first output says as a probability for each class."""
    if scores == "probabilities":
        return output
    values = output.astype(np.float64)
    if scores == "logits":
        # Of scores that are not finite, no probability is; the caller says so.
        with np.errstate(invalid="ignore"):
            powers = np.exp(values - values.max())
            return np.asarray(powers / powers.sum())
    # Of either sign, no power overflows.
    (second,) = values if scores == "probability" else 0.5 * (1 + np.tanh(values / 2))
    return np.array([1 - second, second])


class _Clock:
    """Collects the milliseconds between laps."""

    def __init__(self) -> None:
        self.laps: list[float] = []
        self._last = time.perf_counter_ns()

    def lap(self) -> None:
        now = time.perf_counter_ns()
        self.laps.append((now - self._last) / 1e6)
        self._last = now
