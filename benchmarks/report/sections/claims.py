"""The verdict: claims that compare the backbones, and their evidence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pneumo_edge._util.document import (
    Block,
    Cell,
    Folded,
    Paragraph,
    Points,
    Section,
    Table,
    Tone,
    count,
)
from pneumo_edge.backbones import backbone_title
from pneumo_edge.benchmarks import sentences as words
from pneumo_edge.benchmarks import speed, verdict
from pneumo_edge.benchmarks.claims import AskedClaim, Property, backbones
from pneumo_edge.benchmarks.report import cells
from pneumo_edge.benchmarks.report.runs import Run, Runs, engine_title
from pneumo_edge.benchmarks.statistics import LEAST_DIFFERENCE
from pneumo_edge.benchmarks.summary import CLOCK_TITLES
from pneumo_edge.benchmarks.verdict import Claim
from pneumo_edge.evaluation.outcomes import LEAST_IMAGES, LEAST_PATIENTS, Outcome

#: The words after the number of an effect.
_NOUNS: dict[Property, str] = {
    "faster": "times as fast",
    "smaller": "times the size",
    "lighter in memory": "times the memory",
    "as accurate": "in AUC",
    "keeps more AUC when quantized": "in AUC",
}
_TONES: dict[Outcome, Tone] = {"supported": "good", "refuted": "bad", "not separable": "open"}
#: Maximum number of exceptions that are named; more are only counted.
_MOST_NAMED = 4


def section(runs: Runs) -> Section:
    """The scope of the claims, a sentence for each, a table by format and engine, and the evidence."""
    blocks: list[Block] = []
    if told := tuple(sentences(runs)):
        blocks += [Paragraph(scope) for run in runs if (scope := _scope(run))]
        if any(len(run.summary.trainings) > 2 for run in runs):
            blocks.append(Paragraph(f"These pairs are compared: {backbones(_asked(runs))}."))
        blocks.append(Points(told))
        blocks.append(
            Paragraph(
                "A claim is supported or refuted only where its whole 95 % interval says so. Otherwise it is not "
                "separable, which does not mean equal. The intervals are not adjusted for the number of claims. A file "
                "that misses its accuracy target is not eligible, even where it is faster or smaller."
            )
        )
        blocks.append(_matrix(runs))
    else:
        why = (
            f"No claim was decided. Claims compare {backbones(_asked(runs))}, and the results have no such pair."
            if any(run.summary.ratios for run in runs)
            else "No claim was decided. A claim needs two files that differ only in their backbone."
        )
        blocks.append(Paragraph(why))
    if ranked := tuple(_speeds(runs)):
        blocks.append(Points(ranked))
    blocks.append(Paragraph(" ".join(_rules(runs)), minor=True))
    if any(not run.summary.has_accuracy for run in runs):
        blocks.append(
            Paragraph("Accuracy was not measured: no data set was given, or no file has a ModelSpec.", minor=True)
        )
    elif not all(run.summary.accuracy_counts for run in runs):
        blocks.append(Paragraph("No claim on accuracy is decided; the warning at the top says why.", minor=True))
    if told:
        blocks.append(Folded("Every claim with its evidence", (evidence_table(runs),)))
    if unranked := tuple(_unranked(runs)):
        blocks.append(Folded("Files that are not ranked, and why", (Points(unranked),)))
    return Section("Verdict", tuple(blocks))


def _speeds(runs: Runs) -> Iterator[str]:
    """The files of any tool by speed, a sentence each."""
    for run in runs:
        for ranking in speed.rank(run.summary):
            for ratio in ranking.slower:
                yield f"{f'Run {run.letter}. ' if run.letter else ''}{speed.sentence(ratio)}."


def _rules(runs: Runs) -> Iterator[str]:
    """The rules that decide claims, with the margins that were asked."""
    margins: dict[Property, list[float]] = {}
    for claim in _asked(runs):
        if claim.margin not in margins.setdefault(claim.property, []):
            margins[claim.property].append(claim.margin)
    if faster := margins.get("faster"):
        yield (
            "Faster: supported where the whole interval of the ratio of times lies above the band, refuted where it "
            f"lies below. The band is {_percent(faster)}, or the noise that a file showed against itself in this run "
            "if that is more. The times are CPU time with one thread and wall time with several."
        )
    if lighter := margins.get("lighter in memory"):
        same = "the same rule with" if faster else "supported where the whole interval of the ratio lies above"
        yield f"Lighter in memory: {same} a band of {_percent(lighter)}."
    if accurate := margins.get("as accurate"):
        ends = " or ".join(f"-{margin:g}" for margin in accurate)
        yield (
            f"As accurate: supported where the lower end of the difference in AUC is above {ends}, refuted where the "
            "upper end is below."
        )
    if both := margins.get("faster and as accurate"):
        yield (
            "Faster and as accurate: supported where both parts are, refuted where either is. The speed must differ by "
            f"more than {_percent([LEAST_DIFFERENCE])} or the noise; the margin of AUC is "
            f"{' or '.join(f'{margin:g}' for margin in both)}."
        )
    yield (
        f"A claim on accuracy needs at least {LEAST_IMAGES} test images of {LEAST_PATIENTS} patients in each class. A "
        f"file misses its accuracy target where its AUC is below {verdict.GATE_SHARE:.0%} of the AUC of its fp32 file; "
        "it is then not ranked. A file that was timed less than the preset requires cannot be called faster."
    )


def _percent(margins: Iterable[float]) -> str:
    return " or ".join(f"{100 * margin:g}%" for margin in margins)


def _asked(runs: Runs) -> list[AskedClaim]:
    return list(dict.fromkeys(claim for run in runs for claim in run.verdict.asked))


def _scope(run: Run) -> str:
    """The scope of the claims of a run: files, and the number of their trainings."""
    trainings = run.summary.trainings
    if max(trainings.values()) == 1:
        return (
            f"{_in(run)}One training of each backbone was measured. Every claim is about the two files that it "
            "compares, not about the backbones: another training may give another result, above all in accuracy. More "
            "formats and engines do not change that."
        )
    counted = ", ".join(f"{number} of {backbone_title(backbone)}" for backbone, number in trainings.items())
    return (
        f"{_in(run)}Trainings measured: {counted}. Every claim is about the two files that it compares, not about the "
        "backbones."
    )


def evidence_table(runs: Runs) -> Table:
    """One row for each claim."""
    return Table(
        ("Claim", "Outcome", "Format", "Engine", *cells.run_columns(runs), "Evidence"),
        5 + (len(runs) > 1),
        tuple(
            (
                Cell(_claim(claim)),
                _outcome_in_evidence(claim),
                Cell(claim.subject.model.format),
                Cell(
                    engine_title(claim.engine, claim.threads) if claim.engine else Path(claim.subject.model.file).suffix
                ),
                *cells.letter(run),
                Cell(_evidence(claim)),
            )
            for run in runs
            for claim in run.verdict.claims
        ),
        group=0,
    )


def _evidence(claim: Claim) -> str:
    missed = (f"{gate.file}: {words.missed_gate(gate)}" for _, gate in claim.ineligible)
    return "; ".join((words.evidence(claim.property, claim.evidence), *missed))


def sentences(runs: Runs) -> Iterator[str]:
    """One sentence for each claim, and one on whether the runs agree."""
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
                f"{count(len(shared), 'claim')} can be compared between runs: {same} have the same outcome in all "
                f"runs, {opposite} have opposite outcomes (supported in one run, refuted in another)."
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
        place = where(found, claims) if len(found) < len(claims) else ""
        remarks = "; ".join(filter(None, (place, _range(found), _ineligible(found))))
        parts.append(" ".join(filter(None, (outcome, share, f"({remarks})" * bool(remarks)))))
    return ", ".join(parts)


def where(found: Sequence[Claim], claims: Iterable[Claim]) -> str:
    """Where these claims apply: only the format if they cover all of it; "" where there are too many."""
    chosen = {id(claim) for claim in found}
    mixed = {claim.subject.model.format for claim in claims if id(claim) not in chosen}
    names = dict.fromkeys(
        " ".join(filter(None, (claim.subject.model.format, f"on {claim.engine}" * bool(claim.engine), _threads(claim))))
        if claim.subject.model.format in mixed
        else claim.subject.model.format
        for claim in found
    )
    return ", ".join(names) if len(names) <= _MOST_NAMED else ""


def _ineligible(claims: Sequence[Claim]) -> str:
    """The claims with a file that is not eligible, in words."""
    found = [claim for claim in claims if claim.ineligible]
    if not found:
        return ""
    if len(found) == len(claims):
        return "not eligible" if len(claims) == 1 else "none eligible"
    return f"not eligible among them: {where(found, claims) or len(found)}"


def _threads(claim: Claim) -> str:
    return f"with {claim.threads} threads" if claim.threads > 1 else ""


def _range(claims: Iterable[Claim]) -> str:
    """The range of the effects."""
    known = sorted((claim for claim in claims if claim.effect is not None), key=lambda claim: claim.effect or 0.0)
    if not known:
        return ""
    numbers = dict.fromkeys((_number(known[0]), _number(known[-1])))
    return f"{' to '.join(numbers)} {_NOUNS[known[0].property]}"


def _number(claim: Claim) -> str:
    return f"{claim.effect:+.3f}" if _NOUNS[claim.property] == "in AUC" else f"{claim.effect:.2f}"


def _effect(claim: Claim) -> str:
    if claim.effect is None:
        return ""
    if claim.threads > 1 and claim.by_clock and (time := claim.evidence.time):
        clocks = sorted(claim.by_clock, key=lambda clock: clock != time.deciding)
        return ", ".join(f"{claim.by_clock[clock]:.2f} in {CLOCK_TITLES[clock]}" for clock in clocks)
    return f"{_number(claim)} {_NOUNS[claim.property]}"


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
                    Cell(subject.format, _missing(claim)),
                    Cell(engine_title(claim.engine, claim.threads)),
                    *((Cell(_pair(claim)),) if len(pairs) > 1 else ()),
                    *cells.letter(run),
                    *(_outcome(answer) if answer else Cell("") for answer in answers),
                )
            )
    labels = ("Format", "Engine", *("Backbones",) * (len(pairs) > 1), *cells.run_columns(runs))
    # Rows of the same claim in several runs are grouped.
    place = {row[:2]: number for number, row in reversed(list(enumerate(rows)))}
    return Table(
        (*labels, *(name[0].upper() + name[1:] for name in columns)),
        len(labels),
        tuple(sorted(rows, key=lambda row: place[row[:2]])),
        group=1,
    )


def _outcome(claim: Claim) -> Cell:
    return Cell(claim.outcome, _effect(claim), claim.effect, _TONES[claim.outcome])


def _outcome_in_evidence(claim: Claim) -> Cell:
    """The outcome, and the file that is not eligible."""
    return Cell(claim.outcome, f"({_missing(claim)})" if claim.ineligible else "", tone=_TONES[claim.outcome])


def _missing(claim: Claim) -> str:
    """The backbones whose file misses its accuracy target; "" where none does."""
    names = [backbone_title(row.model.backbone) for row, _ in claim.ineligible]
    return f"not eligible: {'both' if len(names) > 1 else names[0]}" if names else ""


def _pair(claim: Claim) -> str:
    return f"{backbone_title(claim.subject.model.backbone)} against {backbone_title(claim.other.model.backbone)}"


def _claim(claim: Claim) -> str:
    # Claims are about files. A claim about backbones would need several trainings of each.
    subject, other = (backbone_title(row.model.backbone) for row in (claim.subject, claim.other))
    verb = "" if claim.property == "keeps more AUC when quantized" else "is "
    link = "as" if claim.property.endswith("accurate") else "than"
    return f"{subject}'s file {verb}{claim.property} {link} {other}'s"


def _unranked(runs: Runs) -> Iterator[str]:
    for run in runs:
        reasons: dict[str, list[str]] = {}
        for row, gate in run.verdict.unranked:
            why = words.unranked(row.shortfalls, gate)
            reasons.setdefault(why, []).append(cells.unit_title(row))
        for why, names in reasons.items():
            yield f"{_in(run)}Not ranked: {'; '.join(names)}. Reason: {why}."


def _in(run: Run) -> str:
    return f"Run {run.letter}. " if run.letter else ""
