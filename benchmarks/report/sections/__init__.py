"""The sections of the report. Each is a function of the runs.

A function returns None for a section without content, which is left out.
"""

from __future__ import annotations

from collections.abc import Callable

from pneumo_edge._util.document import Section
from pneumo_edge.benchmarks.report.runs import Runs
from pneumo_edge.benchmarks.report.sections import (
    claims,
    cost,
    cross_checks,
    files,
    latency,
    limits,
    networks,
    noise,
    ratios,
    reproduce,
    side_by_side,
    stages,
    sustained,
    tradeoff,
    weight,
    why,
)

#: In the order of the page.
SECTIONS: tuple[Callable[[Runs], Section | None], ...] = (
    tradeoff.section,
    networks.section,
    claims.section,
    side_by_side.section,
    ratios.section,
    why.section,
    latency.section,
    stages.section,
    sustained.section,
    weight.section,
    cost.throughput,
    cost.energy,
    cost.installation,
    noise.section,
    cross_checks.section,
    files.section,
    files.left_out,
    cost.not_available,
    reproduce.section,
    limits.section,
)
