"""The report in brief for a terminal: a row for each unit, and a sentence for each claim."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pneumo_edge._util.document import Cell, Table, Tone
from pneumo_edge.backbones import backbone_title
from pneumo_edge.benchmarks import sentences, speed
from pneumo_edge.benchmarks.claims import Property
from pneumo_edge.benchmarks.evidence import WhyOpen
from pneumo_edge.benchmarks.report import cells
from pneumo_edge.benchmarks.report.runs import Run, Runs, units
from pneumo_edge.benchmarks.summary import Row
from pneumo_edge.benchmarks.sustained.summary import Order
from pneumo_edge.benchmarks.verdict import Claim, missed_gate
from pneumo_edge.evaluation.outcomes import Outcome
from pneumo_edge.formats import FLOAT32

#: Columns of :func:`table` that a narrow terminal omits, in this order.
LEAST = ("Pareto front", "Specificity", "Sensitivity", "Peak memory MiB", "End to end ms")
_TONES: dict[Outcome, Tone] = {"supported": "good", "refuted": "bad", "not separable": "open"}
#: The words after the number of an effect.
_NOUNS: dict[Property, str] = {
    "faster": " times",
    "smaller": " times the size",
    "lighter in memory": " times the memory",
    "as accurate": " of AUC",
    "keeps more AUC when quantized": " of AUC",
}
_WHY_OPEN: dict[WhyOpen, str] = {
    "interval": "the interval overlaps the margin",
    "noise not known": "no A/A unit",
    "too little timed": "not timed enough",
    "too few images": "too few images",
    "memory not measurable": "memory not measurable",
    "a part is open": "one of its parts is open",
}


def table(runs: Runs) -> Table:
    """One row for each unit: its identity, size, accuracy, latency, memory, and whether it passes."""
    labels = cells.unit_columns(runs)
    auc, _, sensitivity, specificity = cells.qualities(row for _, row in units(runs))
    fronts = {run.letter: [id(row) for row in run.verdict.pareto] for run in runs}
    return without_empty_columns(
        Table(
            (
                *(labels),
                "Size MB",
                auc,
                sensitivity,
                specificity,
                "Inference ms",
                "End to end ms",
                "Peak memory MiB",
                "Passes",
                "Pareto front",
            ),
            len(labels),
            tuple(
                (
                    *cells.unit(row, run),
                    cells.number(row.model.size_bytes / 1e6),
                    auc_cell,
                    sensitivity_cell,
                    specificity_cell,
                    cells.median_p90(row.inference),
                    cells.median_p90(row.file_to_verdict),
                    cells.memory(row.peak_bytes),
                    passes(row, run),
                    Cell("yes" if id(row) in fronts[run.letter] else ""),
                )
                for run, row in units(runs)
                for auc_cell, _, sensitivity_cell, specificity_cell in [cells.quality_cells(row)]
            ),
            group=cells.ENGINE,
        )
    )


def without_empty_columns(table: Table) -> Table:
    """A table without the columns of numbers that no row fills: what was not measured."""
    kept = [
        place
        for place in range(len(table.columns))
        if place < table.labels or any(str(row[place]) not in ("", "-") for row in table.rows)
    ]
    return Table(
        tuple(table.columns[place] for place in kept),
        table.labels,
        tuple(tuple(row[place] for place in kept) for row in table.rows),
        table.group,
    )


def passes(row: Row, run: Run) -> Cell:
    """Whether a file meets its accuracy target; "-" where there is no fp32 file to compare it with."""
    rows = [each for each in run.summary.rows if each.model.backbone == row.model.backbone]
    if not run.summary.accuracy_counts or not any(each.model.format == FLOAT32 for each in rows):
        return Cell("-")
    missed = missed_gate(row, run.summary)
    if missed is None:
        return Cell("yes", tone="good")
    return Cell("no", f"{missed.auc / missed.reference_auc:.1%} of fp32's AUC", tone="bad")


def claims(run: Run) -> Iterator[tuple[str, Tone]]:
    """A sentence for each claim over all pairs of files, with its tone."""
    grouped: dict[str, list[Claim]] = {}
    for claim in run.verdict.claims:
        grouped.setdefault(_title(claim, run), []).append(claim)
    for title, found in grouped.items():
        outcomes = {claim.outcome for claim in found}
        yield f"{title}: {_outcomes(found)}", _TONES[outcomes.pop()] if len(outcomes) == 1 else "open"


def speeds(run: Run) -> Iterator[tuple[str, Tone]]:
    """A sentence for each file of any tool that is slower than the fastest beside it."""
    for ranking in speed.rank(run.summary):
        for ratio in ranking.slower:
            yield speed.sentence(ratio), ""


def sustained(run: Run) -> Iterator[tuple[str, Tone]]:
    """What a sustained measurement found: the order of the units, and how each changed."""
    found = run.summary.endurance
    if found is None:
        return
    tones: dict[Order, Tone] = {"same": "good", "reversed": "bad", "not separable": "open"}
    for sentence in sentences.order(found):
        yield sentence, tones[found.order]
    for course in found.courses:
        yield sentences.course(course, found), ""


def _title(claim: Claim, run: Run) -> str:
    subject, other = (backbone_title(row.model.backbone) for row in (claim.subject, claim.other))
    verb = "" if claim.property == "keeps more AUC when quantized" else "is "
    link = "as" if claim.property.endswith("accurate") else "than"
    # With two backbones, the table already names the other one.
    beside = f" {link} {other}" if len(run.summary.trainings) > 2 else ""
    return f"{subject} {verb}{claim.property}{beside}"


def _outcomes(claims: Sequence[Claim]) -> str:
    """Such as "supported in 17 of 18 pairs (1.24 to 4.69 times), not separable in 1 (not timed enough)"."""
    by_outcome: dict[Outcome, list[Claim]] = {}
    for claim in claims:
        by_outcome.setdefault(claim.outcome, []).append(claim)
    parts: list[str] = []
    for outcome, found in sorted(by_outcome.items(), key=lambda item: -len(item[1])):
        detail = _why(found) if outcome == "not separable" else _range(found)
        failing = sum(bool(claim.ineligible) for claim in found)
        remarks = [detail, f"{failing} with a file that does not pass" if failing else ""]
        told = f" ({'; '.join(filter(None, remarks))})" if any(remarks) else ""
        if len(found) < len(claims):
            parts.append(f"{outcome} in {len(found)}{'' if parts else f' of {len(claims)} pairs'}{told}")
        elif outcome == "not separable" or len(claims) == 1:
            parts.append(f"{outcome}{told}")
        else:
            parts.append(f"{outcome} in {'both' if len(claims) == 2 else f'all {len(claims)}'} pairs{told}")
    return ", ".join(parts)


def _why(claims: Sequence[Claim]) -> str:
    return ", ".join(dict.fromkeys(_WHY_OPEN[claim.why_open] for claim in claims if claim.why_open))


def _range(claims: Sequence[Claim]) -> str:
    """The range of the effects."""
    effects = sorted(claim.effect for claim in claims if claim.effect is not None)
    if not effects:
        return ""
    noun = _NOUNS[claims[0].property]
    form = "{:+.3f}" if noun == " of AUC" else "{:.2f}"
    return " to ".join(dict.fromkeys(form.format(effect) for effect in (effects[0], effects[-1]))) + noun
