"""Gives a model file of another tool a ModelSpec: measured on labelled images, with a threshold chosen on them.

There is no trained network to compare it with. So its proof and its reference set hold its own answers on this machine,
and ``pneumo-edge verify`` compares the answers on another machine with them.

The bytes of its graph and weights stay as they are. Scaling and layout go into the ModelSpec, and a device does them.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from pneumo_edge import runs, scaling
from pneumo_edge._util import files, records
from pneumo_edge.converters import proof, reference
from pneumo_edge.converters.acceptance import Candidate
from pneumo_edge.converters.own_model import Measured, check_finite, check_scaling
from pneumo_edge.converters.proof import Origin, Proof
from pneumo_edge.converters.reference import Reference
from pneumo_edge.converters.verify import Verified, verify
from pneumo_edge.data.run_records import data_spec
from pneumo_edge.data.sources import Source
from pneumo_edge.data.tensors import Dataset, prepare
from pneumo_edge.errors import ConversionError, GateError, MissingExtraError, ModelFileError
from pneumo_edge.evaluation import drift
from pneumo_edge.evaluation.operating_point import ThresholdRule, choose_threshold
from pneumo_edge.formats import ADOPTED, FormatRecord, adopted, of_another_tool
from pneumo_edge.runtime import engines
from pneumo_edge.runtime.classifier import SUM_TOLERANCE, as_probabilities
from pneumo_edge.runtime.engines import last_operator
from pneumo_edge.runtime.engines.last_operator import LastOperator
from pneumo_edge.runtime.engines.tensors import Given, OpenShape, TensorInfo
from pneumo_edge.runtime.pixels import convert
from pneumo_edge.runtime.pixels import shape as shape_of
from pneumo_edge.scaling import Scaling
from pneumo_edge.spec import (
    MAX_SIDE,
    DecisionSpec,
    DecodingSpec,
    InputSpec,
    ModelSpec,
    ScalingSpec,
    Scores,
    TrainingSpec,
    model_sha256,
    read,
    suffix_of,
)
from pneumo_edge.spec.attaching import attach
from pneumo_edge.spec.reading import find, read_content

RECIPE = "adopted"
#: Height and width of the images for a file that takes any.
_SIDE = 224
_AXES = 4
#: Types that scores may have; those of 8 bits are quantized.
_SCORES = ("float16", "float32", "float64", "uint8", "int8")
#: Images by whose scores it is told what the output gives.
_PROBE = 64
_DIGITS = 16
_ANOTHER_FILE = "Convert the model again; its answers on this machine are not stable"

Layout = Literal["nhwc", "nchw"]
Output = Literal["probabilities", "logits"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
OUTPUTS: tuple[Output, ...] = get_args(Output)


@dataclass(frozen=True)
class Adoption:
    """A model file of another tool, and what the user says of it.

    Attributes:
        file: The ``.tflite`` or ``.onnx`` file.
        input_range: What pixels are scaled to before they go into it, as :func:`pneumo_edge.scaling.parse` reads it;
            None if the user did not say.
        layout: Where its channels stand; None to tell by its shape.
        output: What its first output gives; None to tell by the last operator and the values.
        image_size: Height and width of the images, for a file that takes any; None for the usual.
        accept: Whether the scaling stands even if another one is right more often.
    """

    file: Path
    input_range: str | None
    layout: Layout | None = None
    output: Output | None = None
    image_size: int | None = None
    accept: bool = False


def adopt(adoption: Adoption, source: Source, target: Path, cache: Path, tell: Callable[[str], None]) -> ModelSpec:
    """Measure a model file on labelled images, and write a copy that carries a ModelSpec.

    Args:
        adoption: The file.
        source: Labelled images, with their classes in the order of the model's output.
        target: Where the copy goes.
        cache: Folder with decoded data sets.
        tell: Called with notes and warnings, a line each.

    Returns:
        The spec of the copy.

    Raises:
        ArgumentError: The input range cannot be read.
        ConversionError: The file is not a classifier of one image, or does not fit the data.
        GateError: Another scaling is right more often, or none was given.
        ModelFileError: The file cannot be read, or the engine refuses it.
        MissingExtraError: No engine for the file is installed.
    """
    if find(adoption.file) is not None:
        raise ConversionError(
            f"{adoption.file} has a ModelSpec already", "a file of another tool", "Use it as it is, or export it again"
        )
    given = scaling.parse(adoption.input_range) if adoption.input_range is not None else None
    _check_target(adoption.file, target)
    file = _File(adoption, engines.choose(adoption.file))
    if given is not None:
        _tell_channels(adoption, file, given, tell)
    if file.takes_any_size and adoption.image_size is None:
        tell(
            f"note: {adoption.file} takes images of any size ({file.info.shape_text}); adopted for "
            f"{file.size[0]} x {file.size[1]} pixels. Give --image-size for another"
        )
    dataset = prepare(source, cache, *file.size)
    val, task = dataset.indices("val"), dataset.manifest.task
    if not len(val):
        raise ConversionError("the data has no validation images", "some of each class", "Give more data")
    probe = file.run(given or Scaling(), dataset.rgb(val[:_PROBE]))
    scores = _find_scores(adoption, probe, task.class_names, tell)

    def ask(trial: Scaling, pixels: npt.NDArray[np.uint8], temperature: float = 1.0) -> npt.NDArray[np.float32]:
        told = file.run(trial, pixels)
        if trial == given:
            _check_scores(adoption, told, scores)
        return np.array([as_probabilities(answer, scores) for answer in told], dtype=np.float32)

    measured = Measured(adoption.file, adoption.file.stem, adoption.input_range, adoption.accept)
    check_scaling(measured, given, dataset, ask, tell)
    assert given is not None  # else it was refused
    pixels, labels = dataset.rgb(val), task.targets(dataset.labels(val))
    found = task.scores(ask(given, pixels))
    rule = ThresholdRule.ARGMAX if task.positive_class is None else ThresholdRule.YOUDEN
    threshold = choose_threshold(rule, labels, found)
    decision = DecisionSpec(task.positive_class, threshold, rule, f"validation, {len(labels)} images")
    metrics = runs.validation_metrics(labels, found, threshold)
    _tell_measured(dataset, threshold, tell)
    spec = _describe(adoption, file, dataset, file.input_spec(given), decision, metrics)
    entries = [dataset.manifest.entries[index] for index in val]
    patients = [entry.patient for entry in entries]
    distribution = drift.describe(drift.by_class(task, found), None, patients, decision.chosen_on)
    spec = replace(spec, name=target.stem, scores=scores, validation_distribution=distribution)
    told = Reference(
        checkpoint=files.sha256(adoption.file),
        fingerprint=dataset.manifest.fingerprint,
        sha256=np.array([entry.sha256 for entry in entries]),
        pixels=pixels,
        labels=labels,
        patients=np.unique(patients, return_inverse=True)[1],
        scores=found,
        threshold=threshold,
        rule=rule,
        red=pixels[:0],
        red_scores=found[:0],
        blue_scores=found[:0],
    )
    passed = _verify(adoption.file, spec, told, file.model.is_quantized, tell)
    return _publish(adoption.file, target, spec, told, passed)


def _tell_channels(adoption: Adoption, file: _File, given: Scaling, tell: Callable[[str], None]) -> None:
    """Say how a scaling of one channel is used for three, and one of three channels for one."""
    channels = file.input_spec(given).channels
    if channels == 1 and given.uniform is None:
        tell(
            f"note: {adoption.file} takes images of 1 channel; of --input-range {adoption.input_range} the numbers of "
            f"{'blue' if given.bgr else 'red'} are used"
        )
    elif channels > 1 and given.uniform is not None and str(adoption.input_range).startswith("mean="):
        tell(
            f"note: {adoption.file} takes images of {channels} channels; mean and standard deviation of --input-range "
            "are used for each"
        )


def _tell_measured(dataset: Dataset, threshold: float | None, tell: Callable[[str], None]) -> None:
    """Say which images the numbers are of."""
    counts = {split: sum(of_class.values()) for split, of_class in dataset.manifest.counts.items()}
    what = "accuracy is measured" if threshold is None else "the threshold is chosen and the accuracy measured"
    unused = f"; {counts['test']:,} test images are not used" if counts.get("test") else ""
    tell(
        f"note: {what} on {counts['val']:,} validation images ({dataset.manifest.rule}). The scaling is also checked "
        f"on some of the {counts['train']:,} training images{unused}"
    )


@dataclass(frozen=True)
class _Passed:
    """The engines on which the file gives the same answers, and how close they are."""

    format: FormatRecord
    verified: Verified


def _verify(path: Path, spec: ModelSpec, told: Reference, is_quantized: bool, tell: Callable[[str], None]) -> _Passed:
    """Compare the file with itself, with one and more threads, on every engine that runs it as the first one does.

    Raises:
        GateError: It gives other answers with more threads.
    """
    first, *others = engines.installed_engines_for(path)
    described = f"the validation split, {len(told.labels)} images"

    def on(*rows: engines.EngineInfo) -> _Passed:
        record = of_another_tool(suffix_of(path), tuple(row.name for row in rows), is_quantized)
        candidate = Candidate(path, adopted(record), spec.task.positive_index, _ANOTHER_FILE, spec)
        return _Passed(record, verify(candidate, told, described, spec.decision.threshold))

    same, passed = [first], None
    for row in others:
        try:
            passed = on(*same, row)
        except (GateError, ModelFileError, MissingExtraError) as error:
            tell(f"note: {path.name} is adopted for {first.name} only: {error}")
        else:
            same.append(row)
    return passed or on(first)


def _publish(model: Path, target: Path, spec: ModelSpec, told: Reference, passed: _Passed) -> ModelSpec:
    """Write the copy with its spec, its proof and its reference set: each gets its name when all are complete.

    Raises:
        ConversionError: The copy does not load.
    """
    beside = target.with_name(reference.file_name(target.name))
    with files.atomic(target) as copy, files.atomic(proof.path(target)) as proved, files.atomic(beside) as saved:
        spec = attach(model, copy, spec)
        _check_copy(model, copy, spec)
        reference.save(told, saved)
        origin = Origin(
            target.name, told.checkpoint, told.fingerprint, None, files.sha256(saved), passed.format, spec.versions
        )
        size, sha256, verification = copy.stat().st_size, files.sha256(copy), passed.verified.verification
        record = Proof(target.name, size, sha256, origin, spec.decision.threshold, verification)
        files.write_text(proved, records.document(record))
    return spec


def _check_target(model: Path, target: Path) -> None:
    """Refuse to replace a file that is not a copy of the same model."""
    if not target.exists():
        return
    try:
        is_copy = read(target).model_sha256 == model_sha256(read_content(model), suffix_of(model))
    except ModelFileError:
        is_copy = False
    if not is_copy:
        raise ConversionError(
            f"{target} exists, and is not an adopted copy of {model}", "a free name", "Give another --out, or remove it"
        )


def _check_copy(model: Path, copy: Path, spec: ModelSpec) -> None:
    try:
        engines.load_any(copy, engines.choose(copy), given=Given({spec.input.name: shape_of(spec.input)}))
    except ModelFileError as error:
        raise ConversionError(
            f"{model} does not load from another folder",
            "a model in one file, with its weights inside",
            "Save it as one file, without external data",
        ) from error


def _describe(
    adoption: Adoption,
    file: _File,
    dataset: Dataset,
    input_spec: InputSpec,
    decision: DecisionSpec,
    metrics: dict[str, float],
) -> ModelSpec:
    sha256 = files.sha256(adoption.file)[:_DIGITS]
    return ModelSpec(
        name=adoption.file.stem,
        backbone=adoption.file.stem,
        format=ADOPTED,
        class_names=dataset.manifest.task.class_names,
        input=input_spec,
        decision=decision,
        temperature=1.0,
        data=data_spec(dataset.manifest),
        training=TrainingSpec(
            recipe=RECIPE,
            seed=0,
            initial_weights=f"those of {adoption.file.name} (sha256 {sha256}), trained elsewhere, pixels scaled to "
            f"{adoption.input_range}",
            epochs=0,
            validation=metrics,
        ),
        versions={
            "python": platform.python_version(),
            "pneumo-edge": version("pneumo-edge"),
            file.model.name: file.model.version,
        },
        notice="Research software; not a medical device.",
    )


class _File:
    """The file on an engine, with the size and layout of its images."""

    def __init__(self, adoption: Adoption, row: engines.EngineInfo) -> None:
        self._path, self._engine = adoption.file, row
        self.info = _image_input(adoption.file, engines.load_any(adoption.file, row))
        self.layout = adoption.layout or _find_layout(adoption.file, self.info)
        sides = self.info.shape[2:] if self.layout == "nchw" else self.info.shape[1:3]
        self.takes_any_size = None in sides
        self.size = _size(adoption, self.info, self.layout, sides)
        shape = shape_of(self.input_spec(Scaling()))
        self.model = engines.load_any(adoption.file, row, given=Given({self.info.name: shape}))

    def input_spec(self, trial: Scaling) -> InputSpec:
        """What the ModelSpec says of the input with a scaling."""
        return _input_spec(self.info, self.layout, self.size, trial)

    def run(self, trial: Scaling, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """The scores of images, (images, scores), with a scaling of their pixels."""
        spec = self.input_spec(trial)
        with engines.refusal(self._engine.name, self._path, "run"):
            answers = [self.model.call([convert(spec, each)])[0].reshape(-1) for each in rgb]
        return _dequantize(np.stack(answers), self.model.outputs[0])


def _image_input(file: Path, model: engines.AnyModel) -> TensorInfo:
    """The input, of a file that takes one image and gives one vector of scores."""
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != _AXES:
        raise ConversionError(
            f"{file} takes {', '.join(f'{each.name} ({each.shape_text})' for each in model.inputs)}",
            "one image: a tensor of four axes",
            "Adopt a classifier of one image; `pneumo-edge benchmark` times any file",
        )
    if len(model.outputs) != 1:
        raise ConversionError(
            f"{file} has {len(model.outputs)} outputs: {', '.join(each.name for each in model.outputs)}",
            "one, with a score for each class",
            "Export the model again with its class scores alone",
        )
    (info,), (scores,) = model.inputs, model.outputs
    is_vector = len(scores.shape) == 2 and scores.shape[0] in (1, None) and scores.shape[1] is not None
    if not is_vector or scores.dtype not in _SCORES:
        raise ConversionError(
            f"{file} gives {scores.name} ({scores.shape_text} {scores.dtype})",
            f"the scores of one image: a tensor of two axes, 1 x classes, of {', '.join(_SCORES)}",
            "Export the model again with its class scores, and with their batch axis",
        )
    if info.dtype not in ("float32", "uint8", "int8"):
        raise ConversionError(
            f"{file} takes an image of {info.dtype}",
            "float32, uint8 or int8",
            "Export the model again with one of these",
        )
    return info


def _find_layout(file: Path, info: TensorInfo) -> Layout:
    first, last = info.shape[1] in (1, 3), info.shape[3] in (1, 3)
    if first == last:
        raise ConversionError(
            f"{file} takes {info.shape_text}, which does not show where its channels stand",
            "1 or 3 channels as the second axis (nchw) or as the last (nhwc)",
            "Give --layout nchw or --layout nhwc",
        )
    return "nchw" if first else "nhwc"


def _size(adoption: Adoption, info: TensorInfo, layout: Layout, sides: OpenShape) -> tuple[int, int]:
    channels = info.shape[1 if layout == "nchw" else 3]
    if channels not in (1, 3):
        raise ConversionError(
            f"{adoption.file} takes {info.shape_text}, in {layout} an image of {channels} channels",
            "1 or 3 channels",
            "Give the other --layout, or a model of images",
        )
    height, width = (adoption.image_size or _SIDE if side is None else side for side in sides)
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise ConversionError(
            f"{adoption.file} takes images of {height:,} x {width:,} pixels",
            f"1 to {MAX_SIDE:,}",
            "Adopt another model",
        )
    if adoption.image_size not in (None, height, width):
        raise ConversionError(
            f"--image-size is {adoption.image_size}", f"{height} x {width}, which {adoption.file} takes", "Leave it out"
        )
    return height, width


def _input_spec(info: TensorInfo, layout: Layout, size: tuple[int, int], trial: Scaling) -> InputSpec:
    channels = info.shape[1 if layout == "nchw" else 3] or 3
    scale, offset = (
        tuple(float(number) for number in np.broadcast_to(np.asarray(each), 3)[:: -1 if trial.bgr else 1][:channels])
        for each in (trial.scale, trial.offset)
    )
    step, zero_point = info.quantization or (1.0, 0)
    return InputSpec(
        *size,
        1 if channels == 1 else 3,
        "float32" if info.dtype == "float32" else "int8" if info.dtype == "int8" else "uint8",
        "bilinear",
        name=info.name,
        decoding=DecodingSpec(None),
        layout=layout,
        scaling=ScalingSpec(scale, offset)
        if info.dtype == "float32"
        else ScalingSpec(scale, offset, float(step), int(zero_point)),
    )


def _dequantize(answers: npt.NDArray[np.generic], info: TensorInfo) -> npt.NDArray[np.float64]:
    if info.quantization is None:
        return answers.astype(np.float64)
    step, zero_point = info.quantization
    return (answers.astype(np.float64) - zero_point) * step


def _check_scores(adoption: Adoption, told: npt.NDArray[np.float64], scores: Scores) -> None:
    """Refuse a file with an answer that is none."""
    check_finite(adoption.file, told)
    if scores in ("probability", "probabilities"):
        worst = float(told.min() if told.min() < 0 else told.max())
        sums = np.ones(len(told)) if scores == "probability" else told.sum(axis=1)
        if not 0 <= worst <= 1 or (np.abs(sums - 1) > SUM_TOLERANCE).any():
            raise ConversionError(
                f"{adoption.file} gives scores such as {worst:.4g} for some images",
                "probabilities: 0 to 1, with a sum of 1",
                "Give --output logits if they are logits",
            )


def _find_scores(
    adoption: Adoption,
    answers: npt.NDArray[np.float64],
    class_names: tuple[str, ...],
    tell: Callable[[str], None],
) -> Scores:
    """What the first output holds, by the last operator and its values on some images where the user does not say."""
    count = answers.shape[1]
    if count not in (len(class_names), 1) or (count == 1 and len(class_names) != 2):
        raise ConversionError(
            f"{adoption.file} gives {count} {'score' if count == 1 else 'scores'} and the data has "
            f"{len(class_names)} classes: {', '.join(class_names)}",
            "a score for each class in the model's order, or for two classes one of the second",
            "Give data with the model's classes, in its order (--classes)",
        )
    check_finite(adoption.file, answers)
    output, why = adoption.output, "as --output says"
    last = last_operator.find(read_content(adoption.file), suffix_of(adoption.file))
    if output is None:
        output, why = _tell_apart(adoption.file, last, answers), f"scores of {_range(answers)}"
    is_odd = last is not None and (last.is_bounded or (last.gives_probabilities and output == "logits"))
    ends = f", and the graph ends in {last}" if last is not None else ""
    tell(f"{'warning' if is_odd else 'note'}: the output of {adoption.file} is taken as {output}: {why}{ends}")
    if output == "probabilities":
        return "probability" if count == 1 else "probabilities"
    return "logit" if count == 1 else "logits"


def _range(answers: npt.NDArray[np.float64]) -> str:
    return f"{answers.min():.4g} to {answers.max():.4g}"


def _tell_apart(file: Path, last: LastOperator | None, answers: npt.NDArray[np.float64]) -> Output:
    """Whether scores are probabilities or logits, by the last operator and the values.

    Raises:
        ConversionError: They leave it open.
    """
    within, sums = bool(((answers >= 0) & (answers <= 1)).all()), answers.sum(axis=1)
    single = answers.shape[1] == 1
    if within and not single and (np.abs(sums - 1) > SUM_TOLERANCE).any():
        raise ConversionError(
            f"{file} gives scores of 0 to 1 that do not sum to 1",
            "probabilities that sum to 1, or logits",
            "Give --output logits if they are logits; a sigmoid for each class cannot be adopted",
        )
    if within and (last is None or last.gives_probabilities):
        return "probabilities"
    # As percentages have.
    has_total = not single and bool((answers >= 0).all() and np.ptp(sums) <= SUM_TOLERANCE * sums.mean())
    if within or has_total or (last is not None and (last.is_bounded or last.gives_probabilities)):
        ends = f"ends in {last} and " if last is not None else ""
        total = f", with a sum of {sums.mean():.4g} for each image" if has_total else ""
        raise ConversionError(
            f"{file} {ends}gives scores of {_range(answers)}{total}: they may be probabilities, logits or neither",
            "a graph that ends in a sigmoid or a softmax, or logits beyond 0 to 1",
            "Give --output logits or --output probabilities; export percentages or other scores again as one of these",
        )
    return "logits"
