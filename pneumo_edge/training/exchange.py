"""Exchanges what is not medical between X-rays: burned-in marks, borders, tone and sharpness.

In a data set whose classes come from different machines, such things tell the class without the lungs. An image that
gets them from a donor of the other class keeps its label.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from pneumo_edge._util import extras, files, records
from pneumo_edge._util.cache import use, writing
from pneumo_edge.data.marks import Mark, find_marks
from pneumo_edge.data.samples import Sample
from pneumo_edge.data.tensors import Dataset, GreyImages
from pneumo_edge.task import Task

Grey = npt.NDArray[np.uint8]

#: Part of the cache's key: raise it when other marks are found on the same images.
_MARKS_VERSION = "1"
#: Pixels of a 224-pixel side around a mark that belong to it, because its place varies from film to film; how far from
#: the window that was found the rest of a mark is searched; and how far apart its letters are at most.
_MARGIN, _AROUND, _GAP = 4, 24, 7
#: How much more detail marked images have where the mark is, in grey levels.
_DETAIL = 10.0
#: Images from which the extent of a mark is taken, marked and others.
_MOST_COMPARED = 100
#: Pixels of a 224-pixel side over which a border and a mark fade out.
_FADE, _FADE_OF_MARK = 12, 2
#: Levels of the Laplacian pyramid whose contrast is exchanged.
_LEVELS = 4
#: Largest change of the contrast of a level.
_MOST_GAIN = 4.0


@dataclass(frozen=True)
class Exchange:
    """How much is exchanged between training images; the donor is of each class with the same probability.

    Attributes:
        probability: Of each kind of exchange, for each image.
        border: Largest width of the ring that is taken from the donor, share of the image's side.
        tone: Largest weight of the donor's grey values in the image's histogram, 0 to 1.
        sharpness: Largest weight of the donor's contrast at each scale, 0 to 1.
        marks: Whether burned-in marks are erased and pasted.

    Weights are drawn between one half and all of the largest. Donors of the image's own class are needed, too: without
    them, an image that shows traces of an exchange would have the look of the other class, which tells its own.
    """

    probability: float
    border: float = 0.0
    tone: float = 0.0
    sharpness: float = 0.0
    marks: bool = False


@dataclass(frozen=True)
class Place:
    """Where a mark stands: its class, its rows and columns in pixels, and the images that have it.

    ``images`` are indices into the data set, ``donors`` those among them that are training images.
    """

    label: int
    rows: tuple[int, int]
    columns: tuple[int, int]
    images: frozenset[int]
    donors: tuple[int, ...]


@dataclass(frozen=True)
class Donors:
    """Training images to exchange with.

    Attributes:
        grey: Pixels of the data set.
        by_class: Indices of its training images, for each class that has any.
        places: Its burned-in marks.
    """

    grey: GreyImages
    by_class: dict[int, npt.NDArray[np.intp]]
    places: tuple[Place, ...]

    @staticmethod
    def of(dataset: Dataset, cache: Path) -> Donors:
        """Collect the training images of a data set, and find the marks on its training and validation images.

        Args:
            dataset: The data set.
            cache: Folder for the marks that are found; the same data set is searched once.

        Raises:
            DataError: The cache cannot be written.
        """
        indices = dataset.indices("train")
        labels = dataset.labels(indices)
        row_of = {entry.name: row for row, entry in enumerate(dataset.manifest.entries)}
        training = set(indices.tolist())
        names = dataset.manifest.task.class_names
        places = []
        for mark in _marks(dataset, cache):
            found = frozenset(row_of[name] for name in mark.names)
            if donors := tuple(sorted(found & training)):
                others = np.array(sorted(training - found), dtype=np.intp)
                rows, columns = _extent(mark, dataset.grey, np.array(donors, dtype=np.intp), others)
                places.append(Place(names.index(mark.class_name), rows, columns, found, donors))
        by_class = {int(label): indices[labels == label] for label in np.unique(labels)}
        return Donors(dataset.grey, by_class, tuple(places))


@dataclass(frozen=True)
class _Found:
    """The marks of a data set, as the cache has them."""

    marks: tuple[Mark, ...]


class _Decoded:
    """Training and validation images of a data set as files, for the search of marks."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._rows = {
            Sample(entry.name, entry.split, entry.label, entry.patient, entry.kind): row
            for row, entry in enumerate(dataset.manifest.entries)
            if entry.split != "test"
        }

    @property
    def task(self) -> Task:
        return self._dataset.manifest.task

    @property
    def samples(self) -> list[Sample]:
        return list(self._rows)

    def read(self, sample: Sample) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(self._dataset.grey[self._rows[sample]]).save(stream, "PNG", compress_level=1)
        return stream.getvalue()


