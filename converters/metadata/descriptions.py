"""The description of a model file for people and for other clients, the same in every kind of file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pneumo_edge.spec import PROBABILITY, ModelSpec

#: Who made the file.
MAKER = "pneumo-edge"


def model(spec: ModelSpec) -> str:
    """What the file is."""
    what = "Chest X-ray" if spec.task.is_of_x_rays else "Image"
    return f"{what} classifier: {spec.backbone}, {spec.format}. {decision(spec)} {spec.notice}"


def decision(spec: ModelSpec) -> str:
    """How an answer is decided, in a sentence."""
    if spec.decision.threshold is None:
        return "The most probable class is reported."
    return (
        f"{spec.decision.positive_class} is reported where its probability is at least {spec.decision.threshold:.4f}."
    )


def image(spec: ModelSpec) -> str:
    """What the file takes."""
    return (
        f"RGB pixels of {spec.input.minimum} to {spec.input.maximum} as they are, resized to {spec.input.width}x"
        f"{spec.input.height} by the {spec.input.resize_filter} filter; every scaling is inside the graph."
    )


@dataclass(frozen=True)
class Output:
    """What a file says of one of its outputs; ``span`` are the ends of its values, where they have any.

    Every output has a label file, because MediaPipe takes each for the scores of a classification, and refuses to
    filter by category where one has no labels.
    """

    name: str
    description: str
    labels_name: str
    labels: tuple[str, ...]
    span: tuple[float, float] | None = None


def outputs(spec: ModelSpec) -> list[Output]:
    """What a file says of each of its outputs, in their order."""
    probability = f"Probability of each of {', '.join(spec.class_names)}, in this order."
    outputs = [Output(PROBABILITY, probability, "labels.txt", spec.class_names, (0.0, 1.0))]
    for each in spec.outputs:
        labels = tuple(f"{each.name} {' '.join(map(str, place))}" for place in np.ndindex(*each.shape))
        outputs.append(Output(each.name, each.description, f"{each.name}-labels.txt", labels))
    return outputs
