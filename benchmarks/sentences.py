"""Turns the evidence for a claim into sentences. All text about a verdict is written here."""

from __future__ import annotations

from collections.abc import Iterator

from pneumo_edge.benchmarks.claims import Property
from pneumo_edge.benchmarks.evidence import (
    AccuracyEvidence,
    Estimate,
    Evidence,
    FewImages,
    MemoryEvidence,
    MissedGate,
    QuantizationEvidence,
    SizeEvidence,
    TimeEvidence,
)
from pneumo_edge.benchmarks.statistics import LEAST_DIFFERENCE
from pneumo_edge.benchmarks.summary import CLOCK_TITLES
from pneumo_edge.evaluation.comparison import p_value
from pneumo_edge.evaluation.outcomes import too_few

_MEBI = 2**20


def evidence(name: Property, found: Evidence) -> str:
    """The evidence for or against a claim.

    Args:
        name: The property that is claimed.
        found: The numbers.
    """
    told = "; ".join(_parts(found))
    if name == "faster and as accurate":
        return f"both must hold, the speed by more than {LEAST_DIFFERENCE:.0%} or the A/A band: {told}"
    return told


def missed_gate(found: MissedGate) -> str:
    """Why a file is not eligible."""
    few = f" ({_few(found.few)})" if found.few else ""
    return (
        f"misses its accuracy target: AUC {found.auc:.3f} is {found.auc / found.reference_auc:.1%} of the "
        f"{found.reference_auc:.3f} of {found.reference}, less than {found.least_share:.0%}{few}"
    )


def unranked(shortfalls: tuple[str, ...], gate: MissedGate | None) -> str:
    """Why a unit is not ranked."""
    return "; ".join(filter(None, (_too_little(shortfalls), missed_gate(gate) if gate else "")))


def _parts(found: Evidence) -> Iterator[str]:
    if found.time:
        yield _time(found.time)
    if found.size:
        yield _size(found.size)
    if found.memory:
        yield _memory(found.memory)
    if found.accuracy:
        yield _accuracy(found.accuracy)
    if found.quantization:
        yield _quantization(found.quantization)


def _time(found: TimeEvidence) -> str:
    decides, (beside,) = found.deciding, [clock for clock in CLOCK_TITLES if clock != found.deciding]
    own, other = found.by_clock[decides], found.by_clock[beside]
    told = (
        f"{_ratio(own, 'times as fast ')} in {CLOCK_TITLES[decides]} ({_ratio(other)} in {CLOCK_TITLES[beside]}), "
        f"{found.processes} processes; {_band(found)}"
    )
    if not found.cannot_win:
        return told
    return f"{told}; {found.cannot_win.file} cannot be called faster: {_too_little(found.cannot_win.shortfalls)}"


def _band(found: TimeEvidence) -> str:
    if not found.aa_unit:
        return "no A/A unit, so the noise is unknown"
    return "no A/A band from one process" if found.aa_band is None else f"A/A band {found.aa_band:.1%}"


def _size(found: SizeEvidence) -> str:
    one, two = found.subject_bytes / _MEBI, found.other_bytes / _MEBI
    return f"{one:.2f} MiB against {two:.2f} MiB, {found.times:.2f} times"


def _memory(found: MemoryEvidence) -> str:
    if found.times is None:
        return "importing the libraries took more memory than the model, so its memory cannot be measured"
    return (
        f"{found.subject_bytes / _MEBI:.1f} MiB against {found.other_bytes / _MEBI:.1f} MiB above the imports, "
        f"{_ratio(found.times, 'times ')}, {found.processes} processes each"
    )


def _accuracy(found: AccuracyEvidence) -> str:
    told = (
        f"AUC {found.auc.interval.signed} (bootstrap by patient; DeLong {p_value(found.delong_p)}), "
        f"accuracy {found.accuracy.interval.signed} (McNemar {p_value(found.mcnemar_p)}: "
        f"{found.only_subject_right} images correct with this file only, {found.only_other_right} with the other "
        f"only); margin {found.margin:g} of AUC"
    )
    return f"{told}; {_few(found.few)}" if found.few else told


def _quantization(found: QuantizationEvidence) -> str:
    lost, other, kept = (each.interval.signed for each in (found.subject_loss, found.other_loss, found.kept))
    told = f"quantization costs {lost} of AUC against {other}: difference {kept} (DeLong, paired)"
    return f"{told}; {_few(found.few)}" if found.few else told


def _few(found: FewImages) -> str:
    return too_few(found.images, found.patients)


def _too_little(shortfalls: tuple[str, ...]) -> str:
    return f"not enough was timed ({', '.join(shortfalls)})" if shortfalls else ""


def _ratio(found: Estimate, of: str = "") -> str:
    interval = found.interval
    return f"{interval.value:.2f} {of}[{interval.low:.2f}, {interval.high:.2f}]"
