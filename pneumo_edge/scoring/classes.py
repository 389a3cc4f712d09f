"""Checks that the metrics of scored images are defined."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from pneumo_edge.task import Task

#: An interval of the AUC needs at least two images of each class.
MIN_IMAGES = 2


def check_classes(class_names: tuple[str, ...], labels: Iterable[int]) -> None:
    """Refuse images for which no AUC with an interval can be computed.

    Raises:
        ValueError: There are not two classes or more, one has fewer than :data:`MIN_IMAGES` images, or a label is none.
    """
    if len(class_names) < 2 or len(set(class_names)) != len(class_names):
        raise ValueError(
            f"class_names are {', '.join(map(repr, class_names)) or 'none'}, not two or more different names"
        )
    counts = Counter(labels)
    if unknown := [label for label in counts if label >= len(class_names)]:
        raise ValueError(f"a label is {max(unknown)}, not within 0 to {len(class_names) - 1}")
    if min(counts[label] for label in range(len(class_names))) < MIN_IMAGES:
        images = " and ".join(f"{counts[label]} of {name}" for label, name in enumerate(class_names))
        raise ValueError(f"labels are {images}, not at least {MIN_IMAGES} of each class")


def task_of(class_names: tuple[str, ...], positive_class: str | None) -> Task:
    """The task of scored images.

    Args:
        class_names: In the order of labels.
        positive_class: What the file names; of two classes it is the second where the file is from before it did.

    Raises:
        ValueError: As :class:`~pneumo_edge.task.Task`.
    """
    if len(class_names) == 2 and positive_class is None:
        positive_class = class_names[1]
    return Task.of(class_names, positive_class)


def check_probabilities(
    what: str,
    probabilities: Sequence[float],
    by_class: Sequence[Sequence[float]] | None,
    threshold: float | None,
    task: Task,
    images: int,
) -> None:
    """Refuse probabilities that are not of these images and classes.

    Args:
        what: Whose they are, for the error.
        probabilities: Of the positive class, for each image.
        by_class: Of every class for each image, where there is no positive class.
        threshold: The decision threshold that goes with them.
        task: That of the images.
        images: How many there are.

    Raises:
        ValueError: They are not.
    """
    several = task.positive_class is None
    if several != (by_class is not None) or several != (threshold is None):
        raise ValueError(
            f"{what} has probabilities or a threshold of another task than {len(task.class_names)} classes"
        )
    found = len(probabilities) if by_class is None else len(by_class)
    if found != images:
        raise ValueError(f"{what} has {found} probabilities for {images} images")
    if by_class is not None and any(len(row) != len(task.class_names) for row in by_class):
        raise ValueError(f"{what} has not a probability of each of {len(task.class_names)} classes for every image")
