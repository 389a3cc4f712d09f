"""What the report does not say."""

from __future__ import annotations

from benchmarks.report.content import Points, Section
from benchmarks.report.runs import Runs


def section(runs: Runs) -> Section:
    """The limits of what was measured."""
    images = max(sum(run.summary.class_counts.values()) for run in runs)
    return Section(
        "Limits",
        (
            Points(
                (
                    "Research software; not a medical device. No number here says how well a model judges patients.",
                    f"{images} test images of one source: two models whose intervals overlap may still differ, and "
                    "accuracy elsewhere, on other patients, devices and ages, can be far lower.",
                    "Latency belongs to this machine on this day. On a shared machine wall time also measures its "
                    "neighbours; compare units of one report with each other rather than with another report.",
                    "Units take turns, so a call finds the caches as another unit left them; a device that runs one "
                    "model over and over can be a little faster.",
                    "Model files are read from the page cache. Heat is not measured.",
                )
            ),
        ),
    )
