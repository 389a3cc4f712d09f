"""Finds groups of training images that look alike, apart from what they show, and are nearly all of one class.

Images that were taken and saved in the same way have the same tone, sharpness and borders. A hierarchy of clusters
(Ward, Journal of the American Statistical Association 58, 1963) is built of such measures, without the classes; then
the largest clusters of nearly one class are sought in it from the top.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pneumo_edge._util import extras
from pneumo_edge.data.marks import chance
from pneumo_edge.data.samples import Sample, describe_counts
from pneumo_edge.task import Task

_Floats = npt.NDArray[np.float32]

#: Most images that are clustered: time and memory grow with their square.
_MOST_IMAGES = 6000
#: Least patients of a cluster, and the least share of them in one class.
_LEAST_PATIENTS, _PURITY = 8, 0.95
#: The largest p-value, corrected for all clusters that were tested.
_P_VALUE = 0.01
#: Standard deviations that a measure counts at most, so that one strange image is no cluster.
_MOST_DEVIATIONS = 4.0
#: Measures that are named, and the least difference to be named, in standard deviations.
_MOST_TRAITS, _LEAST_SHIFT = 4, 0.7


@dataclass(frozen=True)
class Trait:
    """A measure that the images of a cluster have in common: its median in the cluster, and in the other images."""

    measure: str
    inside: float
    outside: float


@dataclass(frozen=True)
class Cluster:
    """Images that look alike, of which nearly all of the training images are of one class.

    Attributes:
        class_name: The class.
        counts: Images by split of the source and class name. An image that was not clustered, such as one of the test
            split, is counted if the most similar training image is in the cluster.
        patients: Patients of the class in it, training images only.
        others: Patients of other classes in it.
        p_value: Of Fisher's exact test of cluster and class over the patients of the training images, one-sided, times
            the number of clusters that were tested.
        traits: What they have in common, the measure with the largest difference first.
        names: The images, in the order of the data set.
    """

    class_name: str
    counts: dict[str, dict[str, int]]
    patients: int
    others: int
    p_value: float
    traits: tuple[Trait, ...]
    names: tuple[str, ...]


def find_clusters(
    samples: Sequence[Sample], measures: Mapping[str, npt.NDArray[np.float64]], task: Task
) -> tuple[Cluster, ...]:
    """Find the largest clusters of nearly one class.

    Args:
        samples: The usable images.
        measures: Their measures by name, each of shape (images,).
        task: Their classes.

    Returns:
        The clusters, that of the most images first; no image is in two.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    chosen = _choose(samples)
    labels = np.array([samples[row].label for row in chosen], dtype=np.int64)
    if len(set(labels.tolist())) < 2 or not measures:
        return ()
    people = np.unique([f"{samples[row].patient} {samples[row].kind}" for row in chosen], return_inverse=True)[1]
    values = np.stack(list(measures.values()), axis=1)
    mean, scale = values[chosen].mean(axis=0), values[chosen].std(axis=0)
    standardized = np.clip((values - mean) / np.maximum(scale, 1e-9), -_MOST_DEVIATIONS, _MOST_DEVIATIONS)
    looks = standardized.astype(np.float32)
    pure = list(_pure(_Tree(looks[chosen]), labels, people))
    nearest = _nearest(looks, chosen) if pure else np.empty(0, np.intp)
    clusters = []
    for label, members, own, others, p_value in pure:
        inside = np.isin(nearest, members)
        marked = [sample for sample, is_in in zip(samples, inside, strict=True) if is_in]
        among = np.zeros(len(chosen), np.bool_)
        among[members] = True
        clusters.append(
            Cluster(
                class_name=task.class_names[label],
                counts=describe_counts(marked, task.class_names),
                patients=own,
                others=others,
                p_value=p_value,
                traits=tuple(_traits(list(measures), values[chosen], looks[chosen], among)),
                names=tuple(sample.name for sample in marked),
            )
        )
    return tuple(sorted(clusters, key=lambda cluster: -len(cluster.names)))


