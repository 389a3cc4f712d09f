"""Compares the same units in several runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pneumo_edge._util.document import Block, Cell, Paragraph, Section, Table, Tone
from pneumo_edge.benchmarks import comparison, sentences
from pneumo_edge.benchmarks.comparison import Finding, RunComparison, UnitComparison
from pneumo_edge.benchmarks.report import cells
from pneumo_edge.benchmarks.report.runs import Runs
from pneumo_edge.errors import ResultsError
from pneumo_edge.evaluation.metrics import Interval

#: Columns of :func:`comparison_table` that a narrow terminal omits, in this order.
LEAST = ("Accuracy", "Memory", "AUC", "End to end")


def section(runs: Runs) -> Section | None:
    """Each later run against the first."""
    if len(runs) == 1:
        return None
    first, *others = runs
    blocks: list[Block] = [
        Paragraph(
            "Ratios of time and memory of the later run to the first: CPU time with one thread, wall time with "
            "several. The intervals are Welch's 95 % intervals over unpaired processes. AUC, accuracy, sensitivity and "
            "specificity are compared on the same images, with an interval by patient."
        )
    ]
    for other in others:
        title = f"Run {other.letter} against run {first.letter}."
        try:
            compared = comparison.compare(first.summary, other.summary)
        except ResultsError:
            blocks.append(Paragraph(f"{title} They have no unit in common."))
            continue
        blocks += [Paragraph(" ".join((title, *remarks(compared, first.letter, other.letter))))]
        blocks.append(comparison_table(compared.units))
    return Section("Comparison of runs", tuple(blocks))


def remarks(compared: RunComparison, before: str, after: str) -> Iterator[str]:
    """Remarks on the comparison of two runs, one sentence each.

    Args:
        compared: The comparison.
        before: The name of the first run.
        after: The name of the second run.
    """
    if not compared.same_images:
        yield (
            f"{before} and {after} used different test images. Only the inference time is compared, which does not "
            "depend on them."
        )
    for run, missing in ((before, compared.only_before), (after, compared.only_after)):
        if missing:
            yield f"Only {run} has: {'; '.join(unit.name for unit in missing)}."
    if compared.without_noise:
        yield f"The noise is unknown, because a run has no A/A unit, for: {', '.join(compared.without_noise)}."
    for each in compared.units:
        if each.courses:
            yield sentences.courses(*each.courses, before, after)


def comparison_table(compared: Iterable[UnitComparison]) -> Table:
    """One row for each unit that two runs share: ratios of the second to the first."""
    return Table(
        (
            "Backbone",
            "Format",
            "Engine",
            "Inference",
            "End to end",
            "Memory",
            "AUC",
            "Accuracy",
            "Outcome",
        ),
        3,
        tuple(
            (
                *cells.unit(each.after),
                *(_ratio(each.findings.get(name)) for name in comparison.COSTS),
                *_changes(each),
                _found(each),
            )
            for each in compared
        ),
        group=cells.ENGINE,
    )


def _ratio(found: Finding | None) -> Cell:
    return cells.ratio(found.interval) if found and found.interval else Cell("not known")


def _changes(each: UnitComparison) -> tuple[Cell, Cell]:
    before, after = each.before.accuracy, each.after.accuracy
    if before is None or after is None:
        return Cell(""), Cell("")
    return (
        _change(before.auc, after.auc, each.findings.get("AUC")),
        _change(before.confusion.accuracy, after.confusion.accuracy, each.findings.get("accuracy")),
    )


def _change(before: Interval, after: Interval, found: Finding | None) -> Cell:
    """A share in both runs, and the difference where the images are the same."""
    text = f"{before.value:.3f} to {after.value:.3f}"
    if found is None or found.interval is None:
        return Cell(text, "different images", after.value)
    if found.why and found.outcome == "no regression":
        return Cell(text, found.why, after.value)
    change = found.interval
    return Cell(text, f"{change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]", after.value)


def _worse(each: UnitComparison) -> Iterator[str]:
    """The measures that are worse, with the difference where no column has it."""
    for name in each.regressions:
        change = each.findings[name].interval
        yield f"{name} ({change.value:+.3f})" if change and name in ("sensitivity", "specificity") else name


def _found(each: UnitComparison) -> Cell:
    parts = [f"worse in {', '.join(_worse(each))}"] if each.regressions else []
    if each.untold:
        reasons: dict[str, list[str]] = {}
        for name, why in each.untold.items():
            reasons.setdefault(why, []).append(name)
        parts.append("; ".join(f"cannot tell for {', '.join(names)} ({why})" for why, names in reasons.items()))
    tone: Tone = "bad" if each.regressions else "open" if each.untold else "good"
    text = "; ".join(parts) or "no regression"
    return Cell(text, "" if each.same_file else "different file", tone=tone)
