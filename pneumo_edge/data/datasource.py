"""Where a data set lies and how it is read: all that a user may say of it, for every verb and every function."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from pneumo_edge.errors import ArgumentError

#: What becomes of labels that a table calls uncertain (-1), by the names of the CheXpert paper without its "U-".
UNCERTAIN = ("ones", "zeros", "ignore")
#: What no model file carries: paths of this machine, and what a model file has a field of its own for.
_NOT_KEPT = frozenset({"path", "labels", "test", "patient_pattern"})


@dataclass(frozen=True)
class DataSource:
    r"""A data set and how it is read; it can be given wherever the path of a data set can.

    Attributes:
        path: A folder of images, or a MedMNIST ``.npz`` file.
        classes: The classes to use, in the order of labels, separated by commas: ``"HEALTHY,COVID"``. ``OLD=NEW``
            renames a class, and classes with one new name become one. A comma or ``=`` in a name is written as ``\,``
            or ``\=``. Several names may also be given as a sequence.
        positive: The class that is looked for, where there are two. Of more classes, or of images with several
            findings, it is told apart from all others.
        split: Shares in percent of train, val and test, as ``"80/10/10"``, for data without splits.
        test: A folder that has the test images.
        labels: A table with a row for each image: a ``.csv`` or a ``.parquet`` file.
        image_column: The column of the table that names the image.
        label_column: The column with the class or the findings, which ``|`` separates.
        patient_column: The column with the patient.
        split_column: The column with the split.
        kind_column: The column with the kind, such as bacteria or virus.
        uncertain_labels: What -1 in the column of a finding means: ``"ones"``, ``"zeros"``, or ``"ignore"`` to leave
            the image out.
        patient_pattern: Regular expression for the patient in the name of an image, as its one group; "" for none,
            None for the pattern of the models, where there are some.

    Raises:
        ArgumentError: ``split`` are no shares, or ``uncertain_labels`` is none of the names.
    """

    path: str
    classes: str | None = None
    positive: str | None = None
    split: str | None = None
    test: str | None = None
    labels: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    patient_column: str | None = None
    split_column: str | None = None
    kind_column: str | None = None
    uncertain_labels: str | None = None
    patient_pattern: str | None = None

    def __post_init__(self) -> None:
        for name in ("path", "test", "labels"):
            if isinstance(value := getattr(self, name), os.PathLike):
                object.__setattr__(self, name, os.fspath(value))
        if self.classes is not None and not isinstance(self.classes, str):
            object.__setattr__(self, "classes", join_classes(self.classes))
        if self.split is not None:
            parse_shares(self.split)
        if self.uncertain_labels is not None and self.uncertain_labels not in UNCERTAIN:
            raise ArgumentError(
                f"uncertain_labels is {self.uncertain_labels!r}", f"one of {', '.join(UNCERTAIN)}", "Give one of those"
            )

    @classmethod
    def of(cls, data: str | os.PathLike[str] | DataSource) -> DataSource:
        """The data set that a path or a data source stands for."""
        return data if isinstance(data, cls) else cls(os.fspath(data))

    def __fspath__(self) -> str:
        return self.path

    @property
    def options(self) -> dict[str, str]:
        """Its options by name, without paths and without the pattern for patients: what a model file carries."""
        return {name: value for name, value in self._given.items() if name not in _NOT_KEPT}

    @property
    def paths(self) -> dict[str, str]:
        """Where its table and its test images lie, as absolute paths by the names of their options."""
        return {name: str(Path(value).resolve()) for name, value in self._given.items() if name in ("labels", "test")}

    def with_defaults(self, options: Mapping[str, str]) -> DataSource:
        """The same with options of another one, where it has none of its own.

        What names the classes comes from one of them as a whole. Options that this version does not know are ignored.
        """
        known = {each.name for each in fields(self)} - {"path"}
        wanted = {name: value for name, value in options.items() if name in known and name not in self._given}
        if self.classes is not None or self.positive is not None:
            wanted = {name: value for name, value in wanted.items() if name not in ("classes", "positive")}
        return replace(self, **wanted)

    @property
    def _given(self) -> dict[str, str]:
        found = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "path"}
        return {name: value for name, value in found.items() if value is not None}


def option(name: str) -> str:
    """The option that gives a field of :class:`DataSource`, by a name that every verb that reads data knows.

    Most verbs also call the shares ``--split``; for ``evaluate``, that is the split to score.
    """
    return "--split-shares" if name == "split" else f"--{name.replace('_', '-')}"


def parse_shares(text: str) -> tuple[float, ...]:
    """Shares of train, val and, where there is a third, test, each 0 to 1.

    Args:
        text: As ``"80/10/10"`` or ``"90/10"``, in percent.

    Raises:
        ArgumentError: It is none of these, or does not sum to 100.
    """
    parts = text.split("/")
    if all(re.fullmatch(r" *\d+(\.\d+)? *", part) for part in parts) and len(parts) in (2, 3):
        shares = tuple(float(part) / 100 for part in parts)
        if math.isclose(sum(shares), 1):
            return shares
    raise ArgumentError(
        f"the split is {text!r}",
        "shares of train, val and test in percent that sum to 100, as 80/10/10, or of train and val alone, as 90/10",
        "Give such shares",
    )


def join_classes(classes: Sequence[str]) -> str:
    """Classes as one text, of which :func:`split_classes` makes them again; ``OLD=NEW`` stays as it is."""
    return ",".join(each.replace(",", "\\,") for each in classes)


def escape(name: str) -> str:
    """The name of a class as it is written in a list of classes."""
    return re.sub(r"([\\,=])", r"\\\1", name)


def split_classes(text: str) -> list[tuple[str, str]]:
    """The classes of a text, each with its new name.

    Args:
        text: As ``"HEALTHY,COVID=PNEUMONIA"``.

    Raises:
        ArgumentError: A name is empty.
    """
    found = []
    for item in _split(text, ","):
        old, *new = (re.sub(r"\\(.)", r"\1", part).strip() for part in _split(item, "="))
        if not old or len(new) > 1 or new == [""]:
            raise ArgumentError(
                f"the classes are {text!r}",
                r"names separated by commas, as HEALTHY,COVID=PNEUMONIA, with \, and \= where a name has one",
                "Give them so",
            )
        found.append((old, new[0] if new else old))
    return found


def _split(text: str, separator: str) -> list[str]:
    """Parts of a text between separators; one behind a backslash separates nothing."""
    parts = [""]
    for token in re.findall(r"\\.|.", text, re.DOTALL):
        if token == separator:
            parts.append("")
        else:
            parts[-1] += token
    return parts
