"""Computes the test vectors of a model file: each step of each image, and the answers to made-up outputs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from pneumo_edge._util import files
from pneumo_edge.errors import ImageError
from pneumo_edge.imaging import images
from pneumo_edge.imaging.images import Pixels
from pneumo_edge.kit import pictures
from pneumo_edge.kit.documents import (
    Answer,
    DecisionCase,
    KitVectors,
    PictureFile,
    TensorVectors,
    Tolerances,
    Vector,
)
from pneumo_edge.runtime import engines, pixels
from pneumo_edge.runtime.classifier import Classifier, as_probabilities
from pneumo_edge.spec import COMPONENTS, PROBABILITY, InputCheckSpec, InputSpec, ModelSpec, Scores

Outputs = dict[str, tuple[float, ...]]
#: The file of the vectors in a kit; the paths in it begin in its folder.
VECTORS = Path("vectors", "vectors.json")
#: Folders of the image files and of the pixels, beside the vectors.
IMAGES, PIXELS = "images", "pixels"
#: How far made-up probabilities lie beside a limit, and made-up distances: float32 tells these apart.
_BESIDE = 1e-4
_BESIDE_DISTANCE = 1e-3
#: The least probability of which a logarithm is taken.
_LEAST = 1e-9
#: Of the numbers in an answer, well below these.
_ANSWER = 2e-5
#: Differences of a pixel: decoders of JPEG round differently, and arithmetic in floats rounds between the two passes of
#: a resize differently.
_LOSSY, _LOSSY_MEAN, _ROUNDING = 3.0, 0.5, 1.0
#: Of a tensor's element in float32, as a share of the range of its values.
_FLOAT = 1e-5
#: Of the outputs of a quantized file, whose kernels round differently on other engines and processors.
_QUANTIZED, _QUANTIZED_OTHER, _FLOAT_OTHER = 0.1, 0.25, 0.01


@dataclass(frozen=True)
class Computed:
    """The vectors of a model file, and the files that they name, by their paths below the vectors' folder."""

    vectors: KitVectors
    files: Mapping[str, bytes]


def compute(classifier: Classifier) -> Computed:
    """Compute the test vectors of a model file, with its engine on this machine."""
    spec = classifier.spec
    made: dict[str, bytes] = {}
    drawn = pictures.draw(spec.input.height, spec.input.width)
    vectors = tuple(_vector(classifier, each, made) for each in drawn)
    described = KitVectors(
        name=spec.name,
        model=classifier.path.name,
        model_sha256=files.sha256(classifier.path),
        engine=f"{classifier.engine.name} {classifier.engine.version}",
        notice=f"The images are procedural drawings, no X-rays. {spec.notice}",
        outputs=(PROBABILITY, *classifier.engine.other_shapes),
        tensor=_tensor(spec.input),
        tolerances=_tolerances(spec),
        vectors=vectors,
        decisions=tuple(_decisions(classifier)),
    )
    return Computed(described, made)


def _vector(classifier: Classifier, image: pictures.TestImage, made: dict[str, bytes]) -> Vector:
    file = f"{IMAGES}/{image.name}"
    made[file] = image.content
    try:
        grey = images.decode(image.content)
    except ImageError as error:
        return Vector(file, image.about, refused=error.given)
    size = classifier.spec.input
    resized = images.resize(grey, size.height, size.width, size.resize_filter)
    outputs = run(classifier, as_tensor(size, np.asarray(resized)))
    steps = {"decoded": decoded(image.content), "grey": np.asarray(grey), "resized": np.asarray(resized)}
    written = {}
    for step, array in steps.items():
        name = f"{PIXELS}/{image.name}.{step}.{'pgm' if array.ndim == 2 else 'ppm'}"
        made[name] = netpbm(array)
        written[step] = PictureFile(name, array.shape[1], array.shape[0], 1 if array.ndim == 2 else 3)
    return Vector(file, image.about, None, **written, outputs=_plain(outputs), answer=answer(classifier, outputs))


