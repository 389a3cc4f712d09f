"""What the classes of scored images must be for the metrics of them to exist."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

#: An interval of the AUC takes at least two images of each class.
MIN_IMAGES = 2


def check_classes(class_names: tuple[str, ...], labels: Iterable[int]) -> None:
    """Refuse images of which no AUC with its interval can be computed.

    Raises:
        ValueError: There are not two classes, or one has fewer than :data:`MIN_IMAGES` images.
    """
    if len(class_names) != 2 or len(set(class_names)) != 2:
        raise ValueError(f"class_names are {', '.join(map(repr, class_names)) or 'none'}, not two different names")
    counts = Counter(labels)
    if min(counts[0], counts[1]) < MIN_IMAGES:
        images = " and ".join(f"{counts[label]} of {name}" for label, name in enumerate(class_names))
        raise ValueError(f"labels are {images}, not at least {MIN_IMAGES} of each class")
