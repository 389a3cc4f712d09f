"""From what a data set says of each image to classes: picked, ordered, renamed, merged, and which is positive."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pneumo_edge.data.datasource import DataSource, escape, split_classes
from pneumo_edge.errors import ClassesError, DataError, printable
from pneumo_edge.task import PNEUMONIA, Task

#: What is found in an image: each finding by its names, from the one that says most ("virus") to the class as the data
#: set has it ("PNEUMONIA"). Most images have one finding.
Findings = tuple[tuple[str, ...], ...]

#: Names of classes of the task PNEUMONIA: the label, and the kind of pneumonia.
_KNOWN = {
    "normal": (0, ""), "normals": (0, ""), "no pneumonia": (0, ""),
    "pneumonia": (1, ""), "pneumonias": (1, ""),
    "bacteria": (1, "bacteria"), "bacterial": (1, "bacteria"), "bacterial pneumonia": (1, "bacteria"),
    "pneumonia bacterial": (1, "bacteria"), "pneumonia bacteria": (1, "bacteria"),
    "virus": (1, "virus"), "viral": (1, "virus"), "viral pneumonia": (1, "virus"),
    "pneumonia viral": (1, "virus"), "pneumonia virus": (1, "virus"),
}  # fmt: skip
#: Why images are left out: they are of no class that was picked, or of several.
NONE_OF, SEVERAL_OF = "not one of the classes", "several of the classes"
#: Classes that an error names.
_SHOWN = 20
#: Categories of Unicode that no name of a class has: control characters, and separators of lines and paragraphs.
_NOT_IN_LINES = ("Cc", "Zl", "Zp")
#: More folders or values than this are no classes, but patients or dates.
_MOST = 100


@dataclass(frozen=True)
class Settled:
    """The classes of a data set.

    ``label_of`` has the label of every kind of image that there is, None where it is not used; ``left_out`` has the
    reason by class for these.
    """

    task: Task
    label_of: Mapping[Findings, int | None]
    left_out: Mapping[str, str]


def known(name: str) -> tuple[int, str] | None:
    """Label of the task PNEUMONIA and kind of pneumonia, where a name means one."""
    return _KNOWN.get(re.sub(r"[\W_]+", " ", name.casefold()).strip())


def same(name: str) -> str:
    """Return a normal form of a class name, without differences of case and of space, - or _."""
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFC", name).casefold())


def opposite(name: str) -> str:
    """What images are called that do not show a finding; they may show others."""
    return f"not {name}"


def settle(
    counts: Mapping[Findings, int],
    data: DataSource,
    title: str,
    wanted: Task | None = None,
    *,
    numbered: Sequence[str] = (),
    merge_kinds: bool = False,
) -> Settled:
    """Decide on the classes of a data set.

    Args:
        counts: How many images there are of each kind.
        data: What the user says of classes.
        title: What errors call the data set.
        wanted: The task of the models that the data is for, where the user says nothing.
        numbered: All classes in the order of their numbers, where the data set numbers them.
        merge_kinds: Whether NORMAL, BACTERIA and VIRUS are the two classes NORMAL and PNEUMONIA, as they have always
            been in folders with splits.

    Raises:
        ArgumentError: The list of classes cannot be read.
        DataError: There are not two classes or more, one that was named is not there, or it is not known which of two
            is the positive one.
    """
    present = _names(counts)
    names = [name for name in numbered if name in present] if numbered else present
    if data.classes is not None:
        rules = split_classes(data.classes)
        _check_present(rules, counts, names, title)
        return _pick(counts, rules, _positive_of(rules, data, names, title, wanted), names, title)
    if wanted is not None and data.positive is None:
        rules = [(name, name) for name in wanted.class_names]
        _check_present(rules, counts, names, title)
        return _pick(counts, rules, wanted.positive_class, names, title)
    labels = [known(name) for name in names]
    if (
        all(labels)
        and {label for label, _ in filter(None, labels)} == {0, 1}
        and (merge_kinds or len(names) == 2)
        and (data.positive is None or known(data.positive) == (1, ""))
    ):
        return Settled(PNEUMONIA, {findings: (known(findings[0][-1]) or (0, ""))[0] for findings in counts}, {})
    if data.positive is not None:
        return _against_others(counts, data.positive, names, title, in_order=bool(numbered))
    if any(len(findings) > 1 for findings in counts):
        raise DataError(
            f"{title} has images with several of {_listed(names)}",
            "one class for each image",
            f"Name the one to find with --positive {_typed(names[0])}, or pick classes with --classes",
        )
    if len(names) == 2:
        raise _undecided(names, title)
    return _pick(counts, [(name, name) for name in names], None, names, title)


def _positive_of(
    rules: Sequence[tuple[str, str]], data: DataSource, names: Sequence[str], title: str, wanted: Task | None
) -> str | None:
    """The positive class of those that the user picked; None where there are more than two."""
    targets = list(dict.fromkeys(new for _, new in rules))
    if data.positive is not None:
        if len(targets) > 2:
            raise DataError(
                f"{len(targets)} classes and the positive class {data.positive!r} were given for {title}",
                "two classes where one is positive",
                "Leave --positive out, or merge classes, as in --classes "
                + _typed(",".join([escape(targets[0]), *(f"{escape(name)}=OTHER" for name in targets[1:3])])),
            )
        return _match(data.positive, targets, title)
    if len(targets) != 2:
        return None
    if wanted is not None and set(map(same, targets)) == set(map(same, wanted.class_names)):
        return None if wanted.positive_class is None else _match(wanted.positive_class, targets, title)
    labels = [known(name) for name in targets]
    positive = [name for name, label in zip(targets, labels, strict=True) if label and label[0] == 1]
    if all(labels) and len(positive) == 1:
        return positive[0]
    raise _undecided(targets, title)


def _pick(
    counts: Mapping[Findings, int],
    rules: Sequence[tuple[str, str]],
    positive: str | None,
    names: Sequence[str],
    title: str,
) -> Settled:
    targets = list(dict.fromkeys(new for _, new in rules))
    if len(targets) < 2:
        raise DataError(
            f"{title} leaves the one class {_listed(targets or names)}" if targets else f"{title} has no classes",
            "two classes or more",
            "Name at least two of those it has with --classes",
        )
    if len(targets) > _MOST:
        raise DataError(
            f"{title} has {len(targets):,} classes, such as {_listed(targets[:3])}",
            f"at most {_MOST}",
            "Check the folder's layout, or pick classes with --classes",
        )
    index_of = {_word(old): targets.index(new) for old, new in rules}
    label_of: dict[Findings, int | None] = {}
    left_out: dict[str, Counter[str]] = {NONE_OF: Counter(), SEVERAL_OF: Counter()}
    for findings, count in counts.items():
        words = [next((word for name in finding if (word := _word(name)) in index_of), None) for finding in findings]
        found = {index_of[word] for word in words if word is not None}
        label_of[findings] = found.pop() if len(found) == 1 else None
        if label_of[findings] is None:
            name = " and ".join(_called(finding) for finding in findings)
            left_out[SEVERAL_OF if found else NONE_OF][name] += count
    reasons = {
        name: f"{reason} {_listed(targets)}; {count:,} {'image is' if count == 1 else 'images are'} not used"
        for reason, of_class in left_out.items()
        for name, count in of_class.items()
    }
    return Settled(_task(targets, positive, title), label_of, reasons)


def _check_present(
    rules: Sequence[tuple[str, str]], counts: Iterable[Findings], names: Sequence[str], title: str
) -> None:
    """Refuse a class that no image has."""
    words = {_word(name) for findings in counts for finding in findings for name in finding}
    for old, _ in rules:
        if _word(old) not in words:
            raise ClassesError(
                f"{title} has no images of the class {old!r}",
                f"classes that it has: {_listed(names)}",
                f"Name them with {option(names[:_SHOWN])}",
                names,
            )


def option(names: Sequence[str], others: Sequence[str] = ()) -> str:
    """``--classes`` with these names, or with these in place of others, as it is typed in a shell."""
    old = [f"{escape(other)}=" if other != name else "" for name, other in zip(names, others, strict=False)]
    return f"--classes {_typed(','.join(map(str.__add__, old or [''] * len(names), map(escape, names))))}"


def renaming(found: Sequence[str], positive: str | None, wanted: Task) -> str:
    """The options with which a data set of other classes is read as one of a task.

    Args:
        found: The classes of the data set.
        positive: The one of them that is looked for, where that is known.
        wanted: The task.

    Returns:
        What to type, or examples of it where it is not known which class is which; "" where classes are too few.
    """
    names = wanted.class_names
    if len(found) < len(names):
        return ""
    alike = {same(name): name for name in found}
    if all(same(name) in alike for name in names):
        which = [alike[same(name)] for name in names]
        return option(names, which) if which != list(names) else option(names)
    if len(names) == len(found) == 2:
        orders = [list(found), [found[1], found[0]]]
        if positive in found:
            orders = [order for order in orders if order[wanted.positive_index or 0] == positive]
        return " or ".join(option(names, order) for order in orders)
    return f"as in {option(names, found)}"


def _against_others(
    counts: Mapping[Findings, int], wanted: str, names: Sequence[str], title: str, *, in_order: bool
) -> Settled:
    """The positive class against the other one, or against all others."""
    word = _word(wanted)
    is_positive = {
        findings: any(_word(name) == word for finding in findings for name in finding) for findings in counts
    }
    if True not in is_positive.values():
        raise _no_such_class(wanted, names, title)
    # A kind of pneumonia is no class of the data set, and is called as the user calls it.
    positive = next((name for name in names if _word(name) == word), wanted)
    others = [name for name in names if name != positive]
    if False not in is_positive.values():
        raise DataError(
            f"{title} has the one class {printable(positive)}",
            "two classes or more",
            "Give a data set that has another class as well",
        )
    targets = [others[0] if len(others) == 1 and positive in names else opposite(positive), positive]
    if in_order and len(names) == 2:
        targets = list(names)
    label_of = {findings: targets.index(positive) ^ (not found) for findings, found in is_positive.items()}
    return Settled(_task(targets, positive, title), label_of, {})


def _task(names: Sequence[str], positive: str | None, title: str) -> Task:
    """The task of these classes, whose names can stand on a line: the labels in a TFLite file are a line each."""
    for name in names:
        if any(unicodedata.category(character) in _NOT_IN_LINES for character in name):
            raise DataError(
                f"{title} has the class {printable(name)}, with a line break or another control character in its name",
                "names of classes on one line",
                "Rename it where the data set names it: its folder, or its value in the table",
            )
    return Task.of(names, positive)


def _match(wanted: str, names: Sequence[str], title: str) -> str:
    """The class that a user means."""
    found = [name for name in names if name == wanted] or [name for name in names if same(name) == same(wanted)]
    if not found:
        raise _no_such_class(wanted, names, title)
    return found[0]


def _no_such_class(wanted: str, names: Sequence[str], title: str) -> ClassesError:
    return ClassesError(
        f"the positive class is {wanted!r}, and {title} has {_listed(names)}",
        "one of its classes",
        f"Give --positive {_typed(names[-1])}" if names else "Check the data set",
        names,
    )


def _undecided(names: Sequence[str], title: str) -> ClassesError:
    first, second = names
    return ClassesError(
        f"{title} has the classes {_listed(names)}",
        "to be told which of them is the positive one",
        f"Give --positive {_typed(second)} or --positive {_typed(first)}",
        names,
    )


def _names(counts: Iterable[Findings]) -> list[str]:
    """Classes as the data set has them, each in the spelling that comes first, in the order of words and numbers."""
    spelled: dict[str, str] = {}
    for findings in counts:
        for finding in findings:
            spelled.setdefault(same(finding[-1]), finding[-1])
    return [spelled[word] for word in sorted(spelled, key=_natural)]


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text) if part]


def _word(name: str) -> str:
    """Return the key that a name is matched by: its kind of pneumonia if it has one, else its normal form."""
    meaning = known(name)
    return meaning[1] if meaning and meaning[1] else same(name)


def _called(finding: tuple[str, ...]) -> str:
    return finding[-1] if _word(finding[0]) == _word(finding[-1]) else f"{finding[-1]} ({finding[0]})"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name) for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN:,} more"


def _typed(text: str) -> str:
    """A value as it is typed in a shell."""
    return shlex.quote(printable(text))