def decoded(content: bytes) -> Pixels:
    """The upright pixels of an image file that is not refused.

    Returns:
        uint8 of shape (height, width), or (height, width, 3) in RGB where the file has colours.
    """
    image = ImageOps.exif_transpose(images.open_image(content))
    if image.mode not in ("1", "L", "LA"):
        return np.asarray(image.convert("RGB"))
    return np.asarray(image.convert("L"))


def grey_of(array: Pixels) -> Pixels:
    """Decoded pixels after the step ``grey``: uint8 of shape (height, width)."""
    return np.asarray(Image.fromarray(array).convert("L"))


def resized_of(array: Pixels, size: InputSpec) -> Pixels:
    """Grey pixels after the step ``resize``."""
    return np.asarray(images.resize(Image.fromarray(array), size.height, size.width, size.resize_filter))


def as_tensor(size: InputSpec, grey: Pixels) -> engines.Tensor:
    """Grey pixels of the model's size after the step ``tensor``."""
    tensor = np.empty(pixels.shape(size), size.dtype)
    pixels.filler(size)(tensor, grey)
    return tensor


def run(classifier: Classifier, tensor: engines.Tensor) -> engines.Outputs:
    """Every output of the model, float32, by its name.

    Raises:
        ModelFileError: The engine cannot run the model.
    """
    with engines.refusal(classifier.engine.name, classifier.path, "run"):
        return {name: np.array(values) for name, values in classifier.engine.run_all(tensor).items()}


def answer(classifier: Classifier, outputs: Mapping[str, npt.NDArray[np.float32]]) -> Answer:
    """The answer to the outputs of a model."""
    spec = classifier.spec
    values = as_probabilities(outputs[PROBABILITY], spec.scores).tolist()
    distance = float(spec.input_check.distances(outputs[COMPONENTS])) if spec.input_check else None
    return decide(classifier, dict(zip(spec.class_names, values, strict=True)), distance)


def decide(classifier: Classifier, probabilities: Mapping[str, float], distance: float | None) -> Answer:
    """The answer that follows from probabilities and a distance."""
    label, plausible = classifier.decide(probabilities), classifier.prediction_set(probabilities)
    check = classifier.spec.input_check
    return Answer(
        probabilities=dict(probabilities),
        label=label,
        prediction_set=plausible,
        uncertain=None if plausible is None else plausible != (label,),
        distance=distance,
        out_of_distribution=None if check is None or distance is None else distance > check.limit,
    )


def netpbm(array: Pixels) -> bytes:
    """Pixels as a binary PGM or PPM file."""
    kind = "P5" if array.ndim == 2 else "P6"
    return f"{kind}\n{array.shape[1]} {array.shape[0]}\n255\n".encode() + array.tobytes()


def _plain(outputs: Mapping[str, npt.NDArray[np.float32]]) -> Outputs:
    return {name: tuple(values.astype(float).tolist()) for name, values in outputs.items()}


def _tensor(size: InputSpec) -> TensorVectors:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    # The first two axes of an image are as long as they are.
    channels = pixels.convert(_of_ramp(size), np.stack([ramp] * 3, axis=-1))[0]
    if size.layout == "nhwc":
        channels = np.moveaxis(channels, -1, 0)
    values = tuple(tuple(channel.ravel().astype(float).tolist()) for channel in channels)
    return TensorVectors(pixels.shape(size), size.layout, size.dtype, values)


def _of_ramp(size: InputSpec) -> InputSpec:
    return replace(size, height=16, width=16)


def _tolerances(spec: ModelSpec) -> Tolerances:
    verified = spec.verification.bounds if spec.verification else {}
    # A quantized file may give other probabilities than its Keras model; on two engines it does so less.
    probability = min(verified.get("max_difference", _QUANTIZED), _QUANTIZED)
    values = np.array(_tensor(spec.input).values)
    return Tolerances(
        decoded_lossless=0.0,
        decoded_lossy=_LOSSY,
        decoded_lossy_mean=_LOSSY_MEAN,
        grey=_ROUNDING,
        resized=_ROUNDING,
        tensor=float(np.ptp(values)) * _FLOAT if spec.input.dtype == "float32" else float(bool(spec.input.scaling)),
        probability=probability,
        other_outputs=_QUANTIZED_OTHER if probability == _QUANTIZED else _FLOAT_OTHER,
        answer=_ANSWER,
    )


