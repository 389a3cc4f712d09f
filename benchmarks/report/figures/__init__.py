"""The figures of the benchmark's report, as SVG that takes its colours and its font from the page it stands in."""

from __future__ import annotations

from benchmarks.report.figures.distributions import draw_distributions
from benchmarks.report.figures.ratios import draw_ratios
from benchmarks.report.figures.stages import draw_stages
from benchmarks.report.figures.tradeoff import draw_tradeoff
from benchmarks.report.figures.weight import draw_weight

__all__ = ["draw_distributions", "draw_ratios", "draw_stages", "draw_tradeoff", "draw_weight"]
