"""The runs of a report: one, or several to compare."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from string import ascii_uppercase

from pneumo_edge.benchmarks import networks, verdict
from pneumo_edge.benchmarks.choice import Limits, choose, waiting_ms
from pneumo_edge.benchmarks.networks import NetworkVerdict
from pneumo_edge.benchmarks.summary import Row, Summary
from pneumo_edge.benchmarks.verdict import BenchmarkVerdict
from pneumo_edge.errors import ResultsError
from pneumo_edge.scoring.scores import EvaluationScores


@dataclass(frozen=True)
class Run:
    """One run of the benchmark: its numbers and its verdicts; ``letter`` is "" where it is the only run.

    ``networks`` is the verdict over networks; None where no network has three trainings.
    """

    letter: str
    summary: Summary
    verdict: BenchmarkVerdict
    networks: NetworkVerdict | None = None

    @property
    def label(self) -> str:
        """Its letter, with the name of its device where it has one; "" where it is the only run."""
        device = self.summary.results.machine.device
        return f"{self.letter}, {device}" if self.letter and device else self.letter

    @cached_property
    def best(self) -> Row | None:
        """The unit to use, without limits; the fastest where accuracies say nothing; None where no file is fit."""
        if self.summary.accuracy_counts:
            choice = choose(self.summary, Limits())
            fitting = (choice.best, *choice.others)
            # A file whose accuracy was not measured fits where nothing is asked of accuracy.
            return next((row for row in fitting if row and row.accuracy), None)
        return min(self.summary.rows, key=waiting_ms)


Runs = tuple[Run, ...]


@dataclass(frozen=True)
class Panel:
    """Units that were timed together: of one run, on one engine, with one number of threads."""

    run: Run
    engine: str
    threads: int
    rows: tuple[Row, ...]


def gather(summaries: Sequence[Summary], scores: EvaluationScores | None = None) -> Runs:
    """Decide the claims of each run, and name the runs by letters where there are several.

    Args:
        summaries: The runs.
        scores: Scores of several trainings of the networks, on the images of the runs.

    Raises:
        ResultsError: There are more runs than letters, or the scores are of other images.
    """
    if len(summaries) > len(ascii_uppercase):
        raise ResultsError(
            f"{len(summaries)} results in one report", f"at most {len(ascii_uppercase)}", "Make several reports"
        )
    letters = ascii_uppercase if len(summaries) > 1 else ("",)
    return tuple(
        Run(letter, summary, verdict.decide(summary), _of_networks(summary, scores))
        for letter, summary in zip(letters, summaries, strict=False)
    )


def _of_networks(summary: Summary, scores: EvaluationScores | None) -> NetworkVerdict | None:
    found = networks.decide(summary, scores)
    return found if found.is_over_trainings else None


def units(runs: Runs) -> list[tuple[Run, Row]]:
    """Every unit of every run, grouped by unit, in the order of the first run that has it."""
    places = {unit: place for place, unit in enumerate(dict.fromkeys(row.result.unit for _, row in _all(runs)))}
    return sorted(_all(runs), key=lambda pair: places[pair[1].result.unit])


def fastest_units(run: Run) -> list[Row]:
    """The unit on which each file answers soonest, the fastest file first."""
    best = {run.best.model.file: run.best} if run.best else {}
    for row in sorted(run.summary.rows, key=waiting_ms):
        best.setdefault(row.model.file, row)
    return sorted(best.values(), key=waiting_ms)


def panels(runs: Runs) -> list[Panel]:
    """Units by run, number of threads and engine."""
    found: dict[tuple[str, int, str], list[Row]] = {}
    by_letter = {run.letter: run for run in runs}
    for run, row in _all(runs):
        unit = row.result.unit
        found.setdefault((run.letter, unit.threads, unit.engine), []).append(row)
    return [
        Panel(by_letter[letter], engine, threads, tuple(found[letter, threads, engine]))
        for letter, threads, engine in sorted(found)
    ]


def engine_title(engine: str, threads: int) -> str:
    """An engine, with the number of threads where there are several."""
    return f"{engine}, {threads} threads" if threads > 1 else engine


def _all(runs: Iterable[Run]) -> Iterator[tuple[Run, Row]]:
    return ((run, row) for run in runs for row in run.summary.rows)
