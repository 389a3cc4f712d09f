"""The tables of docs/matrix.md, from the records in ``results/matrix``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from pneumo_edge.errors import ResultsError
from pneumo_edge.evaluation.intervals import Interval
from pneumo_edge.formats import FORMATS
from tools import pages
from tools.matrix import network_records
from tools.matrix.network_records import Cell, FormatRecord, NetworkRecord

PAGE = Path("docs/matrix.md")


def text(folder: Path) -> str:
    """Sentences and tables about all networks, Markdown.

    Args:
        folder: The records.

    Raises:
        ResultsError: There are none, or one lacks a format.
        RecordError: A record cannot be read.
    """
    found = list(network_records.load(folder).values())
    if not found:
        raise ResultsError(f"{folder} has no records", "one for each network", "Run: make matrix")
    for record in found:
        if missing := [each for each in FORMATS if each not in [made.format for made in record.formats]]:
            raise ResultsError(
                f"the record of {record.network} has nothing of {missing[0]}",
                "every format",
                "Delete the record, and run: make matrix",
            )
    return "\n".join([_counts(found), _overview(found), *map(_details, found)])


def _cells(records: Sequence[NetworkRecord]) -> Iterator[tuple[FormatRecord, Cell]]:
    for record in records:
        for made in record.formats:
            for cell in made.cells:
                yield made, cell


def _counts(records: Sequence[NetworkRecord]) -> str:
    cells = list(_cells(records))
    passed = sum(not cell.failure for _, cell in cells)
    failed = Counter(made.format for made, cell in cells if cell.failure)
    by_format = ", ".join(f"`{name}` {failed[name]}" for name in FORMATS if failed[name])
    first = records[0]
    return (
        f"{len(records)} networks, {len(FORMATS)} formats: **{passed} of {len(cells)} files on an engine pass.** "
        f"Those that fail, by format: {by_format or 'none'}.{_unmeasured(records)}\n\n"
        f"Measured on {first.machine.cpu}, {first.machine.cores} cores, with "
        + ", ".join(f"{name} {each}" for name, each in first.versions.items())
        + ".\n"
    )


def _unmeasured(records: Sequence[NetworkRecord]) -> str:
    measured = {record.network for record in records}
    names = [f"`{name}`" for name in network_records.NETWORKS if name not in measured]
    return f" Not measured yet: {', '.join(names)}." if names else ""


def _overview(records: Sequence[NetworkRecord]) -> str:
    lines = [["network", *(f"`{name}`" for name in FORMATS)], ["---"] * (1 + len(FORMATS))]
    for record in records:
        by_format = {made.format: made for made in record.formats}
        lines.append([f"[{record.title}](#{_anchor(record.title)})", *(_short(by_format[name]) for name in FORMATS)])
    return "## All networks\n\n" + pages.rows(lines)


def _anchor(title: str) -> str:
    """Of a heading, as GitHub and the site name it."""
    return re.sub(r"[^\w-]", "", title.lower().replace(" ", "-"))


def _short(made: FormatRecord) -> str:
    """A format of a network in a few words."""
    if made.failure:
        return "no file"
    passing = [cell for cell in made.cells if not cell.failure]
    if not passing:
        return "fails"
    time = f"{passing[0].ratio.value:.2f}" if passing[0].ratio else "passes"
    return time if len(passing) == len(made.cells) else f"{time}, {passing[0].engine} alone"


def _details(record: NetworkRecord) -> str:
    lines = [
        ["format", "MB", "engine", "acceptance checks", "ms", "time, fp32 = 1", "delegated"],
        ["---"] * 7,
    ]
    lines += [line(made, cell) for made, cell in _cells([record])]
    accuracy, auc = record.validation["accuracy"], record.validation["auc"]
    return (
        f"## {record.title}\n\n"
        f"Weights of the backbone: {record.weights}. The Keras model is right on {accuracy:.0%} of {record.images} "
        f"validation images (AUC {auc:.3f}).\n\n{pages.rows(lines)}"
    )


def line(made: FormatRecord, cell: Cell) -> list[str]:
    """The cells of a line about a file on an engine; none is empty."""
    ratio = cell.ratio
    return [
        f"`{made.format}`",
        f"{made.size_bytes / 1e6:.2f}" if made.size_bytes else "no file",
        f"{cell.engine} {cell.version}".strip(),
        _verdict(made, cell),
        f"{cell.cpu_ms:.2f}" if cell.cpu_ms is not None else "not timed",
        f"{ratio.value:.2f}{_interval(ratio)}" if ratio else "not timed",
        _delegated(made, cell),
    ]


def _interval(ratio: Interval) -> str:
    """Empty for the float32 file, which is its own measure."""
    return "" if ratio.low == ratio.high else f" [{ratio.low:.2f}, {ratio.high:.2f}]"


def _verdict(made: FormatRecord, cell: Cell) -> str:
    if not cell.failure:
        agreement, difference = cell.measured["agreement"], cell.measured["mean_difference"]
        return f"passes: {agreement:.1%} same decision, mean difference {difference:.2g}"
    reason = _once(cell.failure.removeprefix(f"{cell.engine} has "))
    tried = _with_in_float(made) if cell == made.cells[0] else ""
    return _escaped(f"**fails**: {reason}{tried}")


def _once(text: str) -> str:
    """Sentences of a library's message on one line, each once; the last may be cut off."""
    lines = text.replace(". ", ".\n").splitlines()
    kept = [line for place, line in enumerate(lines) if not any(line.rstrip(")") in other for other in lines[:place])]
    return " ".join(kept) + (")" if text.endswith(")") and not kept[-1].endswith(")") else "")


def _with_in_float(made: FormatRecord) -> str:
    """What the kinds of operators in float have to do with it."""
    if not made.in_float:
        return ""
    passing = [each.operator for each in made.in_float if each.passes]
    if passing:
        return f". It passes with {' or '.join(passing)} in float"
    best = made.in_float[0]
    return (
        f". With no single kind of operator in float does it pass; {best.operator} helps most: "
        f"{best.agreement:.1%} same decision, mean difference {best.mean_difference:.2g}"
    )


def _delegated(made: FormatRecord, cell: Cell) -> str:
    if not cell.delegated_to:
        return "does not load" if made.size_bytes else "no file"
    whole, taken = sum(made.operators.values()), sum(cell.delegated.values())
    if not taken:
        return f"none of {whole} operators"
    rest = {name: count - cell.delegated.get(name, 0) for name, count in made.operators.items()}
    left = ", ".join(f"{name} {count}" for name, count in rest.items() if count > 0)
    return f"{taken} of {whole} operators to {cell.delegated_to}" + (f"; not {left}" if left else "")


def _escaped(words: str) -> str:
    return words.replace("|", "\\|").replace("<", "&lt;")


def write(folder: Path = network_records.RESULTS) -> None:
    """Put the text into its page; raises as :func:`text`."""
    pages.put_table(PAGE, "matrix", text(folder))
