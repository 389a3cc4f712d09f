"""The noise of the machine, and which results count."""

from __future__ import annotations

from collections.abc import Iterator

from pneumo_edge._util.document import Block, Cell, Folded, Paragraph, Points, Section, Table, count
from pneumo_edge.benchmarks import validity
from pneumo_edge.benchmarks.report import cells
from pneumo_edge.benchmarks.report.runs import Run, Runs, engine_title, units
from pneumo_edge.benchmarks.results import Conditions
from pneumo_edge.benchmarks.summary import NullTest


def section(runs: Runs) -> Section:
    """A/A units, validity flags, disturbances."""
    switches = f"{validity.MOST_SWITCHES_PER_SECOND} times a second"
    disturbed = sum(len(run.summary.disturbed) for run in runs)
    processes = sum(len(run.summary.results.conditions) for run in runs)
    short = [(run, row) for run, row in units(runs) if row.shortfalls]
    blocks: list[Block] = [
        Paragraph(
            "The A/A unit of each engine is its fastest file, loaded twice and timed against itself. The true ratio is "
            "1, so its interval shows the noise that a claim must exceed. The band is computed on the clock that "
            "decides claims: CPU time with one thread, wall time with several."
        ),
        *(Paragraph(told) for run in runs if (told := _false_differences(run))),
        _null_tests(runs),
        Paragraph(
            f"{len(units(runs)) - len(short)} of {count(len(units(runs)), 'unit')} were timed as much as the preset "
            "requires. The others cannot be called faster."
        ),
    ]
    if short:
        blocks.append(
            Table(
                (*cells.unit_columns(runs), "Missing"),
                len(cells.unit_columns(runs)) + 1,
                tuple((*cells.unit(row, run), Cell(", ".join(row.shortfalls), tone="bad")) for run, row in short),
                group=cells.ENGINE,
            )
        )
    blocks.append(
        Paragraph(
            f"{disturbed} of {count(processes, 'process', 'es')} were disturbed. Their samples still count. A process "
            f"counts as disturbed in any of these cases: its host took more than {validity.MOST_STEAL_SHARE:.0%} of "
            f"the processor time; it was preempted more than {switches}; wall time is more than "
            f"{validity.MOST_WALL_OVER_CPU:g} times CPU time with one thread; its control group (container) was "
            f"throttled for more than {validity.MOST_THROTTLED_SHARE:.0%} of the time; it used more threads than "
            "cores; the load average is above the number of cores; the frequency governor is not `performance`."
        )
    )
    if disturbances := tuple(_disturbances(runs)):
        blocks.append(Folded("Disturbed processes", (Points(disturbances),)))
    blocks.append(Folded("Conditions of each process", (_conditions(runs),)))
    return Section("Noise and disturbances", tuple(blocks))


def _false_differences(run: Run) -> str:
    """The A/A units that show a false difference, in words."""
    tests = run.summary.null_tests
    if not tests:
        return f"{_in(run)}No A/A unit was measured, so the noise is unknown and no claim about time is decided."
    failed = [test for test in tests if not test.passed]
    if not failed:
        return ""
    named = "; ".join(f"{engine_title(test.engine, test.threads)} ({'; '.join(test.found)})" for test in failed)
    return (
        f"{_in(run)}{len(failed)} of {count(len(tests), 'A/A unit')} show a false difference: {named}. One interval in "
        "twenty does so by chance. More are a fault of the machine or of the measurement; differences of that size "
        "then mean nothing."
    )


def _in(run: Run) -> str:
    return f"Run {run.letter}. " if run.letter else ""


def _null_tests(runs: Runs) -> Table:
    return Table(
        (
            *("Engine", *cells.run_columns(runs), "File"),
            *("Inference, CPU", "Inference, wall", "End to end, CPU", "End to end, wall"),
            *("Band", "Outcome"),
        ),
        2 + (len(runs) > 1),
        tuple(
            (
                Cell(engine_title(test.engine, test.threads)),
                *cells.letter(run),
                Cell(test.model),
                *cells.ratios(test),
                _band(test),
                Cell("no difference", tone="good")
                if test.passed
                else Cell("false difference", "; ".join(test.found), tone="bad"),
            )
            for run in runs
            for test in run.summary.null_tests
        ),
    )


def _band(test: NullTest) -> Cell:
    """Differences up to this share count as none."""
    return Cell("none") if test.band == float("inf") else cells.share(test.band)


def _disturbances(runs: Runs) -> Iterator[str]:
    for run in runs:
        for each in run.summary.disturbed:
            yield f"{_process(run, each.conditions)}: {', '.join(each.by)}."


def _process(run: Run, conditions: Conditions) -> str:
    where = f" in run {run.letter}" if run.letter else ""
    return f"Process {conditions.process + 1} of {engine_title(conditions.engine, conditions.threads)}{where}"


def _conditions(runs: Runs) -> Table:
    labels = ("Engine", *cells.run_columns(runs))
    disturbed = {id(each.conditions) for run in runs for each in run.summary.disturbed}
    return Table(
        (
            *labels,
            "Process",
            "Seconds",
            "Steal",
            "Switches / s",
            "Throttled s",
            "Load average",
            "Governor",
            "Disturbed",
        ),
        len(labels),
        tuple(
            (
                Cell(engine_title(each.engine, each.threads)),
                *cells.letter(run),
                cells.number(each.process + 1, 0),
                cells.number(each.seconds, 1),
                Cell("not known") if each.steal_share is None else cells.share(each.steal_share),
                Cell("not known")
                if each.involuntary_switches is None
                else cells.number(each.involuntary_switches / max(each.seconds, 1e-9), 1),
                Cell("not known") if each.throttled_s is None else cells.number(each.throttled_s, 2),
                Cell("not known") if each.load_average is None else cells.number(each.load_average, 1),
                Cell(each.governor or "not known"),
                Cell("yes", tone="bad") if id(each) in disturbed else Cell("no"),
            )
            for run in runs
            for each in run.summary.results.conditions
        ),
    )
