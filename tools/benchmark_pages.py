"""Generates the pages about this project's own benchmark from the raw results in ``results/benchmark``.

``make benchmark-pages`` runs this module in the repository's root.
"""

from __future__ import annotations

import sys
import textwrap
import tomllib
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from pneumo_edge._util import markdown
from pneumo_edge._util.document import Cell, Table
from pneumo_edge.benchmarks import comparison, report, results, verdict
from pneumo_edge.benchmarks.report import cells
from pneumo_edge.benchmarks.report.runs import engine_title, gather
from pneumo_edge.benchmarks.summary import CLOCK_TITLES, Summary, deciding_clock, summarise
from pneumo_edge.benchmarks.verdict import Claim
from pneumo_edge.errors import PneumoEdgeError, ResultsError
from pneumo_edge.evaluation.outcomes import Outcome
from pneumo_edge.scoring import scores
from tools import pages
from tools.answer import answer, brief

FULL = Path("results/benchmark/results.json.gz")
#: The same benchmark repeated, in the order of the file names.
REPEATED = Path("results/benchmark/repeated")
#: Every training of both backbones on the test images.
SCORES = Path("results/evaluation/scores.json")
README, ANSWER, PAGE = Path("README.md"), Path("docs/backbones.md"), Path("docs/benchmark-method.md")
#: The same with figures is a page of the documentation site: ``tools/site.py``.
MARKDOWN = Path("docs/benchmark-report.md")
#: A run that takes longer by more than this share counts as a regression.
ALLOWED = 0.05

_TARGET = "benchmark-pages"
#: Characters in a line of a page.
_WIDTH = 120
_OUTCOMES: tuple[Outcome, ...] = ("supported", "refuted", "not separable")


def faster_table(decided: Sequence[Claim]) -> Table:
    """How many times as fast, for each format, engine and number of threads, with the outcome of the claim."""
    found = {(_file(claim), (claim.engine, claim.threads)): claim for claim in decided if claim.property == "faster"}
    places = dict.fromkeys(place for _, place in found)
    rows = tuple(
        (Cell(file), *(_effect(found.get((file, place))) for place in places))
        for file in dict.fromkeys(file for file, _ in found)
    )
    return Table(("times as fast", *(_column(*place) for place in places)), 1, rows)


def _column(engine: str, threads: int) -> str:
    """An engine, and the clock that its numbers are of."""
    return f"{engine_title(engine, threads)}, {CLOCK_TITLES[deciding_clock(threads)]}"


def _file(claim: Claim) -> str:
    return f"{Path(claim.subject.model.file).suffix[1:]} {claim.subject.model.format}"


def _effect(claim: Claim | None) -> Cell:
    if claim is None or claim.effect is None:
        return Cell("")
    remarks: list[str] = [] if claim.outcome == "supported" else [claim.outcome]
    remarks += ["not eligible"] * bool(claim.ineligible)
    if claim.threads > 1:
        decides = deciding_clock(claim.threads)
        others = (f"{CLOCK_TITLES[clock]} {value:.2f}" for clock, value in claim.by_clock.items() if clock != decides)
        remarks = [*others, *remarks]
    return Cell(f"{claim.effect:.2f}", f"({', '.join(remarks)})" if remarks else "")


def repeated_table(summaries: Sequence[Summary]) -> Table:
    """The conclusions of each run, and its comparison with the run before."""
    compared: list[tuple[comparison.UnitComparison, ...]] = [()]
    compared += [comparison.compare(before, after, ALLOWED).units for before, after in pairwise(summaries)]
    rows = []
    for summary, others in zip(summaries, compared, strict=True):
        outcomes = Counter(claim.outcome for claim in verdict.decide(summary).claims)
        ratios = [str(cells.ratio(ratio.inference)) for ratio in summary.ratios]
        null_tests = [str(cells.ratio(test.inference)) for test in summary.null_tests]
        alarms = sum(len(each.regressions) for each in others)
        untold = sum(len(each.untold) for each in others)
        rows.append(
            (
                Cell(summary.results.started.replace("T", " ")[:16]),
                Cell(", ".join(ratios)),
                Cell(", ".join(null_tests)),
                Cell(", ".join(f"{outcomes[outcome]} {outcome}" for outcome in _OUTCOMES if outcomes[outcome])),
                Cell(
                    f"{alarms} of {sum(len(each.findings) for each in others)}" if others else "",
                    f"{untold} not told" if untold else "",
                ),
            )
        )
    return Table(
        (
            "started (UTC)",
            "CPU time, EfficientNetB0 over MobileNetV2",
            "A/A unit",
            "claims",
            "alarms beside the run before",
        ),
        5,
        tuple(rows),
    )


def _filled(text: str) -> str:
    """Lines in which neither a link nor a number with its sign is broken."""
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _how() -> str:
    """The commands behind the answer, and where the site has its page."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    address = f"{project['urls']['Documentation']}{ANSWER.stem}.html"
    return _filled(
        "Brackets are 95 % intervals, for accuracy over other trainings and other patients. `pneumo-edge benchmark` "
        f"measures time and size, `pneumo-edge evaluate` accuracy ([details]({address}))."
    )


def main() -> None:
    """Write the report, and put the tables into their pages."""
    try:
        runs = gather([summarise(results.read(FULL))], scores.read(SCORES))
        report.write(runs, MARKDOWN)
        (run,) = runs
        if run.networks is None:
            raise ResultsError(f"{SCORES} has too few trainings", "three of each network", "Score more trainings")
        table = markdown.table(faster_table(run.verdict.claims))
        short = _filled(brief(run.summary, run.networks))
        pages.put_table(README, _TARGET, f"{short}\n\n{_how()}\n")
        pages.put_table(ANSWER, _TARGET, f"{_filled(answer(run.summary, run.verdict, run.networks))}\n\n{table}\n")
        repeated = [summarise(results.read(path)) for path in sorted(REPEATED.glob("*.json.gz"))]
        pages.put_table(PAGE, _TARGET, f"{markdown.table(repeated_table(repeated))}\n")
    except PneumoEdgeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
