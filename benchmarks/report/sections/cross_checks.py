"""Whether instruments that others wrote read what this benchmark reads."""

from __future__ import annotations

import re
from collections import Counter

from pneumo_edge._util.document import Block, Cell, Paragraph, Points, Section, Table, Tone
from pneumo_edge.benchmarks.instruments import OTHERS, OWN
from pneumo_edge.benchmarks.report import cells
from pneumo_edge.benchmarks.report.runs import Run, Runs, units
from pneumo_edge.benchmarks.summary import Row
from pneumo_edge.benchmarks.supplement.cross_check import ROUNDS, TOLERANCE, Agreement, AgreementOutcome, agreements
from pneumo_edge.benchmarks.supplement.records import Reading, Supplement

_LOADGEN = "MLPerf LoadGen"
_VALID = re.compile(r"^Result is\s*: VALID", re.MULTILINE)
_TONES: dict[AgreementOutcome, Tone] = {"agrees": "good", "differs": "bad", "not separable": "open"}


def section(runs: Runs) -> Section | None:
    """Other instruments beside ours, and LoadGen's own results."""
    found = [(run, row, each) for run, row in units(runs) for each in _agreements(run, row)]
    if not found:
        return None
    counts = Counter(each.outcome for _, _, each in found)
    blocks: list[Block] = [
        Paragraph(
            f"The same files, timed in turns by this benchmark's clock and by instruments that others wrote: {ROUNDS} "
            "rounds, each turn a fresh process with as many calls of inference one after the other, the order drawn "
            f"for each round. {counts['agrees']} of {len(found)} comparisons agree within {TOLERANCE:.0%}, "
            f"{counts['differs']} differ, and of {counts['not separable']} this run does not settle it."
        ),
        _table(runs, found),
        Paragraph(
            "Medians of the rounds' medians; the ratio is theirs over ours, paired by round, with Student's 95 % "
            "interval over rounds. Two agree where all of it lies within the tolerance, and differ where all of it "
            "lies outside. In the benchmark is the median of the whole run, where units and decoding take turns and "
            "leave the caches to each other."
        ),
        Points(tuple(f"{each.name}: {each.calls}." for each in (OWN, *OTHERS))),
    ]
    if runs_of_loadgen := [(run, row, reading) for run, row in units(runs) for reading in _last_of_loadgen(run, row)]:
        blocks += [
            Paragraph(
                "LoadGen's own results, in the words of its log, of the last round; its whole summary of each is in "
                "the raw results, its logs are in the folder `loadgen` beside them. It calls a result valid where its "
                "early stopping is met, which takes 64 queries; a turn lasts about a second."
            ),
            _loadgen_table(runs, runs_of_loadgen),
        ]
    return Section("Other instruments", tuple(blocks))


def _agreements(run: Run, row: Row) -> list[Agreement]:
    checks = (run.summary.results.supplement or Supplement()).cross_checks
    return [each for check in checks if check.unit == row.result.unit for each in agreements(check)]


def _table(runs: Runs, found: list[tuple[Run, Row, Agreement]]) -> Table:
    labels = cells.unit_columns(runs)
    return Table(
        (*labels, "Instrument", "Theirs ms", "Ours ms", "Ratio", "In the benchmark ms", "Found"),
        len(labels) + 1,
        tuple(
            (
                *cells.unit(row, run),
                Cell(each.instrument),
                cells.number(each.theirs_ms),
                cells.number(each.ours_ms),
                cells.ratio(each.ratio),
                cells.number(row.inference.median_ms),
                Cell(each.outcome, tone=_TONES[each.outcome]),
            )
            for run, row, each in found
        ),
        group=cells.ENGINE,
    )


def _last_of_loadgen(run: Run, row: Row) -> list[Reading]:
    checks = (run.summary.results.supplement or Supplement()).cross_checks
    readings = [each for check in checks if check.unit == row.result.unit for each in check.readings]
    return [each for each in readings if each.instrument == _LOADGEN][-1:]


def _loadgen_table(runs: Runs, found: list[tuple[Run, Row, Reading]]) -> Table:
    labels = cells.unit_columns(runs)
    return Table(
        (
            *labels,
            "Queries",
            "90th percentile ms",
            "Early stopping estimate ms",
            "Our p90 bound ms",
            "Queries / s",
            "Result is",
        ),
        len(labels),
        tuple(
            (
                *cells.unit(row, run),
                cells.number(reading.calls, 0),
                _told(reading, "result_90.00_percentile_latency_ns", 1e6),
                _told(reading, "early_stopping_latency_ss", 1e6),
                Cell("none") if row.inference.p90_bound_ms is None else cells.number(row.inference.p90_bound_ms),
                _told(reading, "result_qps_without_loadgen_overhead", 1),
                Cell("VALID", tone="good") if _VALID.search(reading.summary) else Cell("INVALID", tone="bad"),
            )
            for run, row, reading in found
        ),
        group=cells.ENGINE,
    )


def _told(reading: Reading, name: str, unit: float) -> Cell:
    """One of LoadGen's numbers; it writes 0 where it has none."""
    value = reading.told.get(name, 0)
    return cells.number(value / unit) if value else Cell("none")
