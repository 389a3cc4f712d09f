"""``pneumo-edge score``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pneumo_edge import bundled
from pneumo_edge.cli import options
from pneumo_edge.errors import ExitCode, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pneumo_edge.api.score import Scored


def score(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A folder, a pattern, a list of paths (.txt), a tar or Parquet file, or an address such as "
            "s3://bucket/prefix.",
        ),
    ],
    out: Annotated[
        str, typer.Option(metavar="PLACE", help="Folder for the Parquet data set, or an address; resumes one there.")
    ],
    model: options.Model = bundled.DEFAULT,
    engine: options.Engine = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10_000,
            show_default=False,
            help="Processes, each with one core; by default one per core. At most 256, on a cluster 10,000.",
        ),
    ] = None,
    shard_size: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Images of a shard, which is one file of the data set.")
    ] = 1000,
    column: Annotated[
        str,
        typer.Option(
            show_default=False,
            help="Column of Parquet files with the images or their paths; by default chosen by its name.",
        ),
    ] = "",
    day: Annotated[
        str,
        typer.Option(metavar="COLUMN", show_default=False, help="Column of Parquet files with the day of an image."),
    ] = "",
    retry_errors: Annotated[
        bool,
        typer.Option("--retry-errors", help="Score the images without an answer again."),
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="auto|local|ray://HOST:PORT", show_default=False, help="Use a Ray cluster (the extra 'scale')."
        ),
    ] = None,
) -> None:
    """Classify an archive of images into a Parquet data set.

    The source is listed once and divided into shards. Each shard becomes one
    file when it is complete. Run the same command again after an interruption:
    it scores what is missing. Another model writes beside the first. An image
    without an answer keeps its row; once you have mended the cause, such as a
    missing extra or file, run the command again with --retry-errors.

    The exit code is 0 if every image was classified, and 4 if some or all
    could not be; their rows have the reason.
    """
    from pneumo_edge._util import jobs
    from pneumo_edge.api import score as api

    with jobs.resumable(jobs.SAME_COMMAND):
        scored = api.score(
            source, out, model=model, engine=engine, workers=workers, shard_size=shard_size, column=column, day=day,
            retry_errors=retry_errors, address=address, tell=options.tell,
        )  # fmt: skip
    _print(scored)
    if scored.manifest.errors:
        raise typer.Exit(ExitCode.SOME_UNJUDGED)


def _print(scored: Scored) -> None:
    from pneumo_edge.scale import summary

    found = scored.manifest
    labels = ", ".join(f"{count:,} {printable(label)}" for label, count in found.labels.items())
    typer.echo(
        f"{printable(scored.folder)}: {_images(found.images)}: {labels or 'none classified'}; {_remarks(scored)}"
    )
    for line in _errors(scored):
        typer.echo(line, err=True)
    for line in summary.lines(scored.summary):
        typer.echo(printable(line))
    if scored.images:
        speed = scored.images / max(scored.seconds, 1e-9)
        typer.echo(
            f"{_images(scored.images)} in {scored.seconds:,.1f} s: {speed:,.1f} images/s, "
            f"{speed / scored.workers:,.1f} per worker"
        )


def _remarks(scored: Scored) -> str:
    counts = {"uncertain": scored.summary.uncertain, "out-of-distribution": scored.summary.out_of_distribution}
    measured = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count is not None)
    unknown = " and ".join(what for what, count in counts.items() if count is None)
    return "; ".join(filter(None, (measured and f"of these {measured}", unknown and f"{unknown} not measured")))


def _errors(scored: Scored) -> Iterator[str]:
    """The images that were not classified, the first of them by name, and what to do."""
    errors = scored.manifest.errors
    if not errors:
        return
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in errors.items())
    yield f"warning: {_images(sum(errors.values()))} not classified: {kinds}"
    for each in scored.summary.failed:
        yield f"  {printable(each.name)}: {printable(each.error)}"
    yield "note: the column error names the reason of each. To score these images again, add --retry-errors"


def _images(number: int) -> str:
    return f"{number:,} {'image' if number == 1 else 'images'}"
