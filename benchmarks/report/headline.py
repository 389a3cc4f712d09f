"""The sentence at the top of the report: which file to use on this machine, or which is the fastest, if one is."""

from __future__ import annotations

from collections.abc import Sequence

from pneumo_edge.benchmarks.choice import as_accurate, waiting_ms
from pneumo_edge.benchmarks.report.runs import Run, Runs, engine_title
from pneumo_edge.benchmarks.summary import Row, compare_units
from pneumo_edge.evaluation.outcomes import ACCURACY_MARGIN, Outcome
from pneumo_edge.formats import FLOAT32

_ACCURACY: dict[Outcome, str] = {
    "supported": f"is as accurate within {ACCURACY_MARGIN:g} of AUC",
    "refuted": f"is less accurate by more than {ACCURACY_MARGIN:g} of AUC",
    "not separable": "is not separable from it in accuracy",
}


def headline(runs: Runs) -> str:
    """The answer of the report in one sentence, computed from its numbers. It is about files, not about backbones."""
    return _of_one(runs[0]) if len(runs) == 1 else _of_several(runs)


def _of_one(run: Run) -> str:
    best = run.best
    if best is None:
        return "No file is fit for use: each misses its accuracy target, or its AUC is not better than chance."
    rival = _rival(best, run)
    numbers = [f"{best.inference.median_ms:.2f} ms per inference on {_engine(best)}"]
    if run.summary.accuracy_counts and best.accuracy:
        numbers.append(f"AUC {best.accuracy.auc.value:.3f}")
    numbers.append(f"{best.model.size_bytes / 2**20:.2f} MiB")
    beside = f"; it {_beside(best, rival, run)}" if rival else "; it was not timed enough" if best.shortfalls else ""
    return f"{_start(best, run)}: {', '.join(numbers)}{beside}."


def _start(best: Row, run: Run) -> str:
    file = f"`{best.model.file}`"
    if run.summary.accuracy_counts:
        return f"Use {file}"
    others = {row.model.file for row in run.summary.rows} - {best.model.file}
    if not others:
        return f"{file} is the only file"
    beaten = {row.model.file for row in _beside_it(best, run) if _is_faster(best, row, run)}
    return f"The fastest file is {file}" if beaten == others else f"The shortest time was that of {file}"


def _of_several(runs: Sequence[Run]) -> str:
    by_file: dict[str, list[tuple[Run, Row]]] = {}
    for run in runs:
        if run.best:
            by_file.setdefault(run.best.model.file, []).append((run, run.best))
    parts = []
    for file, found in by_file.items():
        times = sorted(row.inference.median_ms for _, row in found)
        measured = " to ".join(dict.fromkeys(f"{time:.2f}" for time in (times[0], times[-1])))
        parts.append(f"`{file}` in {_listed([run for run, _ in found])} ({measured} ms per inference)")
    if without := [run for run in runs if run.best is None]:
        parts.append(f"no file in {_listed(without)}")
    told = f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]
    return f"{'Use' if all(run.summary.accuracy_counts for run in runs) else 'The shortest time was that of'} {told}."


def _listed(runs: Sequence[Run]) -> str:
    letters = [run.letter for run in runs]
    if len(letters) == 1:
        return f"run {letters[0]}"
    return f"runs {', '.join(letters[:-1])} and {letters[-1]}"


def _engine(row: Row) -> str:
    title = engine_title(row.result.unit.engine, row.result.unit.threads)
    return title.replace(", ", " with ")


def _rival(best: Row, run: Run) -> Row | None:
    """The unit to compare with, on the same engine with as many threads.

    It has the same format and another backbone, above all one that the claims compare; or it is the fp32 file of the
    same backbone; or it is the fastest other file.
    """
    others = _beside_it(best, run)
    own = best.model.backbone
    alike = [row for row in others if row.model.format == best.model.format and row.model.backbone != own]
    asked = [
        row
        for row in alike
        if any(
            claim.is_of(own, row.model.backbone) or claim.is_of(row.model.backbone, own) for claim in run.verdict.asked
        )
    ]
    whole = [row for row in others if (row.model.backbone, row.model.format) == (own, FLOAT32)]
    return min(asked or alike or whole or others, key=waiting_ms, default=None)


def _beside_it(best: Row, run: Run) -> list[Row]:
    """The units of other files on the same engine with as many threads: only these were timed in turns with it."""
    unit = best.result.unit
    return [
        row
        for row in run.summary.rows
        if (row.result.unit.engine, row.result.unit.threads) == (unit.engine, unit.threads)
        and row.model.file != best.model.file
    ]


def _is_faster(best: Row, rival: Row, run: Run) -> bool:
    ratio = compare_units(run.summary.results, rival, best)
    return ratio.relation == "more" and not best.shortfalls


def _beside(best: Row, rival: Row, run: Run) -> str:
    """The unit compared with its rival in speed, size and accuracy."""
    name = f"`{rival.model.file}`"
    ratio = compare_units(run.summary.results, rival, best)
    if best.shortfalls or rival.shortfalls:
        speed = f"was not timed enough to compare its speed with {name}"
    elif ratio.relation == "not separable":
        speed = f"is not separable in speed from {name}"
    else:
        speed = f"is {ratio.decided.value:.2f} times as fast as {name}"
    share = f"{best.model.size_bytes / rival.model.size_bytes:.2f}"
    size = "is as large" if share == "1.00" else f"has {share} times its size"
    if not (run.summary.accuracy_counts and best.accuracy and rival.accuracy):
        return f"{speed} and {size}"
    if run.summary.shortage:
        return f"{speed} and {size}, with too few test images to compare accuracy"
    return f"{speed}, {size}, and {_ACCURACY[as_accurate(best, rival, run.summary)]}"
