"""How far the machine can be trusted, and which results count."""

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
            "The A/A unit of each engine is its fastest file, loaded once more and timed beside itself. Its true ratio "
            "is 1; what its interval shows is the noise that a claim has to rise above. The band is that of the clock "
            "that claims rest on: CPU time at one thread, wall time with several."
        ),
        *(Paragraph(told) for run in runs if (told := _false_differences(run))),
        _null_tests(runs),
        Paragraph(
            f"Validity: {len(units(runs)) - len(short)} of {count(len(units(runs)), 'unit')} did all that the preset "
            "asks for. The others are marked, and cannot win by their times."
        ),
    ]
    if short:
        blocks.append(
            Table(
                (*cells.unit_columns(runs), "Lacks"),
                len(cells.unit_columns(runs)) + 1,
                tuple((*cells.unit(row, run), Cell(", ".join(row.shortfalls), tone="bad")) for run, row in short),
                group=cells.ENGINE,
            )
        )
    blocks.append(
        Paragraph(
            f"{disturbed} of {count(processes, 'process', 'es')} were disturbed; their samples count all the same. A "
            "process is called disturbed where its host took more than "
            f"{validity.MOST_STEAL_SHARE:.0%} of the processor time, where it lost its core more than {switches}, "
            f"where wall time is more than {validity.MOST_WALL_OVER_CPU:g} times CPU time at one thread, where its "
            f"control group (a container's) was stopped for more than {validity.MOST_THROTTLED_SHARE:.0%} of the time "
            "by its quota of processor time, where it had more threads than there were cores for, where the load "
            "average is above the number of cores, or where a frequency governor is at work."
        )
    )
    if disturbances := tuple(_disturbances(runs)):
        blocks.append(Folded("What disturbed them", (Points(disturbances),)))
    blocks.append(Folded("What went on in each process", (_conditions(runs),)))
    return Section("Noise on this machine, and what counts", tuple(blocks))


def _false_differences(run: Run) -> str:
    """Every A/A unit that shows a difference, though there is none."""
    tests = run.summary.null_tests
    if not tests:
        return f"{_in(run)}No A/A unit was measured, so the noise is not known, and no claim about time is settled."
    failed = [test for test in tests if not test.passed]
    if not failed:
        return ""
    named = "; ".join(f"{engine_title(test.engine, test.threads)} ({'; '.join(test.found)})" for test in failed)
    return (
        f"{_in(run)}{len(failed)} of {count(len(tests), 'A/A unit')} show a difference where there is none: {named}. "
        "By chance one interval in twenty does; more are a fault of the machine or of the measurement, and differences "
        "of that size mean nothing here."
    )


def _in(run: Run) -> str:
    return f"Run {run.letter}. " if run.letter else ""


def _null_tests(runs: Runs) -> Table:
    return Table(
        (
            *("Engine", *cells.run_columns(runs), "File"),
            *("Inference, CPU", "Inference, wall", "File to verdict, CPU", "File to verdict, wall"),
            *("Band", "Found"),
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
                else Cell("a difference where there is none", "; ".join(test.found), tone="bad"),
            )
            for run in runs
            for test in run.summary.null_tests
        ),
    )


def _band(test: NullTest) -> Cell:
    """What a claim has to leave, as a share."""
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
                Cell("not told") if each.steal_share is None else cells.share(each.steal_share),
                Cell("not told")
                if each.involuntary_switches is None
                else cells.number(each.involuntary_switches / max(each.seconds, 1e-9), 1),
                Cell("not told") if each.throttled_s is None else cells.number(each.throttled_s, 2),
                Cell("not told") if each.load_average is None else cells.number(each.load_average, 1),
                Cell(each.governor or "not told"),
                Cell("yes", tone="bad") if id(each) in disturbed else Cell("no"),
            )
            for run in runs
            for each in run.summary.results.conditions
        ),
    )
