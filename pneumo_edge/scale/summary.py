"""What a scored data set shows as a whole: counts, shares, errors, speed, and drift from the validation images.

It is computed from the files of the shards, so it can be made of any data set at any time. Memory does not grow with
the number of images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pneumo_edge._util import extras, records
from pneumo_edge._util.records import Count
from pneumo_edge.errors import ResultsError, printable
from pneumo_edge.evaluation import drift
from pneumo_edge.evaluation.comparison import p_value
from pneumo_edge.evaluation.drift import Comparison, Counted
from pneumo_edge.scale import figures, rows, stores
from pneumo_edge.spec import ModelSpec, ValidationDistributionSpec

#: Files beside those of the shards; readers of Parquet folders pass over names that begin like this.
SUMMARY, FIGURE = "_summary.json", "_drift.png"
#: What :attr:`Summary.without_drift` says of a file from before there were validation distributions.
NO_DISTRIBUTION = (
    "this file carries no validation distribution; export the model again with this version of pneumo-edge to measure "
    "drift"
)
NO_ANSWER = "no image was classified"
NO_DISTANCE = "this file carries no distances of validation images"
#: Groups at most; with more, names are shortened: by the last folder, or to the month, then to the year.
MOST_GROUPS = 1000
_BATCH = 16_384
_COLUMNS = [
    "folder", "day", "label", "probabilities", "uncertain", "out_of_distribution", "distance", "error_kind",
]  # fmt: skip
#: Groups with drift that are named in text.
_NAMED = 5
#: Images without an answer that a summary names.
MOST_FAILED = 3

By = Literal["day", "folder"]


@dataclass(frozen=True)
class Group:
    """The images of one day or folder; of each kind, how many. None where the model file does not say."""

    name: str
    images: Count
    labels: dict[str, Count]
    uncertain: Count | None
    out_of_distribution: Count | None
    errors: Count


@dataclass(frozen=True)
class Failed:
    """An image that could not be classified, and why."""

    name: str
    error: str


@dataclass(frozen=True)
class Summary:
    """What a scored data set shows as a whole.

    Attributes:
        images: How many there are.
        labels: How many have each label.
        uncertain: How many answers are uncertain; None where the model file does not say.
        out_of_distribution: How many images are unlike the training images; None as above.
        out_of_distribution_expected: The share of images like the validation images that are called so.
        errors: How many could not be classified, by the class of the error.
        seconds: Wall time of all workers together, without their start.
        images_per_core_second: Images divided by ``seconds``; None without workers' times.
        grouped_by: What groups are: days where the source has them, else folders; None where there is one alone.
        groups: In the order of their names.
        drift: Comparisons with the validation images, of all images first, then of the groups.
        without_drift: Why there are no comparisons; None where there are.
        distance_counts: Images within each interval of the file's histogram of the distance; None without one.
        probability_counts: The same for each class with a histogram.
        failed: The first images that could not be classified, at most :data:`MOST_FAILED`.
    """

    images: Count
    labels: dict[str, Count]
    uncertain: Count | None
    out_of_distribution: Count | None
    out_of_distribution_expected: float | None
    errors: dict[str, Count]
    seconds: float
    images_per_core_second: float | None
    grouped_by: By | None
    groups: tuple[Group, ...]
    drift: tuple[Comparison, ...]
    without_drift: str | None
    distance_counts: tuple[Count, ...] | None
    probability_counts: dict[str, tuple[Count, ...]]
    failed: tuple[Failed, ...] = ()

    @property
    def answered(self) -> int:
        """Images with an answer."""
        return sum(self.labels.values())


class _Tally:
    """The counts of a group; they add up."""

    def __init__(self) -> None:
        self.images = self.uncertain = self.out_of_distribution = 0
        self.labels: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.counted: Counted | None = None

    def add(self, other: _Tally) -> None:
        self.images += other.images
        self.uncertain += other.uncertain
        self.out_of_distribution += other.out_of_distribution
        self.labels += other.labels
        self.errors += other.errors
        if self.counted is None:
            self.counted = other.counted
        elif other.counted is not None:
            self.counted = self.counted + other.counted

    def group(self, name: str, spec: ModelSpec) -> Group:
        return Group(
            name,
            self.images,
            dict(sorted(self.labels.items())),
            self.uncertain if spec.conformal else None,
            self.out_of_distribution if spec.input_check else None,
            self.errors.total(),
        )


class _Groups:
    """Counts by group, of at most :data:`MOST_GROUPS`: with more, the last part of the longest names is left out."""

    def __init__(self, by: By) -> None:
        self._separator = "-" if by == "day" else "/"
        #: Parts of a name that are looked at; None for all.
        self._parts: int | None = None
        self.tallies: dict[str, _Tally] = {}

    def add(self, name: str, tally: _Tally) -> None:
        self.tallies.setdefault(self._key(name), _Tally()).add(tally)

    def shorten(self) -> None:
        while len(self.tallies) > MOST_GROUPS:
            self._parts = max(name.count(self._separator) for name in self.tallies)
            longer, self.tallies = self.tallies, {}
            for name, tally in longer.items():
                self.add(name, tally)

    def _key(self, name: str) -> str:
        return name if self._parts is None else self._separator.join(name.split(self._separator)[: self._parts])


def summarise(shards: Iterable[Any], spec: ModelSpec) -> Summary:
    """Summarise a scored data set.

    Args:
        shards: The files of its shards: paths, or binary files that can be read at any place.
        spec: That of the model file that the images were scored with.

    Raises:
        MissingExtraError: pyarrow is not installed.
        records.RecordError: A file is none of a shard.
        OSError: A file cannot be read.
    """
    parquet = extras.need("pyarrow.parquet", "parquet")
    by: By | None = None
    groups, seconds = _Groups("folder"), 0.0
    failed: list[Failed] = []
    for shard in shards:
        with parquet.ParquetFile(shard) as file:
            found = (file.metadata.metadata or {}).get(rows.SHARD_KEY.encode(), b"")
            counts = records.loads(rows.ShardCounts, found)
            seconds += counts.seconds
            if counts.errors and len(failed) < MOST_FAILED:
                failed += _failed(file)
            for batch in file.iter_batches(_BATCH, columns=_COLUMNS, use_threads=False):
                if by is None:
                    by = "day" if batch.column("day").null_count < len(batch) else "folder"
                    groups = _Groups(by)
                for name, tally in _tallies(batch, by, spec):
                    groups.add(name, tally)
                groups.shorten()
    return replace(_summary(groups.tallies, by, seconds, spec), failed=tuple(failed[:MOST_FAILED]))


def _failed(file: Any) -> Iterator[Failed]:
    """The first images of a shard that could not be classified."""
    found = (
        Failed(row["name"], row["error"])
        for batch in file.iter_batches(_BATCH, columns=["name", "error"], use_threads=False)
        for row in batch.filter(batch.column("error").is_valid()).to_pylist()
    )
    return islice(found, MOST_FAILED)


def _tallies(batch: Any, by: By, spec: ModelSpec) -> Iterator[tuple[str, _Tally]]:
    """Count the rows of each group of a batch."""
    column = batch.column(by).fill_null("").dictionary_encode()
    names, codes = column.dictionary.to_pylist(), column.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    for positions in np.split(order, starts[1:]) if len(order) else []:
        yield names[codes[positions[0]]], _tally(batch.take(positions), spec)


def _tally(part: Any, spec: ModelSpec) -> _Tally:
    tally = _Tally()
    tally.images = len(part)
    tally.labels.update(part.column("label").drop_null().to_pylist())
    tally.errors.update(part.column("error_kind").drop_null().to_pylist())
    tally.uncertain = int(part.column("uncertain").fill_null(False).to_numpy(zero_copy_only=False).sum())
    tally.out_of_distribution = int(
        part.column("out_of_distribution").fill_null(False).to_numpy(zero_copy_only=False).sum()
    )
    if spec.validation_distribution and tally.labels:
        tally.counted = _count(part, spec, spec.validation_distribution)
    return tally


def _count(part: Any, spec: ModelSpec, described: ValidationDistributionSpec) -> Counted:
    probabilities = part.column("probabilities").drop_null().flatten().to_numpy(zero_copy_only=False)
    by_class = dict(zip(spec.class_names, probabilities.reshape(-1, len(spec.class_names)).T, strict=True))
    distances: npt.NDArray[np.float64] = part.column("distance").drop_null().to_numpy(zero_copy_only=False)
    return drift.count(described, by_class, distances)


def write(folder: str, files: Iterable[str], spec: ModelSpec) -> Summary:
    """Summarise a finished data set into :data:`SUMMARY`, and draw :data:`FIGURE` where drift was measured.

    The figure is left out where matplotlib is not installed.

    Args:
        folder: The folder of the shards, a path or URL.
        files: The names of their files.
        spec: As for :func:`summarise`.

    Raises:
        MissingExtraError: As :func:`summarise`.
        StoreError: The store fails.
        OSError: A file cannot be read or written.
    """
    store = stores.of(folder)

    def opened() -> Iterator[Any]:
        for file in files:
            with store.open(stores.join(folder, file)) as stream:
                yield stream

    found = summarise(opened(), spec)
    if spec.validation_distribution and found.drift and extras.is_installed("matplotlib"):
        store.write(stores.join(folder, FIGURE), figures.drift_figure(found, spec.validation_distribution))
    store.write(stores.join(folder, SUMMARY), records.document(found).encode())
    return found


def read(folder: str) -> Summary:
    """Read the summary of a data set.

    Raises:
        ResultsError: It is damaged.
        StoreError: The store fails.
        OSError: It cannot be read.
    """
    path = stores.join(folder, SUMMARY)
    try:
        return records.loads(Summary, stores.of(path).read(path))
    except records.RecordError as error:
        raise ResultsError(f"{path} is not valid: {error}", "a summary of `pneumo-edge score`", "Delete it") from error


def _summary(tallies: Mapping[str, _Tally], by: By | None, seconds: float, spec: ModelSpec) -> Summary:
    whole = _Tally()
    for tally in tallies.values():
        whole.add(tally)
    grouped = dict(sorted(tallies.items())) if len(tallies) > 1 else {}
    described = spec.validation_distribution
    comparisons: tuple[Comparison, ...] = ()
    if described and whole.counted:
        counts: dict[str | None, Counted] = {None: whole.counted}
        counts |= {name: tally.counted for name, tally in grouped.items() if tally.counted}
        comparisons = drift.compare(described, counts)
    counted = whole.counted
    return Summary(
        images=whole.images,
        labels={name: whole.labels[name] for name in spec.class_names},
        uncertain=whole.uncertain if spec.conformal else None,
        out_of_distribution=whole.out_of_distribution if spec.input_check else None,
        out_of_distribution_expected=round(1 - spec.input_check.share, 9) if spec.input_check else None,
        errors=dict(sorted(whole.errors.items())),
        seconds=seconds,
        images_per_core_second=whole.images / seconds if seconds else None,
        grouped_by=by if grouped else None,
        groups=tuple(tally.group(name, spec) for name, tally in grouped.items()),
        drift=comparisons,
        without_drift=None if comparisons else NO_ANSWER if described else NO_DISTRIBUTION,
        distance_counts=tuple(counted.distance.tolist()) if counted and counted.distance is not None else None,
        probability_counts={name: tuple(each.tolist()) for name, each in counted.probabilities.items()}
        if counted
        else {},
    )


def lines(summary: Summary) -> Iterator[str]:
    """What a summary says beyond the counts of a manifest, in words: one line each."""
    if summary.out_of_distribution and summary.out_of_distribution_expected is not None:
        yield (
            f"out-of-distribution: {summary.out_of_distribution / summary.answered:.1%}; of images like the validation "
            f"images {summary.out_of_distribution_expected:.1%}"
        )
    if summary.without_drift:
        yield f"drift: not measured: {summary.without_drift}"
        return
    whole = [each for each in summary.drift if each.group is None]
    if all(each.number != "distance" for each in whole):
        yield f"drift of the distance: not measured: {NO_DISTANCE}"
    yield from map(_line, whole)
    if summary.grouped_by:
        of_groups = [each for each in summary.drift if each.group is not None]
        compared = {each.group for each in of_groups}
        drifting = list(dict.fromkeys(each.group for each in of_groups if each.drift))
        unknown = compared - {each.group for each in of_groups if each.can_be_told}
        names = ", ".join(printable(name or ".") for name in drifting[:_NAMED])
        more = f" and {len(drifting) - _NAMED} more" if len(drifting) > _NAMED else ""
        yield (
            f"drift by {summary.grouped_by}: {len(drifting)} of {len(compared)} with at least {drift.LEAST_IMAGES} "
            f"images{': ' if names else ''}{names}{more}"
            + (f"; for {len(unknown)} it cannot be told" if unknown else "")
        )


def _line(each: Comparison) -> str:
    """A comparison of all images, in words."""
    of = each.number if each.class_name is None else f"{each.number} of {printable(each.class_name)}"
    if not each.can_be_told:
        return (
            f"drift of the {of}: cannot be told: there are too few independent images here or in validation; "
            f"a Kolmogorov-Smirnov statistic up to {each.statistic_by_chance:.3f} is chance, and it is "
            f"{each.statistic:.3f}"
        )
    return (
        f"{'drift' if each.drift else 'no drift'} of the {of}: Kolmogorov-Smirnov statistic {each.statistic:.3f} "
        f"(by chance up to {each.statistic_by_chance:.3f}, {p_value(each.p_corrected)}), population stability index "
        f"{each.index:.3f} (by chance up to {each.index_by_chance:.3f})"
    )
