"""The tables of docs/uncertain-answers.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pneumo_edge.evaluation.metrics import Interval
from tools import pages
from tools.abstention.results import FileResults


def tables(found: Sequence[FileResults]) -> str:
    """What the prediction sets and the input check of each file are worth, as Markdown."""
    checked = [each for each in found if each.input_check]
    return "\n".join(
        [
            f"**Prediction sets** on the {len(found[0].test.labels)} test images, calibrated on validation:",
            "",
            _table([_name(each) for each in found], _set_rows(found)),
            f"**The input check**: share of images that it flags. Its limit lets {checked[0].input_check.share:.0%} of "
            "validation pass." if checked and checked[0].input_check else "",
            "",
            _table([_name(each) for each in checked], _check_rows(checked)) if checked else "",
            "Brackets hold Wilson's 95 % intervals.\n",
        ]
    )  # fmt: skip


def _name(each: FileResults) -> str:
    return f"{each.backbone} `{each.format}`, {each.engine} {each.engine_version}"


_Row = tuple[str, list[str]]


def _set_rows(found: Sequence[FileResults]) -> Iterator[_Row]:
    answered = [each.answered() for each in found]
    yield "promised for each class", [f"{each.conformal.coverage:.0%}" for each in found]
    yield "sets with the true class, of all images", [_percent(each.coverage) for each in answered]
    for place, name in enumerate(found[0].class_names):
        yield f"of {name}", [_percent(each.by_class[place]) for each in answered]
    for what, name in (
        ("answered, not *uncertain*", "share"),
        ("accuracy of the answered", "accuracy"),
        ("accuracy of all", "accuracy_of_all"),
    ):
        yield what, [_percent(getattr(each, name)) for each in answered]


def _check_rows(found: Sequence[FileResults]) -> Iterator[_Row]:
    yield "test images: false alarms", [_percent(each.false_alarms()) for each in found]
    yield "accuracy of those flagged", [_percent(each.accuracy(flagged=True)) for each in found]
    yield "accuracy of the others", [_percent(each.accuracy(flagged=False)) for each in found]
    if all(each.full_resolution for each in found):
        name = f"X-rays at full resolution ({len(found[0].full_resolution)}): false alarms"
        yield name, [_percent(each.full_resolution_alarms()) for each in found]
    for index, kind in enumerate(found[0].foreign):
        shares = [each.foreign[index].flagged(each.input_check) for each in found if each.input_check]
        yield f"{kind.kind} ({len(kind.distances)})", list(map(_percent, shares))


def _percent(interval: Interval) -> str:
    return f"{interval.value:.1%} [{interval.low:.1%}, {interval.high:.1%}]"


def _table(columns: Sequence[str], rows: Iterator[_Row]) -> str:
    return pages.rows([("", *columns), ("---", *("---" for _ in columns)), *((name, *cells) for name, cells in rows)])
