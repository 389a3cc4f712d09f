"""The task: what a network is asked of an image. It comes with the data set and travels through run and model file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pneumo_edge._util.records import Text


@dataclass(frozen=True)
class Task:
    """The classes of images, and how an answer is decided.

    Attributes:
        class_names: In the order of labels, 0 first, and of every model's output; two or more different names.
        positive_class: The one of them that is looked for.
        decided_by: ``"threshold"``: the positive class is the answer where its probability is at least a threshold that
            is chosen on validation, and else the most probable of the others.

    Raises:
        ValueError: The names are not different, or the positive class is none of them.
    """

    class_names: tuple[Text, ...]
    positive_class: str
    decided_by: Literal["threshold"] = "threshold"

    def __post_init__(self) -> None:
        if len(set(self.class_names)) != len(self.class_names) or len(self.class_names) < 2:
            raise ValueError(f"class_names are {list(self.class_names)}, not two or more different names")
        if self.positive_class not in self.class_names:
            raise ValueError(f"positive_class {self.positive_class!r} is not in class_names")

    @property
    def positive_index(self) -> int:
        """The label of the positive class, and its place in a model's output."""
        return self.class_names.index(self.positive_class)


#: That of the Kermany et al. data set and of PneumoniaMNIST, and of every file from before tasks were written down.
PNEUMONIA = Task(("NORMAL", "PNEUMONIA"), "PNEUMONIA")
