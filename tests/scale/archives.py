"""An archive for the tests of ``score``: a few images, in the forms that archives have."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pneumo_edge import Classifier
from pneumo_edge.runtime.identity import PredictorIdentity
from pneumo_edge.scale import listing, plan, rows, run
from pneumo_edge.scale.rows import ShardCounts
from pneumo_edge.scale.run import Job, ScoreManifest
from pneumo_edge.scale.shards import Scorer, Task

#: Images, by name; the last one is no image.
NAMES = ("a-b/0.png", "a/0.png", "a/1.png", "a/deep/2.png", "b/3.png", "b/4.png", "c/broken.png")
SHARD_SIZE = 3


def draw(folder: Path, names: Sequence[str] = NAMES) -> Path:
    """Write noise images, each different, and one file that is not whole."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x89PNG\r\n\x1a\n nonsense" if "broken" in name else content(number))
    return folder


def content(number: int) -> bytes:
    """An image file: noise of its own."""
    pixels = np.random.default_rng(number).integers(0, 200, (64, 64)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def tar(folder: Path, target: Path) -> Path:
    """The images of a folder as a shard of WebDataset, with a file beside each."""
    with tarfile.open(target, "w") as archive:
        for name in NAMES:
            archive.add(folder / name, name)
            label = json.dumps({"label": 0}).encode()
            member = tarfile.TarInfo(f"{name.removesuffix('.png')}.json")
            member.size = len(label)
            archive.addfile(member, io.BytesIO(label))
    return target


def table(target: Path, columns: dict[str, Any], rows_of_group: int = 2) -> Path:
    """A Parquet file."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table(columns), target, row_group_size=rows_of_group)
    return target


class Here:
    """A worker in this process."""

    def __init__(self, scorer: Callable[[Task], ShardCounts]) -> None:
        self._scorer = scorer

    def __call__(self, argument: Task) -> ShardCounts:
        return self._scorer(argument)

    def stop(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing is open."""


def score_here(
    classifier: Classifier, source: object, place: Path | str, *, column: str = "", day: str = ""
) -> tuple[list[dict[str, Any]], ScoreManifest]:
    """Score a source in this process; the rows of the data set, and its manifest."""
    planned = plan.make(str(place), listing.open_source(str(source), column, day), SHARD_SIZE, lambda images: None)
    job = Job(str(place), planned, PredictorIdentity.of(classifier))
    counts = run.score(job, set(), [Here(Scorer(job.setup(str(classifier.path))))], lambda counts: None)
    manifest = run.close(job, set(), counts, classifier.spec)
    return read_rows(job.folder, manifest), manifest


def read_rows(folder: str, manifest: ScoreManifest) -> list[dict[str, Any]]:
    """The rows of the shards of a data set, in order."""
    parquet = pytest.importorskip("pyarrow.parquet")
    tables = (parquet.read_table(f"{folder}/{shard.file}", partitioning=None) for shard in manifest.shards)
    return [row for table in tables for row in table.to_pylist()]


def answers(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without what differs between two runs."""
    return [{name: value for name, value in row.items() if name not in rows.TIMES} for row in found]
