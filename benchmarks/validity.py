"""Whether a result counts: whether a unit was timed enough, and what disturbed the measurement."""

from __future__ import annotations

from collections.abc import Sequence

from pneumo_edge.benchmarks.protocol import MIN_PROCESSES, PRESETS, BenchmarkSettings
from pneumo_edge.benchmarks.results import Conditions, LatencySamples, Machine

#: A process above one of these counts as disturbed. Wall over CPU time is the median over calls with one thread.
MOST_STEAL_SHARE = 0.01
MOST_SWITCHES_PER_SECOND = 20
MOST_WALL_OVER_CPU = 1.05
MOST_THROTTLED_SHARE = 0.01


def shortfalls(settings: BenchmarkSettings, latency: Sequence[LatencySamples]) -> tuple[str, ...]:
    """What a unit's timing lacks of its preset, a few words each. A unit that lacks anything cannot be called faster.

    Args:
        settings: The settings of the run; only the preset counts.
        latency: The unit's samples, one item for each process.
    """
    preset = PRESETS[settings.preset]
    found = []
    if len(latency) < MIN_PROCESSES:
        found.append(f"{len(latency)} of at least {MIN_PROCESSES} processes")
    end_to_end = [each.file_to_verdict for each in latency if each.file_to_verdict]
    for what, timed in (("inference calls", [each.inference for each in latency]), ("end-to-end calls", end_to_end)):
        calls = sum(len(each.rounds) for each in timed)
        if timed and calls < preset.queries:
            found.append(f"{calls} of at least {preset.queries} {what}")
    seconds = sum(sum(each.inference.wall_ns) for each in latency) / 1e9
    if seconds < preset.seconds:
        found.append(f"{seconds:.2g} of at least {preset.seconds:g} s of inference")
    return tuple(found)


def describe_cores(machine: Machine) -> str:
    """How many cores were available, and the quota on them."""
    cores = "1 core" if machine.cores == 1 else f"{machine.cores} cores"
    return cores if machine.quota is None else f"{cores} with a quota of {machine.quota:g}"


def disturbances(conditions: Conditions, machine: Machine, wall_over_cpu: float | None) -> tuple[str, ...]:
    """What may have disturbed a process, a few words each. Its samples still count.

    Args:
        conditions: The conditions while it timed.
        machine: The machine.
        wall_over_cpu: Median wall over CPU time of its inference calls; None for more than one thread.
    """
    found = []
    if conditions.steal_share is not None and conditions.steal_share > MOST_STEAL_SHARE:
        found.append(f"the host took {conditions.steal_share:.1%} of the processor time")
    if conditions.involuntary_switches is not None:
        rate = conditions.involuntary_switches / max(conditions.seconds, 1e-9)
        if rate > MOST_SWITCHES_PER_SECOND:
            found.append(f"the process was preempted {rate:.0f} times a second")
    if wall_over_cpu is not None and wall_over_cpu > MOST_WALL_OVER_CPU:
        found.append(f"wall time is {wall_over_cpu:.2f} times CPU time")
    if conditions.throttled_s is not None and conditions.throttled_s > MOST_THROTTLED_SHARE * conditions.seconds:
        found.append(f"its control group was throttled for {conditions.throttled_s:.2g} of {conditions.seconds:.2g} s")
    granted = machine.cores if machine.quota is None else min(machine.cores, machine.quota)
    if conditions.threads > granted:
        threads = "1 thread" if conditions.threads == 1 else f"{conditions.threads} threads"
        found.append(f"it used {threads} on {describe_cores(machine)}")
    if conditions.load_average is not None and conditions.load_average > max(machine.cores, conditions.threads):
        found.append(f"the load average was {conditions.load_average:.1f}")
    if conditions.governor not in ("", "performance"):
        found.append(f"the frequency governor was {conditions.governor}")
    return tuple(found)
