"""The verdict: what is claimed of a backbone beside another, and what the evidence says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks import statistics, verdict
from benchmarks.report import cells
from benchmarks.report.content import (
    Block,
    Cell,
    Folded,
    Paragraph,
    Points,
    Section,
    Table,
    Tone,
    backbone_title,
    count,
)
from benchmarks.report.runs import Run, Runs, engine_title
from benchmarks.verdict import Claim, Outcome, Property

#: What an effect is, after its number.
_NOUNS: dict[Property, str] = {
    "faster": "times as fast",
    "smaller": "times the size",
    "lighter in memory": "times the memory",
    "as accurate": "in AUC",
    "keeps more AUC when quantized": "in AUC",
}
_TONES: dict[Outcome, Tone] = {"supported": "good", "refuted": "bad", "not separable": "open"}
#: More exceptions than these are counted only.
_MOST_NAMED = 4


def section(runs: Runs) -> Section:
    """Each claim in a sentence, then for each format and engine, then with its evidence."""
    blocks: list[Block] = []
    if told := tuple(sentences(runs)):
        blocks.append(Points(told))
        blocks.append(
            Paragraph(
                "A claim is supported or refuted only where the evidence leaves no doubt at 95 %, each for itself, and "
                "else not separable, which does not mean equal."
            )
        )
        blocks.append(_matrix(runs))
    else:
        blocks.append(Paragraph("No two files differ in their backbone alone, so nothing is claimed."))
    blocks.append(
        Paragraph(
            "Faster: the interval of the ratio of CPU time lies outside the band of "
            f"{statistics.LEAST_DIFFERENCE:.0%}, or of what a file against itself showed in this run where that is "
            "more. As accurate: the interval of the difference in AUC ends less than "
            f"{verdict.ACCURACY_MARGIN:g} below zero. A file whose AUC is under {verdict.GATE_SHARE:.0%} of its fp32 "
            "file's fails its accuracy gate and cannot win or rank; nor can one "
            "that was timed less than the preset asks for win by its times.",
            minor=True,
        )
    )
    if not all(run.summary.accuracy_counts for run in runs):
        blocks.append(Paragraph("Accuracy is not judged, for the reason at the top.", minor=True))
    if told:
        blocks.append(Folded("Every claim with its evidence", (evidence_table(runs),)))
    if unranked := tuple(_unranked(runs)):
        blocks.append(Folded("Files that cannot rank, and why", (Points(unranked),)))
    return Section("Verdict", tuple(blocks))


def evidence_table(runs: Runs) -> Table:
    """One row for each claim."""
    return Table(
        ("Claim", "Outcome", "Format", "Engine", *cells.run_columns(runs), "Evidence"),
        5 + (len(runs) > 1),
        tuple(
            (
                Cell(_claim(claim)),
                _outcome(claim, detailed=False),
                Cell(claim.subject.model.format),
                Cell(
                    engine_title(claim.engine, claim.threads) if claim.engine else Path(claim.subject.model.file).suffix
                ),
                *cells.letter(run),
                Cell(claim.evidence),
            )
            for run in runs
            for claim in run.verdict.claims
        ),
        group=0,
    )


def sentences(runs: Runs) -> Iterator[str]:
    """One sentence for each claim and run, and one on whether the runs agree."""
    for title in dict.fromkeys(_claim(claim) for run in runs for claim in run.verdict.claims):
        of_runs = [
            f"{f'in run {run.letter} ' if run.letter else ''}{_outcomes(claims)}"
            for run in runs
            if (claims := [claim for claim in run.verdict.claims if _claim(claim) == title])
        ]
        yield f"{title}: {'; '.join(of_runs)}."
    if len(runs) > 1:
        outcomes: dict[tuple[str, ...], list[Outcome]] = {}
        for run in runs:
            for claim in run.verdict.claims:
                outcomes.setdefault(_key(claim), []).append(claim.outcome)
        shared = [found for found in outcomes.values() if len(found) > 1]
        same = sum(len(set(found)) == 1 for found in shared)
        opposite = sum({"supported", "refuted"} <= set(found) for found in shared)
        if shared:
            yield (
                f"Of {count(len(shared), 'claim')} that several runs make, {same} have the same outcome in all, and "
                f"{opposite} opposite ones (supported in one run, refuted in another)."
            )


def _key(claim: Claim) -> tuple[str, ...]:
    subject, other = claim.subject.model, claim.other.model
    return claim.property, subject.file, other.file, claim.engine, str(claim.threads)


def _outcomes(claims: Sequence[Claim]) -> str:
    """Such as "supported in 5 of 6 comparisons (1.4 to 2.1 times as fast), refuted in 1 (dynamic on litert; ...)"."""
    by_outcome: dict[Outcome, list[Claim]] = {}
    for claim in claims:
        by_outcome.setdefault(claim.outcome, []).append(claim)
    parts: list[str] = []
    for outcome, found in sorted(by_outcome.items(), key=lambda item: -len(item[1])):
        if len(found) == len(claims):
            share = f"in {'both' if len(claims) == 2 else f'all {len(claims)}'} comparisons" if len(claims) > 1 else ""
        else:
            share = f"in {len(found)}{'' if parts else f' of {len(claims)} comparisons'}"
        where = _where(found, claims) if len(found) < len(claims) else ""
        remarks = "; ".join(filter(None, (where, _range(found))))
        parts.append(" ".join(filter(None, (outcome, share, f"({remarks})" * bool(remarks)))))
    return ", ".join(parts)


def _where(found: Sequence[Claim], claims: Iterable[Claim]) -> str:
    """Which of the claims these are: a format alone where it is all of that format; "" where they are many."""
    mixed = {claim.subject.model.format for claim in claims if claim.outcome != found[0].outcome}
    names = dict.fromkeys(
        " ".join(filter(None, (claim.subject.model.format, f"on {claim.engine}" * bool(claim.engine), _threads(claim))))
        if claim.subject.model.format in mixed
        else claim.subject.model.format
        for claim in found
    )
    return ", ".join(names) if len(names) <= _MOST_NAMED else ""


def _threads(claim: Claim) -> str:
    return f"with {claim.threads} threads" if claim.threads > 1 else ""


def _range(claims: Iterable[Claim]) -> str:
    """The least and the greatest effect."""
    known = sorted((claim for claim in claims if claim.effect is not None), key=lambda claim: claim.effect or 0.0)
    if not known:
        return ""
    numbers = dict.fromkeys((_number(known[0]), _number(known[-1])))
    return f"{' to '.join(numbers)} {_NOUNS[known[0].property]}"


def _number(claim: Claim) -> str:
    return f"{claim.effect:+.3f}" if _NOUNS[claim.property] == "in AUC" else f"{claim.effect:.2f}"


def _effect(claim: Claim) -> str:
    return "" if claim.effect is None else f"{_number(claim)} {_NOUNS[claim.property]}"


def _matrix(runs: Runs) -> Table:
    """One row for each pair of units, one column for each claim."""
    columns = dict.fromkeys(claim.property for run in runs for claim in run.verdict.claims)
    pairs = {_pair(claim) for run in runs for claim in run.verdict.claims}
    rows = []
    for run in runs:
        found = {(_key(claim)): claim for claim in run.verdict.claims}
        for claim in run.verdict.claims:
            if claim.property != "faster":
                continue
            subject, other = claim.subject.model, claim.other.model
            of_files = subject.file, other.file
            answers = [
                next(
                    (
                        found[key]
                        for key in (
                            (name, *of_files, claim.engine, str(claim.threads)),
                            (name, *of_files, claim.engine, "0"),
                            (name, *of_files, "", "0"),
                        )
                        if key in found
                    ),
                    None,
                )
                for name in columns
            ]
            rows.append(
                (
                    Cell(subject.format),
                    Cell(engine_title(claim.engine, claim.threads)),
                    *((Cell(_pair(claim)),) if len(pairs) > 1 else ()),
                    *cells.letter(run),
                    *(_outcome(answer) if answer else Cell("") for answer in answers),
                )
            )
    labels = ("Format", "Engine", *("Backbones",) * (len(pairs) > 1), *cells.run_columns(runs))
    # The same claim of several runs stands together.
    place = {row[:2]: number for number, row in reversed(list(enumerate(rows)))}
    return Table(
        (*labels, *(name[0].upper() + name[1:] for name in columns)),
        len(labels),
        tuple(sorted(rows, key=lambda row: place[row[:2]])),
        group=1,
    )


def _outcome(claim: Claim, *, detailed: bool = True) -> Cell:
    detail = _effect(claim) if detailed else ""
    return Cell(claim.outcome, detail, claim.effect if detailed else None, _TONES[claim.outcome])


def _pair(claim: Claim) -> str:
    return f"{backbone_title(claim.subject.model.backbone)} beside {backbone_title(claim.other.model.backbone)}"


def _claim(claim: Claim) -> str:
    subject, other = (backbone_title(row.model.backbone) for row in (claim.subject, claim.other))
    verb = "" if claim.property == "keeps more AUC when quantized" else "is "
    return f"{subject} {verb}{claim.property} {'as' if claim.property.endswith('accurate') else 'than'} {other}"


def _unranked(runs: Runs) -> Iterator[str]:
    for run in runs:
        reasons: dict[str, list[str]] = {}
        for row, why in run.verdict.unranked:
            reasons.setdefault(why, []).append(cells.unit_title(row))
        for why, names in reasons.items():
            yield f"{_in(run)}Cannot rank: {'; '.join(names)}. Reason: {why}."


def _in(run: Run) -> str:
    return f"Run {run.letter}. " if run.letter else ""
