"""The task: what a network is asked of an image. It comes with the data set and travels through run and model file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pneumo_edge._util.records import Text

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class Task:
    """The classes of images, and how an answer is decided.

    Attributes:
        class_names: In the order of labels, 0 first, and of every model's output; two or more different names.
        positive_class: The one of them that is looked for; None where no class is.
        decided_by: ``"threshold"``: the positive class is the answer where its probability is at least a threshold that
            is chosen on validation, and else the most probable of the others. ``"argmax"``: the most probable class is
            the answer; this is for more than two classes, and there is no positive class then.

    Raises:
        ValueError: The names are not different, the positive class is none of them, or it does not go with
            ``decided_by``.
    """

    class_names: tuple[Text, ...]
    positive_class: str | None
    decided_by: Literal["threshold", "argmax"] = "threshold"

    def __post_init__(self) -> None:
        if len(set(self.class_names)) != len(self.class_names) or len(self.class_names) < 2:
            raise ValueError(f"class_names are {list(self.class_names)}, not two or more different names")
        if self.decided_by == "threshold" and self.positive_class not in self.class_names:
            raise ValueError(f"positive_class {self.positive_class!r} is not in class_names")
        if self.decided_by == "argmax" and self.positive_class is not None:
            raise ValueError(f"positive_class is {self.positive_class!r}, and argmax takes none")
        if self.decided_by == "argmax" and len(self.class_names) == 2:
            raise ValueError(f"decided_by is 'argmax', and two classes, {list(self.class_names)}, take a threshold")

    @classmethod
    def of(cls, class_names: Sequence[str], positive_class: str | None) -> Task:
        """The task of these classes: decided by a threshold where there is a positive class, else by argmax."""
        return cls(tuple(class_names), positive_class, "argmax" if positive_class is None else "threshold")

    def __str__(self) -> str:
        """The classes in the order of their labels, and which is positive."""
        names = ", ".join(self.class_names)
        return names if self.positive_class is None else f"{names} (positive: {self.positive_class})"

    @property
    def positive_index(self) -> int | None:
        """The label of the positive class, and its place in a model's output; None where there is none."""
        return None if self.positive_class is None else self.class_names.index(self.positive_class)

    @property
    def is_of_x_rays(self) -> bool:
        """Whether its classes are those of the chest X-rays that this project began with."""
        return {name.upper() for name in self.class_names} <= _OF_X_RAYS

    @property
    def image(self) -> str:
        """What pages for its users call an image of it; both take "an"."""
        return "X-ray" if self.is_of_x_rays else "image"

    def targets(self, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """What metrics take for labels: 1 for the positive class and 0 for others, or the labels as they are.

        Args:
            labels: Places in ``class_names``, of any shape.
        """
        return labels if self.positive_class is None else (labels == self.positive_index).astype("int64")

    def scores(self, probabilities: npt.NDArray[np.float32] | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """What metrics take for scores: the probability of the positive class, or that of every class.

        Args:
            probabilities: Of shape (..., classes).

        Returns:
            Shape (...) where there is a positive class, else (..., classes).
        """
        chosen = probabilities if self.positive_class is None else probabilities[..., self.positive_index]
        return chosen.astype("float64")


#: The classes of the Kermany et al. data set, in either of the two ways to read it.
_OF_X_RAYS = frozenset({"NORMAL", "PNEUMONIA", "BACTERIA", "VIRUS"})
#: That of the Kermany et al. data set and of PneumoniaMNIST, and of every file from before tasks were written down.
PNEUMONIA = Task(("NORMAL", "PNEUMONIA"), "PNEUMONIA")
