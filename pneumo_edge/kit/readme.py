"""The README of a kit: every step from an image file to the answer, with the numbers of its model."""

from __future__ import annotations

import textwrap
from importlib import resources
from string import Template

from pneumo_edge import __version__
from pneumo_edge._util import markdown
from pneumo_edge.errors import printable
from pneumo_edge.imaging import images
from pneumo_edge.kit.documents import KitVectors
from pneumo_edge.runtime import pixels
from pneumo_edge.runtime.classifier import Classifier
from pneumo_edge.spec import ModelSpec


def render(classifier: Classifier, vectors: KitVectors) -> str:
    """The README of a kit, as Markdown."""
    spec, most = classifier.spec, vectors.tolerances
    template = resources.files("pneumo_edge").joinpath("kit", "readme.md").read_text(encoding="utf-8")
    return Template(template).substitute(
        name=markdown.escape(printable(spec.name)),
        notice=markdown.escape(printable(spec.notice)),
        version=__version__,
        model=_code(vectors.model, in_table=True),
        sha256=vectors.model_sha256,
        engine=vectors.engine,
        classes=", ".join(_code(name, in_table=True) for name in spec.class_names),
        formats=", ".join(images.FORMATS),
        min_side=images.MIN_SIDE,
        max_pixels=f"{images.MAX_PIXELS:,}",
        max_bytes=f"{images.MAX_BYTES:,}",
        scaled_down=_scaled_down(spec),
        height=spec.input.height,
        width=spec.input.width,
        dtype=spec.input.dtype,
        shape=" x ".join(map(str, pixels.shape(spec.input))),
        layout=_layout(spec),
        scaling=_scaling(spec),
        outputs=_outputs(spec, vectors),
        probabilities=_probabilities(spec),
        decision=_decision(spec),
        sets=_sets(spec),
        check=_check(spec),
        decoded_lossless=f"{most.decoded_lossless:g}",
        decoded_lossy=f"{most.decoded_lossy:g}",
        decoded_lossy_mean=f"{most.decoded_lossy_mean:g}",
        grey=f"{most.grey:g}",
        resized=f"{most.resized:g}",
        tensor=f"{most.tensor:.2g}",
        probability=f"{most.probability:g}",
        other_outputs=f"{most.other_outputs:g}",
        answer=f"{most.answer:g}",
        vectors="\n".join(
            f"| `{each.file}` | {each.about} | {each.refused or 'classified'} |" for each in vectors.vectors
        ),
        cases=len(vectors.decisions),
    )


def _code(name: str, *, in_table: bool = False) -> str:
    return markdown.code(printable(name), in_table)


def _scaled_down(spec: ModelSpec) -> str:
    least = spec.smallest_decoded
    if least is None:
        return "A JPEG must be decoded in full: scaling while decoding changes the answers of this model."
    return (
        "A JPEG decoder may scale a large image down by 2, 4 or 8 while it decodes, as libjpeg can, as long as both "
        f"sides stay at least {least} pixels. This is faster, and changes a probability little. The test vectors are "
        "decoded in full."
    )


def _layout(spec: ModelSpec) -> str:
    if spec.input.layout == "nchw":
        return "the channels one after the other, each row by row (NCHW)"
    return "row by row, and of each pixel one channel after the other (NHWC)"


def _scaling(spec: ModelSpec) -> str:
    scaling, dtype = spec.input.scaling, spec.input.dtype
    if scaling is None:
        return (
            f"Nothing is scaled: each element is the pixel itself, 0 to 255, as {dtype}. Scaling is inside the model: "
            "do not divide by 255 and do not subtract a mean."
        )
    text = "Each element is `pixel * scale[channel] + offset[channel]`, computed in float64:\n\n" + "\n".join(
        f"- channel {number}: scale {scale!r}, offset {offset!r}"
        for number, (scale, offset) in enumerate(zip(scaling.scale, scaling.offset, strict=True))
    )
    if scaling.step is None:
        return f"{text}\n\nIt is then rounded to {dtype}."
    return (
        f"{text}\n\nThe result `v` is quantized: `clip(round(v / {scaling.step!r}) + {scaling.zero_point})` to the "
        f"range of {dtype}, with halves rounded to the even number."
    )


def _outputs(spec: ModelSpec, vectors: KitVectors) -> str:
    first, *_ = vectors.outputs
    shapes = {first: f"1 x {spec.score_count}"}
    about = {first: f"what the step decision begins with ({spec.scores})"}
    for output in spec.outputs:
        shapes[output.name] = f"1 x {output.size}, which stands for {' x '.join(map(str, output.shape))}"
        about[output.name] = markdown.escape(printable(output.description)) + (
            "" if output.faithful else " Not precise enough to be used."
        )
    return "\n".join(
        f"{number}. {_code(name)}, {shapes[name]}: {about[name]}" for number, name in enumerate(vectors.outputs)
    )


def _probabilities(spec: ModelSpec) -> str:
    return {
        "probabilities": "The first output holds the probability of each class, in the order of `labels.txt`. A "
        "temperature and the softmax are inside the model; apply neither.",
        "logits": "The first output holds logits `v`. The probability of class `i` is "
        "`exp(v[i] - max(v)) / sum(exp(v - max(v)))`.",
        "probability": "The first output holds one value `p`, the probability of the second class; that of the first "
        "is `1 - p`.",
        "logit": "The first output holds one value `v`. The probability of the second class is `1 / (1 + exp(-v))`; "
        "that of the first is 1 minus it.",
    }[spec.scores]


def _decision(spec: ModelSpec) -> str:
    decision = spec.decision
    if decision.positive_class is None:
        return "The label is the most probable class; of equal ones, the first."
    return (
        f"The label is {_code(decision.positive_class)} if its probability is at least {decision.threshold!r}, and "
        "else the most probable of the other classes. The threshold is not 0.5: it was chosen for this file "
        f"({markdown.escape(printable(f'{decision.rule}; {decision.chosen_on}'))})."
    )


def _sets(spec: ModelSpec) -> str:
    bounds, positive = spec.conformal, spec.decision.positive_class
    if bounds is None:
        return "This model has no prediction sets: `prediction_set` and `uncertain` are null."
    if bounds.least is not None:
        rules = [f"{_code(name)} where its probability is at least {bounds.least[name]!r}" for name in spec.class_names]
    else:
        rules = [
            f"{_code(name)} where the probability of {_code(str(positive))} is "
            + (f"at least {bounds.least_positive!r}" if name == positive else f"at most {bounds.most_negative!r}")
            for name in spec.class_names
        ]
    return (
        "The prediction set has, in the order of the classes, "
        + ", and ".join(rules)
        + ". It may have one class, several or none. The answer is `uncertain` unless the set is the label alone."
    )


def _check(spec: ModelSpec) -> str:
    check = spec.input_check
    if check is None:
        return "This model has no input check: `distance` and `out_of_distribution` are null."
    return textwrap.dedent(f"""\
        The output `components` tells whether an image is unlike the training images. `input_check` in `spec.json` has a
        `mean` and a `scale` for each of its {len(check.mean)} values, and {len(check.parts)} `parts`: the values
        belong, in their order, to parts of {", ".join(map(str, check.parts))} values.

        1. Standardize: `z = (components - mean) / scale`.
        2. Of each part, take the root of the mean of `z * z`.
        3. `distance` is the largest of these.

        The image is `out_of_distribution` if `distance` is above {check.limit!r}. Label and probabilities then mean
        nothing.""")