def _choose(samples: Sequence[Sample]) -> npt.NDArray[np.intp]:
    """The rows of the training images that are clustered, ordered by a hash."""
    training = [row for row, sample in enumerate(samples) if sample.split != "test"]
    training.sort(key=lambda row: hashlib.sha256(samples[row].name.encode()).digest())
    return np.array(training[:_MOST_IMAGES], dtype=np.intp)


class _Tree:
    """A hierarchy of clusters; the members of each are a slice of ``order``.

    Args:
        looks: Shape (images, measures).
    """

    def __init__(self, looks: _Floats) -> None:
        hierarchy = extras.need("scipy.cluster.hierarchy", "data")
        merges = hierarchy.linkage(looks.astype(np.float64), "ward")
        images = len(looks)
        self.order = np.asarray(hierarchy.leaves_list(merges), dtype=np.intp)
        self.root = images + len(merges) - 1
        self.children = {images + row: (int(merge[0]), int(merge[1])) for row, merge in enumerate(merges)}
        places = np.argsort(self.order)
        self.slices = {leaf: slice(int(place), int(place) + 1) for leaf, place in enumerate(places)}
        for node, (first, second) in self.children.items():
            parts = self.slices[first], self.slices[second]
            self.slices[node] = slice(min(part.start for part in parts), max(part.stop for part in parts))

    def members(self, node: int) -> npt.NDArray[np.intp]:
        """The images of a cluster."""
        return self.order[self.slices[node]]


def _pure(
    tree: _Tree, labels: npt.NDArray[np.int64], people: npt.NDArray[np.intp]
) -> Iterator[tuple[int, npt.NDArray[np.intp], int, int, float]]:
    """The largest clusters of nearly one class.

    Yields:
        The class, the members, patients of the class in it and of others, and the corrected p-value.
    """
    classes = np.unique(labels)
    in_all = [len(np.unique(people[labels == label])) for label in classes]
    tested = sum(part.stop - part.start >= _LEAST_PATIENTS for part in tree.slices.values()) * len(classes)
    waiting = [tree.root]
    while waiting:
        node = waiting.pop()
        members = tree.members(node)
        if len(members) < _LEAST_PATIENTS:
            continue
        inside = [len(np.unique(people[members[labels[members] == label]])) for label in classes]
        best = int(np.argmax(inside))
        own, others = inside[best], sum(inside) - inside[best]
        if own >= _LEAST_PATIENTS and own >= _PURITY * (own + others):
            p_value = tested * chance(own, others, in_all[best] - own, sum(in_all) - in_all[best] - others)
            if p_value <= _P_VALUE:
                yield int(classes[best]), members, own, others, p_value
                continue
        waiting += tree.children.get(node, ())


def _nearest(looks: _Floats, chosen: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """For each image the most similar one of those that were clustered, which of these is itself."""
    known = looks[chosen]
    squares = (known**2).sum(axis=1)
    nearest = np.empty(len(looks), np.intp)
    for start in range(0, len(looks), 1000):
        part = looks[start : start + 1000]
        nearest[start : start + len(part)] = (squares - 2 * part @ known.T).argmin(axis=1)
    nearest[chosen] = np.arange(len(chosen))
    return nearest


def _traits(
    names: Sequence[str], values: npt.NDArray[np.float64], looks: _Floats, inside: npt.NDArray[np.bool_]
) -> Iterator[Trait]:
    shifts = np.median(looks[inside], axis=0) - np.median(looks[~inside], axis=0)
    for column in np.argsort(-np.abs(shifts), kind="stable")[:_MOST_TRAITS]:
        if abs(shifts[column]) >= _LEAST_SHIFT:
            in_and_out = (float(np.median(values[chosen, column])) for chosen in (inside, ~inside))
            yield Trait(names[column], *in_and_out)
