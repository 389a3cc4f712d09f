"""What the report does not say."""

from __future__ import annotations

from pathlib import Path

from pneumo_edge import formats
from pneumo_edge._util.document import Points, Section
from pneumo_edge.benchmarks.report.runs import Runs
from pneumo_edge.scoring.models import Model


def _has_signed_weights(model: Model) -> bool:
    """Whether it is a file from before such files said what processor they were verified on."""
    row = formats.find(Path(model.file).suffix, model.format)
    return row is not None and row.signed_before and model.processor is None


def section(runs: Runs) -> Section:
    """The limits of what was measured."""
    signed = sorted({model.file for run in runs for model in run.summary.results.models if _has_signed_weights(model)})
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
                    *(
                        f"{name} was measured with signed 8-bit weights, which are cut off on x86-64 without VNNI; the "
                        "format `onnx-int8` has had unsigned ones since, with other numbers (docs/quantization.md)."
                        for name in signed
                    ),
                )
            ),
        ),
    )
