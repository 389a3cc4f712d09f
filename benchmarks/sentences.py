"""Turns the evidence for a claim into sentences. All text about a verdict is written here."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pneumo_edge._util.document import count
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
from pneumo_edge.benchmarks.sustained.changes import Change
from pneumo_edge.benchmarks.sustained.summary import WINDOW, Course, Endurance, Order, Pair
from pneumo_edge.evaluation.comparison import p_value
from pneumo_edge.evaluation.intervals import Interval
from pneumo_edge.evaluation.outcomes import too_few

_MEBI = 2**20
_ORDERS: dict[Order, str] = {"same": "", "reversed": "not", "not separable": "not separable from"}


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


def window(found: Endurance) -> str:
    """The length of the windows at both ends of a sustained measurement, such as "minute" or "15 s"."""
    return "minute" if found.window_s == WINDOW else f"{found.window_s} s"


def order(found: Endurance) -> Iterator[str]:
    """Whether the order of the units at the start of a sustained measurement is that at its end."""
    if not found.pairs:
        return
    time, pairs = window(found), found.pairs
    same, open_ = (sum(pair.order == order for pair in pairs) for order in ("same", "not separable"))
    if found.order == "same":
        yield f"The order of the {len(found.courses)} units in the last {time} is that in the first."
        return
    reversed_ = len(pairs) - same - open_
    yield (
        f"The order of the units in the last {time} is {_ORDERS[found.order]} that in the first: of "
        f"{count(len(pairs), 'pair')}, {same} keep their order, {reversed_} reverse it, {open_} are not separable."
    )
    for pair in pairs:
        if pair.order == "reversed":
            yield f"{pair.other.name} takes {_both(pair)} in the last {time}."


def course(found: Course, endurance: Endurance) -> str:
    """When a unit that ran alone got slower or faster."""
    end = (
        f"an inference takes {_alone(found.slower)} times as long in the last {window(endurance)} as in the first "
        f"({found.last_ms:.2f} and {found.first_ms:.2f} ms)"
    )
    if not found.changes:
        return f"{found.unit.name}: no change found; {end}."
    return f"{found.unit.name}: {'; '.join(map(_change, found.changes))}; {end}."


def courses(before: Course, after: Course, first: str, second: str) -> str:
    """How a unit that ran alone slowed down in two runs, which have these names."""
    one, other = _alone(before.slower), _alone(after.slower)
    return (
        f"Running alone, {after.unit.name} took {one} times as long at the end as at the start in {first}, and {other} "
        f"times in {second}; at the end {before.last_ms:.2f} and {after.last_ms:.2f} ms per inference."
    )


def _alone(found: Interval) -> str:
    """A ratio of a sustained measurement."""
    if math.isinf(found.high):
        return f"{found.value:.2f} (too few seconds for an interval)"
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _change(found: Change) -> str:
    what = "slower" if found.factor.value > 1 else "faster"
    return (
        f"{what} from {found.at_s.value:.0f} s [{found.at_s.low:.0f}, {found.at_s.high:.0f}] on, "
        f"{_alone(found.factor)} times the time"
    )


def _both(pair: Pair) -> str:
    first, last = _alone(pair.first), _alone(pair.last)
    return f"{first} times as long as {pair.one.name} at the start, and {last} times as long"


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
    other = found.by_clock.get(beside)
    told = (
        f"{_ratio(found.by_clock[decides], 'times as fast ')} in {CLOCK_TITLES[decides]} "
        f"({f'{_ratio(other)} in {CLOCK_TITLES[beside]}' if other else f'{CLOCK_TITLES[beside]} not measured'}), "
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
