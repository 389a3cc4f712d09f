"""Compares this benchmark's times with those of other instruments."""

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
    """Other instruments against ours, and LoadGen's own results."""
    found = [(run, row, each) for run, row in units(runs) for each in _agreements(run, row)]
    if not found:
        return None
    counts = Counter(each.outcome for _, _, each in found)
    blocks: list[Block] = [
        Paragraph(
            f"Of {len(found)} comparisons with other instruments, {counts['agrees']} agree within {TOLERANCE:.0%}, "
            f"{counts['differs']} differ, and {counts['not separable']} are not separable. This benchmark's clock and "
            f"the other instruments timed the same files in turn, in {ROUNDS} rounds with a random order. Each turn is "
            "a fresh process with the same number of consecutive inference calls."
        ),
        _table(runs, found),
        Paragraph(
            "Times are medians of the rounds' medians. The ratio is theirs over ours, paired by round, with Student's "
            "95 % interval over rounds. Two instruments agree where the whole interval lies within the tolerance, and "
            'differ where it lies outside. "In the benchmark" is the median of the whole run, where other units and '
            "decoding use the caches between calls."
        ),
        Points(tuple(f"{each.name}: {each.calls}." for each in (OWN, *OTHERS))),
    ]
    if runs_of_loadgen := [(run, row, reading) for run, row in units(runs) for reading in _last_of_loadgen(run, row)]:
        blocks += [
            Paragraph(
                "LoadGen's own results of the last round, under the names of its log. Its full summaries are in the "
                "raw results, its logs in the folder `loadgen` beside them. LoadGen calls a result valid where its "
                "early stopping criterion is met, which needs 64 queries; a turn lasts about a second."
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
        (*labels, "Instrument", "Theirs ms", "Ours ms", "Ratio", "In the benchmark ms", "Outcome"),
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
    """One of LoadGen's numbers; LoadGen writes 0 for a missing one."""
    value = reading.told.get(name, 0)
    return cells.number(value / unit) if value else Cell("none")
