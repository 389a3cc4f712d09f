"""The limitations of the report."""

from __future__ import annotations

from pathlib import Path

from pneumo_edge import formats
from pneumo_edge._util.document import Points, Section
from pneumo_edge.benchmarks.report.runs import Runs
from pneumo_edge.scoring.models import Model


def _has_signed_weights(model: Model) -> bool:
    """Whether it is an older file of this format, which does not name the processor that it was verified on."""
    row = formats.find(Path(model.file).suffix, model.format)
    return row is not None and row.signed_before and model.processor is None


def section(runs: Runs) -> Section:
    """The limitations of the measurements."""
    signed = sorted({model.file for run in runs for model in run.summary.results.models if _has_signed_weights(model)})
    images = max(sum(run.summary.class_counts.values()) for run in runs)
    return Section(
        "Limitations",
        (
            Points(
                (
                    "Research software, not a medical device. No number here says how well a model diagnoses patients.",
                    f"The {images} test images come from one source. Two models whose intervals overlap may still "
                    "differ. Accuracy on other patients, devices and ages can be far lower.",
                    "Latency applies to this machine on this day. On a shared machine, wall time includes the effect "
                    "of its neighbours. Compare units within one report rather than between reports.",
                    "Units take turns, so a call finds the caches as another unit left them. A device that runs only "
                    "one model can be slightly faster.",
                    "Model files are read from the page cache."
                    + ("" if all(run.summary.endurance for run in runs) else " Heat is not measured."),
                    *(
                        f"{name} has signed 8-bit weights, whose products saturate on x86-64 without VNNI. Newer files "
                        "of the format `onnx-int8` have unsigned weights, with other numbers (docs/quantization.md)."
                        for name in signed
                    ),
                )
            ),
        ),
    )