def _marks(dataset: Dataset, cache: Path) -> tuple[Mark, ...]:
    source = _Decoded(dataset)
    samples = source.samples
    height, width = dataset.grey.shape[1:]
    lines = [f"marks {_MARKS_VERSION} {dataset.manifest.fingerprint} {height}x{width}"]
    lines += [f"{sample.name} {sample.split} {sample.label}" for sample in samples]
    path = cache / f"{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()[:16]}.json"
    if not path.exists():
        found = _Found(find_marks(source, samples, height) if samples else ())
        with writing(cache):
            files.write_text(path, records.dumps(found))
    use((path,))
    return records.loads(_Found, path.read_bytes()).marks


def _extent(
    mark: Mark, grey: GreyImages, marked: npt.NDArray[np.intp], others: npt.NDArray[np.intp]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns of a whole mark: what was found is a window on a part of it.

    Args:
        mark: What was found.
        grey: Pixels of the data set.
        marked: Training images that have it.
        others: Training images that do not.
    """
    cv2 = extras.need("cv2", "train")
    height, width = grey.shape[1:]
    scale = min(height, width) / 224
    top, bottom = _span(mark.top, mark.height, height, _MARGIN * scale)
    left, right = _span(mark.left, mark.width, width, _MARGIN * scale)

    def detail(rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        chosen = rows[:: max(1, len(rows) // _MOST_COMPARED)]
        images = (grey[row].astype(np.float32) for row in chosen)
        total = sum(np.abs(image - cv2.GaussianBlur(image, (0, 0), 4 * scale)) for image in images)
        return np.asarray(total / len(chosen), dtype=np.float32)

    if not len(others):
        return (top, bottom), (left, right)
    more = (detail(marked) - detail(others) > _DETAIL).astype(np.uint8)
    around = round(_AROUND * scale)
    near = np.zeros_like(more)
    near[max(0, top - around) : bottom + around, max(0, left - around) : right + around] = 1
    gap = np.ones((max(1, round(_GAP * scale)),) * 2, np.uint8)
    _, parts = cv2.connectedComponents(cv2.morphologyEx(more & near, cv2.MORPH_CLOSE, gap))
    own = np.isin(parts, np.setdiff1d(np.unique(parts[top:bottom, left:right]), [0]))
    spans = []
    for axis, (first, last), side in ((1, (top, bottom), height), (0, (left, right), width)):
        # The margin was added to the window; the rest of the mark gets half of it.
        at = np.flatnonzero(own.any(axis=axis))
        margin = round(_MARGIN / 2 * scale)
        ends = (max(0, int(at[0]) - margin), min(side, int(at[-1]) + 1 + margin)) if len(at) else (first, last)
        spans.append((min(first, ends[0]), max(last, ends[1])))
    return spans[0], spans[1]


def _span(start: float, length: float, side: int, margin: float) -> tuple[int, int]:
    """First and last pixel (exclusive) of a part of a side, with a margin."""
    return max(0, round(start * side - margin)), min(side, round((start + length) * side + margin))


def exchange(
    pixels: Grey, indices: npt.NDArray[np.intp], donors: Donors, settings: Exchange, rng: np.random.Generator
) -> Grey:
    """Exchange with donors at random.

    Args:
        pixels: uint8 array of shape (images, side, side), values 0 to 255.
        indices: Indices of these images into the data set, shape (images,).
        donors: The images to exchange with.
        settings: How much is exchanged.
        rng: Random generator.

    Returns:
        A new array of the same shape.
    """
    changed = [
        _exchange_one(image, int(index), donors, settings, rng) for image, index in zip(pixels, indices, strict=True)
    ]
    return np.stack(changed)


def _exchange_one(image: Grey, index: int, donors: Donors, settings: Exchange, rng: np.random.Generator) -> Grey:
    # Every number is drawn for every image, used or not, so that one setting does not change the draws of the others.
    of_class = donors.by_class[list(donors.by_class)[rng.integers(len(donors.by_class))]]
    donor = donors.grey[of_class[rng.integers(len(of_class))]]
    chance, weights, widths = rng.uniform(0, 1, 5) < settings.probability, rng.uniform(0.5, 1, 2), rng.uniform(0, 1, 4)
    of_mark = rng.uniform(0, 1, 3)
    if settings.tone and chance[0]:
        image = match_tone(image, donor, weights[0] * settings.tone)
    if settings.sharpness and chance[1]:
        image = match_sharpness(image, donor, weights[1] * settings.sharpness)
    if settings.border and chance[2]:
        image = take_border(image, donor, widths * settings.border)
    if settings.marks and donors.places and chance[3]:
        place = donors.places[int(of_mark[0] * len(donors.places))]
        # A place without a mark is erased, too: both classes get what erasing leaves behind.
        image = erase(image, [each for each in donors.places if index in each.images] or [place])
        if of_mark[1] < 0.5:
            image = paste(image, donors.grey[place.donors[int(of_mark[2] * len(place.donors))]], place)
    return image


def match_tone(image: Grey, donor: Grey, weight: float = 1.0) -> Grey:
    """Give an image the histogram of another.

    Args:
        image: uint8 array of shape (height, width).
        donor: The other image, likewise.
        weight: 0 for none of its histogram, 1 for all.
    """
    own, other = (np.bincount(each.ravel(), minlength=256).cumsum() / each.size for each in (image, donor))
    # The middle of each step: the ends of a histogram that holds much black stay where they are.
    own, other = (each - np.diff(each, prepend=0) / 2 for each in (own, other))
    table = np.arange(256) * (1 - weight) + np.interp(own, other, np.arange(256)) * weight
    return np.asarray(np.rint(table), dtype=np.uint8)[image]


def match_sharpness(image: Grey, donor: Grey, weight: float = 1.0) -> Grey:
    """Give an image the contrast of another at four scales, from one pixel to eight: it is softened or sharpened.

    Args:
        image: uint8 array of shape (height, width).
        donor: The other image, likewise.
        weight: 0 for none of its contrast, 1 for all.
    """
    cv2 = extras.need("cv2", "train")
    own, rest = _pyramid(image)
    other, _ = _pyramid(donor)
    for band, of_donor in zip(reversed(own), reversed(other), strict=True):
        # Mean absolute values: letters and edges of the film would rule a standard deviation.
        ratio = max(float(np.abs(of_donor).mean()), 1e-2) / max(float(np.abs(band).mean()), 1e-2)
        gain = np.float32(np.clip(ratio, 1 / _MOST_GAIN, _MOST_GAIN) ** weight)
        rest = cv2.pyrUp(rest, dstsize=band.shape[::-1]) + gain * band
    return np.asarray(np.rint(np.clip(rest, 0, 255)), dtype=np.uint8)


def _pyramid(image: Grey) -> tuple[list[npt.NDArray[np.float32]], npt.NDArray[np.float32]]:
    """The levels of a Laplacian pyramid, the finest first, and what remains."""
    cv2 = extras.need("cv2", "train")
    rest = image.astype(np.float32)
    bands = []
    for _ in range(_LEVELS):
        smaller = cv2.pyrDown(rest)
        bands.append(rest - cv2.pyrUp(smaller, dstsize=rest.shape[::-1]))
        rest = smaller
    return bands, rest


def take_border(image: Grey, donor: Grey, widths: Sequence[float] | npt.NDArray[np.float64]) -> Grey:
    """Put the outer ring of another image around an image.

    Args:
        image: uint8 array of shape (height, width).
        donor: The other image, likewise.
        widths: Of the ring at the top, bottom, left and right, shares of the side.
    """
    height, width = image.shape
    inside = np.minimum(
        _inside(height, widths[0], widths[1])[:, np.newaxis], _inside(width, widths[2], widths[3])[np.newaxis]
    )
    return _blend(image, donor, inside)


def _inside(side: int, before: float, behind: float) -> npt.NDArray[np.float32]:
    """The weight of the image at each pixel of a side: 0 in the ring, 1 inside it, rising between them."""
    at, fade = np.arange(side) + 0.5, _FADE * side / 224
    weight = np.ones(side)
    for distance, width in ((at, before), (side - at, behind)):
        if width > 0:
            weight = np.minimum(weight, np.clip((distance - width * side) / fade + 0.5, 0, 1))
    return weight.astype(np.float32)


def _blend(image: Grey, donor: Grey, weight: npt.NDArray[np.float32]) -> Grey:
    mixed = donor + weight * (image.astype(np.float32) - donor)
    return np.asarray(np.rint(mixed), dtype=np.uint8)


def erase(image: Grey, places: Sequence[Place]) -> Grey:
    """Fill the places of marks from what is around them.

    Args:
        image: uint8 array of shape (height, width).
        places: The marks.
    """
    cv2 = extras.need("cv2", "train")
    changed = image.copy()
    around = max(1, round(8 * image.shape[0] / 224))
    for place in places:
        (top, bottom), (left, right) = place.rows, place.columns
        rows, columns = slice(max(0, top - around), bottom + around), slice(max(0, left - around), right + around)
        mask = np.zeros(image.shape, np.uint8)
        mask[top:bottom, left:right] = 1
        changed[rows, columns] = cv2.inpaint(
            np.ascontiguousarray(changed[rows, columns]),
            np.ascontiguousarray(mask[rows, columns]),
            3,
            cv2.INPAINT_TELEA,
        )
    return changed


def paste(image: Grey, donor: Grey, place: Place) -> Grey:
    """Put the mark of another image on an image, at its place.

    Args:
        image: uint8 array of shape (height, width).
        donor: An image with the mark, likewise.
        place: The mark.
    """
    changed = image.copy()
    (top, bottom), (left, right) = place.rows, place.columns
    height, width = bottom - top, right - left
    # Weights of the donor fade out at the sides of the patch, except where that is the side of the image.
    fade = max(1.0, _FADE_OF_MARK * image.shape[0] / 224)
    down, across = (
        np.clip(np.minimum(*_distances(first, last, side)) / fade, 0, 1)
        for first, last, side in ((top, bottom, image.shape[0]), (left, right, image.shape[1]))
    )
    weight = np.minimum(down[:, np.newaxis], across[np.newaxis]).astype(np.float32)
    patch = (slice(top, bottom), slice(left, right))
    assert weight.shape == (height, width)
    changed[patch] = _blend(donor[patch], image[patch], weight)
    return changed


def _distances(first: int, last: int, side: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Distance of each pixel of a patch from its two ends; infinite from an end that is the image's."""
    at = np.arange(last - first) + 0.5
    before = np.full(len(at), np.inf) if first == 0 else at
    behind = np.full(len(at), np.inf) if last == side else len(at) - at
    return before, behind
