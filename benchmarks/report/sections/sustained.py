"""Each unit running alone for a long time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import isfinite

from pneumo_edge._util.document import Block, Cell, Figure, Paragraph, Points, Section, Table
from pneumo_edge.benchmarks import sentences
from pneumo_edge.benchmarks.report import cells, figures
from pneumo_edge.benchmarks.report.brief import without_empty_columns
from pneumo_edge.benchmarks.report.runs import Run, Runs, units
from pneumo_edge.benchmarks.sustained.summary import Course


def section(runs: Runs) -> Section | None:
    """Whether units slow down, when, and whether their order changes; None where that was not measured."""
    measured = [run for run in runs if run.summary.endurance]
    if not measured:
        return None
    blocks: list[Block] = [Paragraph(_introduction(run)) for run in measured]
    blocks += [Points(tuple(_found(run))) for run in measured]
    blocks.append(
        Figure(
            partial(figures.draw_sustained, runs),
            "Wall time per inference of each second; high stalls are cut off. A circle marks a change. Below, where "
            "the system tells it, the temperature of the processor.",
        )
    )
    blocks.append(_table(runs))
    blocks.append(
        Paragraph(
            "The time per inference of a second is the wall time of its inferences over their number: a quota or "
            "another process stops this one for a part of each second, and leaves the median as it was. Where CPU time "
            "per inference grew as well, the processor itself got slower; where it did not, something else took it. "
            "A change is reported where an undisturbed series with the same autocorrelation shows one as clear in one "
            "of a hundred cases, and its whole 95 % interval is beyond 5 %. First and last are medians over seconds; "
            "the intervals come from a moving-block bootstrap of the seconds. Each unit ran in one process, so they "
            "say nothing about other processes.",
            minor=True,
        )
    )
    return Section("Sustained", tuple(blocks))


def _introduction(run: Run) -> str:
    settings = run.summary.results.settings.sustained
    seconds = f"{settings.seconds:g} s" if settings else "a long time"
    return (
        f"{f'Run {run.letter}. ' if run.letter else ''}Each unit ran alone for {seconds}, one inference after another."
    )


def _found(run: Run) -> Iterator[str]:
    found = run.summary.endurance
    assert found
    where = f"Run {run.letter}: " if run.letter else ""
    for sentence in (*sentences.order(found), *(sentences.course(each, found) for each in found.courses)):
        yield f"{where}{sentence}"


def _table(runs: Runs) -> Table:
    labels = cells.unit_columns(runs)
    measured = [(run, row, course) for run, row in units(runs) if (course := run.summary.course(row))]
    return without_empty_columns(
        Table(
            (
                *labels,
                "First ms",
                "Last ms",
                "Last / first",
                "CPU time, last / first",
                "Changes",
                "Temperature °C",
                "Frequency MHz",
                "Throttled s",
                "Thermal events",
                "Raspberry Pi flags",
            ),
            len(labels),
            tuple((*cells.unit(row, run), *_cells(course)) for run, row, course in measured),
            group=cells.ENGINE,
        )
    )


def _cells(course: Course) -> Iterator[Cell]:
    readings = course.result.samples.readings
    yield Cell(f"{course.first_ms:.2f}", f"median {course.first_median_ms:.2f}", course.first_ms)
    yield Cell(f"{course.last_ms:.2f}", f"median {course.last_median_ms:.2f}", course.last_ms)
    has_interval = isfinite(course.slower.high)
    yield cells.ratio(course.slower) if has_interval else Cell(f"{course.slower.value:.2f}", "too few seconds")
    yield cells.number(course.cpu_slower)
    yield Cell(", ".join(f"{each.at_s.value:.0f} s: {each.factor.value:.2f}" for each in course.changes) or "none")
    yield _range(readings.temperature_c)
    yield _range(readings.frequency_mhz)
    yield cells.number(readings.throttled_s[-1], 1) if readings.throttled_s else Cell("")
    yield cells.number(readings.thermal_events[-1], 0) if readings.thermal_events else Cell("")
    flags = 0
    for each in readings.pi_flags:
        flags |= each
    yield Cell(f"{flags:#x}") if readings.pi_flags else Cell("")


def _range(values: tuple[float, ...]) -> Cell:
    """The first value, with the least and the greatest."""
    if not values:
        return Cell("")
    return Cell(f"{values[0]:.0f}", f"({min(values):.0f} to {max(values):.0f})", values[0])
