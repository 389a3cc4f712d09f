"""The figures of the report, as SVG that takes its colours and its font from the surrounding page."""

from __future__ import annotations

from pneumo_edge.benchmarks.report.figures.distributions import draw_distributions
from pneumo_edge.benchmarks.report.figures.ratios import draw_ratios
from pneumo_edge.benchmarks.report.figures.stages import draw_stages
from pneumo_edge.benchmarks.report.figures.sustained import draw_sustained
from pneumo_edge.benchmarks.report.figures.tradeoff import draw_networks, draw_tradeoff
from pneumo_edge.benchmarks.report.figures.weight import draw_weight

__all__ = [
    "draw_distributions",
    "draw_networks",
    "draw_ratios",
    "draw_stages",
    "draw_sustained",
    "draw_tradeoff",
    "draw_weight",
]