def _decisions(classifier: Classifier) -> Iterator[DecisionCase]:
    spec = classifier.spec
    middle = np.array(spec.input_check.mean) if spec.input_check else None
    cases = [(about, values, middle) for about, values in _probabilities(spec)]
    if spec.input_check:
        values = np.full(len(spec.class_names), 1 / len(spec.class_names))
        cases += [(about, values, components) for about, components in _components(spec.input_check)]
    for about, values, components in cases:
        outputs = {PROBABILITY: _as_scores(values, spec.scores)}
        if components is not None:
            outputs[COMPONENTS] = components.astype(np.float32)
        yield DecisionCase(about, _plain(outputs), answer(classifier, outputs))


def _probabilities(spec: ModelSpec) -> Iterator[tuple[str, npt.NDArray[np.float64]]]:
    """Probabilities of all classes, on both sides of each limit."""
    names, positive = spec.class_names, spec.decision.positive_class
    bounds = spec.conformal
    if positive is None:
        for index, name in enumerate(names):
            yield f"{name} is certain", _with(spec, index, 1.0)
            yield f"{name} is the most probable one by little", _with(spec, index, 1 / len(names) + _BESIDE)
        for name, least in (bounds.least or {}).items() if bounds else ():
            for side, about in ((-_BESIDE, "below"), (_BESIDE, "above")):
                if 0 <= least + side <= 1:
                    yield (
                        f"the probability of {name} is just {about} its bound",
                        _with(spec, names.index(name), least + side),
                    )
        return
    limits: dict[str, float | None] = {"the threshold": spec.decision.threshold, "one half": 0.5}
    if bounds:
        limits |= {"least_positive": bounds.least_positive, "most_negative": bounds.most_negative}
    index = names.index(positive)
    for about, value in (("certainly not", 0.0), ("certainly", 1.0)):
        yield f"{about} {positive}", _with(spec, index, value)
    for limit, bound in limits.items():
        for side, about in ((-_BESIDE, "below"), (_BESIDE, "above")):
            if bound is not None and 0 <= bound + side <= 1:
                yield f"the probability of {positive} is just {about} {limit}", _with(spec, index, bound + side)


def _with(spec: ModelSpec, index: int, value: float) -> npt.NDArray[np.float64]:
    """Probabilities of which one is given, and the others share the rest."""
    values = np.full(len(spec.class_names), (1 - value) / (len(spec.class_names) - 1))
    values[index] = value
    return values


def _as_scores(values: npt.NDArray[np.float64], scores: Scores) -> npt.NDArray[np.float32]:
    """What a model's first output holds where these are the probabilities."""
    clipped = np.clip(values, _LEAST, 1)
    of_scores = {
        "probabilities": values,
        "logits": np.log(clipped),
        "probability": values[-1:],
        "logit": np.log(clipped[-1:]) - np.log(clipped[:1]),
    }
    return np.asarray(of_scores[scores], np.float32)


def _components(check: InputCheckSpec) -> Iterator[tuple[str, npt.NDArray[np.float64]]]:
    """Components of an image on both sides of the limit, in each part of them and in all together."""
    mean, scale = np.array(check.mean), np.array(check.scale)
    ends = np.cumsum(check.parts)
    for side, about in ((1 - _BESIDE_DISTANCE, "within"), (1 + _BESIDE_DISTANCE, "beyond")):
        yield f"all parts are just {about} the limit", mean + scale * check.limit * side
        for number, (size, end) in enumerate(zip(check.parts, ends, strict=True), 1):
            components = mean.copy()
            components[end - 1] += scale[end - 1] * check.limit * side * math.sqrt(size)
            yield f"one component of part {number} takes it just {about} the limit", components
