"""The verdict over networks: accuracy over all trainings, and claims that are corrected for their number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pneumo_edge._util.document import Block, Cell, Paragraph, Points, Section, Table, Tone
from pneumo_edge.benchmarks.networks import Network, NetworkClaim, NetworkVerdict, Standing, front
from pneumo_edge.benchmarks.report import cells
from pneumo_edge.benchmarks.report.runs import Run, Runs, engine_title
from pneumo_edge.evaluation.comparison import p_value
from pneumo_edge.evaluation.networks import LEVEL
from pneumo_edge.evaluation.outcomes import ACCURACY_MARGIN, Outcome

_TONES: dict[Outcome, Tone] = {"supported": "good", "refuted": "bad", "not separable": "open"}
_COSTS = {"faster": "times as fast", "smaller": "times the size", "lighter in memory": "times the memory"}
_LINKS = {"as accurate": "as"}


def section(runs: Runs) -> Section | None:
    """Networks over their trainings; None where no network has several."""
    shown = [(run, run.networks) for run in runs if run.networks]
    if not shown:
        return None
    blocks: list[Block] = []
    for run, verdict in shown:
        blocks += [
            Paragraph(f"{_in(run)}{_scope(verdict)}"),
            Points(tuple(sentences(verdict))),
            networks_table(verdict),
            Points(tuple(map(_standing, front(verdict)))),
        ]
    blocks.append(
        Paragraph(
            "Intervals of accuracy hold for other trainings and other patients (the model of Obuchowski and Rockette). "
            f"As accurate: the AUC is lower by less than {ACCURACY_MARGIN:g}. Faster: wall time beyond the band of the "
            "A/A unit. A network is beaten where another is as accurate, in no cost worse and in one better, each by "
            "its interval. Not separable does not mean equal.",
            minor=True,
        )
    )
    return Section("Networks", tuple(blocks))


def _in(run: Run) -> str:
    return f"Run {run.letter}. " if run.letter else ""


def _scope(verdict: NetworkVerdict) -> str:
    several = [network for network in verdict.networks if network.is_several]
    counts = sorted({len(network.trainings) for network in several})
    formats = ", ".join(dict.fromkeys(f"{network.format}{network.suffix}" for network in several))
    return (
        f"These claims are about networks: accuracy is that of {' or '.join(map(str, counts))} trainings of each "
        f"({formats}). Time, size and memory were measured on one training of each, because they do not depend on "
        f"the weights. The p-values of all {verdict.corrected} claims are corrected for their number (Holm), and a "
        f"claim is decided at {LEVEL:g}."
    )


def sentences(verdict: NetworkVerdict) -> Iterator[str]:
    """One sentence for each claim of each pair of networks."""
    grouped: dict[str, list[NetworkClaim]] = {}
    for claim in verdict.claims:
        title = f"{claim.subject.title} is {claim.property} {_LINKS.get(claim.property, 'than')} {claim.other.title}"
        grouped.setdefault(title, []).append(claim)
    for title, claims in grouped.items():
        told = _costs(claims) if claims[0].property in _COSTS else "; ".join(map(_accuracy, claims))
        yield f"{title}: {told}."


def _costs(claims: Sequence[NetworkClaim]) -> str:
    """Such as "supported in 34 of 36 comparisons (1.24 to 5.64 times as fast), not separable in 2 (0.98 to 1.00)"."""
    by_outcome: dict[Outcome, list[NetworkClaim]] = {}
    for claim in claims:
        by_outcome.setdefault(claim.outcome, []).append(claim)
    parts: list[str] = []
    for outcome, found in sorted(by_outcome.items(), key=lambda item: -len(item[1])):
        values = sorted(claim.estimate.value for claim in found)
        numbers = " to ".join(dict.fromkeys(f"{value:.2f}" for value in (values[0], values[-1])))
        comparisons = "" if parts else f" of {len(claims)} comparisons"
        parts.append(f"{outcome} in {len(found)}{comparisons} ({numbers} {_COSTS[claims[0].property]})")
    return ", ".join(parts)


def _accuracy(claim: NetworkClaim) -> str:
    assert claim.corrected is not None
    p = p_value(claim.corrected)
    return f"{claim.outcome} in {claim.subject.format} (AUC {claim.estimate.signed}; {p}, corrected)"


def networks_table(verdict: NetworkVerdict) -> Table:
    """One row for each network that has several trainings."""
    return Table(
        (
            "Backbone",
            "Format",
            "Trainings",
            "AUC",
            "Each training",
            "Accuracy",
            "Fastest on",
            "Inference ms",
            "Size MiB",
        ),
        2,
        tuple(
            (
                Cell(standing.network.title),
                Cell(f"{standing.network.format}{standing.network.suffix}"),
                Cell(str(len(standing.network.trainings))),
                cells.interval(standing.network.auc),
                Cell(", ".join(f"{each.value:.3f}" for each in standing.network.aucs)),
                cells.interval(standing.network.accuracy),
                Cell(engine_title(standing.row.result.unit.engine, standing.row.result.unit.threads)),
                cells.median_p90(standing.row.inference),
                cells.number(standing.row.model.size_bytes / cells.MEBI),
            )
            for standing in front(verdict)
        ),
    )


def _standing(standing: Standing) -> str:
    name = _name(standing.network)
    if standing.beaten_by:
        return f"{name} is beaten by {', '.join(map(_name, standing.beaten_by))}."
    if standing.is_front:
        return f"{name} is on the front: no network measured is at least as good in accuracy, time, size and memory."
    return f"{name} is behind another network by the numbers, but not beyond chance."


def _name(network: Network) -> str:
    return f"{network.title} {network.format}{network.suffix}"
