"""The latency of calls."""

from __future__ import annotations

from functools import partial

from pneumo_edge._util.document import Cell, Figure, Paragraph, Section, Table, count
from pneumo_edge.benchmarks.report import cells, figures
from pneumo_edge.benchmarks.report.runs import Run, Runs, units

_CAPTION = (
    "Histogram of the wall time of every timed call (logarithmic) for each format and backbone. The line marks the "
    "median, the dot the 90th percentile, the ticks below the medians of the processes."
)


def section(runs: Runs) -> Section:
    """The distributions of both kinds of call, and their numbers."""
    labels = cells.unit_columns(runs)
    return Section(
        "Latency",
        (
            *(Paragraph(_protocol(run)) for run in runs),
            Figure(partial(figures.draw_distributions, runs, "inference"), f"Inference. {_CAPTION}"),
            Figure(partial(figures.draw_distributions, runs, "file_to_verdict"), f"End to end. {_CAPTION}"),
            Table(
                (
                    *labels,
                    "Calls",
                    "Inference ms",
                    "p90 bound",
                    "p99",
                    "Outliers",
                    "CPU ms",
                    "End to end ms",
                    "CPU ms",
                    "Load ms",
                    "First ms",
                ),
                len(labels),
                tuple(
                    (
                        *cells.unit(row, run),
                        cells.number(row.inference.calls, 0),
                        cells.median_p90(row.inference),
                        Cell("") if row.inference.p90_bound_ms is None else cells.number(row.inference.p90_bound_ms),
                        cells.number(row.inference.p99_ms),
                        cells.number(row.inference.outliers, 0),
                        cells.cpu(row.inference),
                        cells.median_p90(row.file_to_verdict),
                        cells.cpu(row.file_to_verdict),
                        cells.number(row.load_ms, 1),
                        cells.number(row.first_inference_ms, 1),
                    )
                    for run, row in units(runs)
                ),
                group=cells.ENGINE,
            ),
            Paragraph(
                "Inference is the engine on a ready tensor. End to end is everything from the path of an image file "
                "(in the page cache) to the prediction. The bound on the 90th percentile is MLPerf's early stopping, "
                "with 99 % confidence; it needs 64 calls. Outliers lie more than ten median absolute deviations above "
                "the median; they are kept in all statistics. CPU time is the median over processes of each process's "
                "median, with minimum and maximum; where wall time is well above it, the machine was busy with other "
                "work. Load and first inference are medians over processes, with the file in the page cache and the "
                "engine's library imported.",
                minor=True,
            ),
        ),
    )


def _protocol(run: Run) -> str:
    settings = run.summary.results.settings
    images = min(settings.images, sum(run.summary.class_counts.values()))
    return (
        f"{f'Run {run.letter}. ' if run.letter else ''}Each unit was timed in "
        f"{count(settings.processes, 'fresh process', 'es')}. A process loads the units of one engine and number of "
        "threads, warms them up, and times them in rounds, in a new random order for every round. Over all processes a "
        f"unit makes at least {count(settings.queries, 'call')} of each kind and spends at least {settings.seconds:g} "
        f"s in inference; a unit too slow for that stops after {settings.most_seconds:g} s. All units get the same "
        f"{images} test images. No sample is dropped."
    )
