"""Finds burned-in marks: small high-contrast patterns that recur at a place across images of one class only.

A letter, a clock or the name of a machine that stands on the X-rays of one class tells the class without the lungs. The
search is not told where to look. Each image is seen in five frames: as a model sees it, and its four corners at a scale
that all images share, because what a machine writes has the same size and distance from the corner on all of its
films. In each frame, windows of high contrast are compared between images at the same place; a pattern is a group of
windows that correlate. Its template is then searched in all images, a few pixels around that place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from math import comb
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from pneumo_edge._util import cores
from pneumo_edge._util.progress import track
from pneumo_edge.data.reading import read_each
from pneumo_edge.data.samples import Readable, Sample, describe_counts
from pneumo_edge.errors import ImageError
from pneumo_edge.imaging import images

_Floats = npt.NDArray[np.float32]
_HighPass = npt.NDArray[np.int8]
#: Top and left of a window in its frame, and width and height of the image.
_Place = tuple[int, int, tuple[int, int]]
Item = TypeVar("Item")

#: Height and width of the frame of a whole image, and those of a corner.
_SIDE = 224
_CORNER = (56, 88)
#: Names of the frames.
FRAMES = ("image", "upper left corner", "upper right corner", "lower left corner", "lower right corner")
#: Height and width of windows, and the distance between them.
_WINDOW = (12, 18)
_STRIDE = 4
#: Standard deviation of the radius that is taken as background, in pixels of a frame.
_BLUR = 4
#: Least standard deviation of a window, in grey levels, for a pattern to count as one of high contrast.
_CONTRAST = 16.0
#: Least correlation of windows of one pattern, and of a window with a pattern's template.
_ALIKE, _MATCH = 0.75, 0.7
#: A window of another class that correlates this much with a pattern is half of it: anatomy varies by degrees, and a
#: burned-in mark is there or not.
_HALF = 0.5
#: How far from its place a pattern is searched, in pixels of a frame.
_REACH = 6
#: Least patients with a mark, and the least share of them in one class.
_LEAST_PATIENTS, _PURITY = 4, 0.95
#: How near patterns of the same images are parts of one mark, as a share of the image.
_NEAR = 0.15
#: Most patterns that are counted.
_MOST_PATTERNS = 40
#: Most images in which patterns are sought, and windows of a place that are compared.
MOST_IMAGES, _MOST_WINDOWS = 6000, 600
#: The largest p-value of Fisher's exact test of mark and class, over patients of the training images.
_P_VALUE = 0.1


@dataclass(frozen=True)
class Mark:
    """A pattern that stands on images of one class only.

    Attributes:
        class_name: The class.
        frame: The corner that its place is measured from, or ``"image"``.
        left, top, width, height: Its place, as shares of the image's width and height, 0 to 1; the median over the
            images that have it.
        counts: Images with it, by split of the source and class name.
        patients: Patients with it in the training images of its class.
        p_value: Of Fisher's exact test of mark and class over the patients of the training images, one-sided, not
            corrected for the number of places that were searched.
        names: The images that have it, in the order of the data set.
    """

    class_name: str
    frame: str
    left: float
    top: float
    width: float
    height: float
    counts: dict[str, dict[str, int]]
    patients: int
    p_value: float
    names: tuple[str, ...]


@dataclass(frozen=True)
class _Template:
    """A pattern: where it is in its frame, and its pixels, of mean 0 and norm 1, shape (height * width,)."""

    label: int
    frame: int
    top: int
    left: int
    pixels: _Floats


@dataclass(frozen=True)
class View:
    """An image as the search sees it.

    Attributes:
        frames: Without their background, int8, each of shape (height, width) of its frame.
        contrasting: For each frame, whether a window has high contrast, for each place at steps of 4 pixels.
        size: Width and height of the image in pixels.
    """

    frames: tuple[_HighPass, ...]
    contrasting: tuple[npt.NDArray[np.bool_], ...]
    size: tuple[int, int]


class Views:
    """Views of images, in one array for each frame.

    Args:
        most: The most images that are added.
    """

    def __init__(self, most: int) -> None:
        shapes = [(_SIDE, _SIDE), *[_CORNER] * (len(FRAMES) - 1)]
        self.frames = [np.empty((most, *shape), np.int8) for shape in shapes]
        self.contrasting = [
            np.empty((most, *_contrasting(np.zeros(shape, np.int8)).shape), np.bool_) for shape in shapes
        ]
        self.row_of: dict[str, int] = {}
        self.size_of: dict[str, tuple[int, int]] = {}

    def add(self, name: str, view: View) -> None:
        """Add the view of an image, by its name."""
        row = self.row_of[name] = len(self.row_of)
        self.size_of[name] = view.size
        for number in range(len(FRAMES)):
            self.frames[number][row] = view.frames[number]
            self.contrasting[number][row] = view.contrasting[number]

    def frames_of(self, name: str) -> list[_HighPass]:
        """The frames of an image that was added."""
        return [frames[self.row_of[name]] for frames in self.frames]


def scale_for(typical_height: float) -> float:
    """The scale of corners for images of this median height in pixels."""
    return _SIDE / typical_height


def look(grey: Image.Image, scale: float) -> View:
    """Take the view of an image.

    Args:
        grey: The image, decoded by :func:`pneumo_edge.imaging.images.decode`.
        scale: From :func:`scale_for`.
    """
    frames = _frames(grey, scale)
    return View(frames, tuple(map(_contrasting, frames)), grey.size)


def choose(samples: Iterable[Sample]) -> list[Sample]:
    """The samples in which patterns are sought: those outside the test split, at most 6,000.

    They are ordered by a hash, so that the same images are always searched.
    """
    training = [sample for sample in samples if sample.split != "test"]
    training.sort(key=lambda sample: hashlib.sha256(sample.name.encode()).digest())
    return training[:MOST_IMAGES]


def find_marks(
    source: Readable, samples: Sequence[Sample], typical_height: float, views: Views | None = None
) -> tuple[Mark, ...]:
    """Find the patterns that stand on training images of one class only, and count them in all splits.

    Args:
        source: The data set.
        samples: Its usable samples. Patterns are sought in those of :func:`choose`, and counted in all.
        typical_height: Median height of the images in pixels.
        views: Of images that were read before, at the scale for ``typical_height``; those of :func:`choose` must be
            among them. By default every image is read.

    Returns:
        The marks, that of the most images first. A pattern that moves or grows from image to image can be several.
    """
    scale = scale_for(typical_height)
    training = choose(samples)
    if len({sample.label for sample in training}) < 2:
        return ()
    views = _read(source, training, scale) if views is None else views
    templates = _templates(views, [sample for sample in training if sample.name in views.row_of])
    found: list[dict[str, _Place]] = [{} for _ in templates]
    for name, number, place in _search(source, samples, templates, scale, views):
        found[number][name] = place
    candidates = (_mark(source, *each, samples, scale) for each in zip(templates, found, strict=True))
    marks = sorted((mark for mark in candidates if mark), key=lambda mark: -len(mark.names))
    places = [np.array([mark.top, mark.left], np.float32) / _NEAR for mark in marks]
    return tuple(_distinct(marks, [set(mark.names) for mark in marks], places))


def _read(source: Readable, samples: Sequence[Sample], scale: float) -> Views:
    views = Views(len(samples))
    reading = read_each(source, samples, lambda data: look(images.decode(data), scale), "Reading images for marks")
    for sample, result in reading:
        if not isinstance(result, ImageError):
            views.add(sample.name, result)
    return views


def _frames(grey: Image.Image, scale: float) -> tuple[_HighPass, ...]:
    """The frames of an image, without their background."""
    height, width = _CORNER
    scaled = images.resize(grey, max(1, round(grey.height * scale)), max(1, round(grey.width * scale)))
    whole = _high_pass(images.resize(grey, _SIDE, _SIDE))
    passed = whole if scaled.size == (_SIDE, _SIDE) else _high_pass(scaled)
    # Images smaller than a corner are continued by nothing.
    missing = max(0, height - passed.shape[0]), max(0, width - passed.shape[1])
    upper, lower = passed[:height], passed[-height:]
    above, below = (0, missing[0]), (missing[0], 0)
    before, behind = (missing[1], 0), (0, missing[1])
    return (
        whole,
        np.pad(upper[:, :width], (above, behind)),
        np.pad(upper[:, -width:], (above, before)),
        np.pad(lower[:, :width], (below, behind)),
        np.pad(lower[:, -width:], (below, before)),
    )


def _high_pass(grey: Image.Image) -> _HighPass:
    pixels = np.asarray(grey, dtype=np.int16)
    background = np.asarray(grey.filter(ImageFilter.GaussianBlur(_BLUR)), dtype=np.int16)
    return np.clip(pixels - background, -128, 127).astype(np.int8)


def _contrasting(frame: _HighPass) -> npt.NDArray[np.bool_]:
    """Whether a window has high contrast, for each place of a frame at steps of :data:`_STRIDE`."""
    height, width = _WINDOW
    sums = []
    # The sum of the squares of a frame is below 2**31.
    for values in (frame.astype(np.int32), frame.astype(np.int32) ** 2):
        summed = np.pad(values.cumsum(axis=0, dtype=np.int32).cumsum(axis=1, dtype=np.int32), ((1, 0), (1, 0)))
        whole = (
            summed[height:, width:] - summed[:-height, width:] - summed[height:, :-width] + summed[:-height, :-width]
        )
        sums.append(whole[::_STRIDE, ::_STRIDE].astype(np.int64))
    pixels = height * width
    return np.asarray(pixels * sums[1] - sums[0] ** 2 > (_CONTRAST * pixels) ** 2)


def _templates(views: Views, used: Sequence[Sample]) -> list[_Template]:
    """The patterns of one class at one place, the most frequent first, without those that occur with another."""
    rows = np.array([views.row_of[sample.name] for sample in used], dtype=np.intp)
    labels = np.array([sample.label for sample in used], dtype=np.int64)
    patients = np.unique([f"{sample.patient} {sample.kind}" for sample in used], return_inverse=True)[1]
    contrasting = [of_frame[rows] for of_frame in views.contrasting]
    places = [(frame, *place) for frame in range(len(FRAMES)) for place in np.ndindex(contrasting[frame].shape[1:])]
    candidates = []
    for frame, row, column in track(places, "Searching burned-in marks"):
        of_place = np.flatnonzero(contrasting[frame][:, row, column])
        if len(of_place) < _LEAST_PATIENTS:
            continue
        top, left = row * _STRIDE, column * _STRIDE
        windows = _windows(views.frames[frame], rows[of_place], top, left)
        for label, pixels, hits, rank in _recurring(windows, labels[of_place], patients[of_place]):
            members = {used[of_place[hit]].name for hit in hits}
            candidates.append((rank, _Template(label, frame, top, left, pixels), members))
    candidates.sort(key=lambda each: -each[0])
    templates, names = [template for _, template, _ in candidates], [members for _, _, members in candidates]
    # Places of different frames are far apart.
    apart = [np.array([each.top, each.left, each.frame * _SIDE], np.float32) / (_NEAR * _SIDE) for each in templates]
    return list(islice(_distinct(templates, names, apart), _MOST_PATTERNS))


def _windows(frames: _HighPass, chosen: npt.NDArray[np.intp], top: int, left: int) -> _Floats:
    """The windows of chosen images at a place, shape (images, height * width)."""
    height, width = _WINDOW
    return frames[chosen, top : top + height, left : left + width].reshape(len(chosen), -1).astype(np.float32)


def _recurring(
    windows: _Floats, labels: npt.NDArray[np.int64], patients: npt.NDArray[np.intp]
) -> Iterator[tuple[int, _Floats, npt.NDArray[np.intp], float]]:
    """For each class, the pattern of most images of it alone.

    Yields:
        Its class, its pixels, the images that have it, and how far their windows are above the least correlation, in
        all.
    """
    standardized = _standardize(windows)
    compared = standardized[:_MOST_WINDOWS]
    compared_labels = labels[:_MOST_WINDOWS]
    pairs = compared @ compared.T > _ALIKE
    for label in np.unique(compared_labels):
        of_class = compared_labels == label
        same, all_alike = pairs[:, of_class].sum(axis=1), pairs.sum(axis=1)
        likely = np.where(of_class & (same >= _PURITY * all_alike), same, 0)
        seed = int(likely.argmax())
        if likely[seed] < _LEAST_PATIENTS:
            continue
        pixels = _standardize(compared[pairs[seed]].sum(axis=0, keepdims=True))[0]
        matches = standardized @ pixels
        own = np.flatnonzero((matches > _MATCH) & (labels == label))
        others = int(((matches > _HALF) & (labels != label)).sum())
        if len(np.unique(patients[own])) >= _LEAST_PATIENTS and len(own) >= _PURITY * (len(own) + others):
            yield int(label), pixels, own, float((matches[own] - _MATCH).sum())


def _standardize(windows: _Floats) -> _Floats:
    """Windows of mean 0 and norm 1, shape (images, pixels); an even window is 0."""
    centred = windows - windows.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(norms, 1e-6), dtype=np.float32)


def _search(
    source: Readable, samples: Sequence[Sample], templates: Sequence[_Template], scale: float, views: Views
) -> Iterator[tuple[str, int, _Place]]:
    """For each pattern on each image: the image's name, the template's number, and the place."""

    def find(frames: Sequence[_HighPass], size: tuple[int, int]) -> list[tuple[int, _Place]]:
        places = [_find(frames[template.frame], template) for template in templates]
        return [(number, (*place, size)) for number, place in enumerate(places) if place]

    def look_again(data: bytes) -> list[tuple[int, _Place]]:
        grey = images.decode(data)
        return find(_frames(grey, scale), grey.size)

    if not templates:
        return
    seen = [sample.name for sample in samples if sample.name in views.row_of]
    with ThreadPoolExecutor(cores.available()) as pool:
        try:
            results = pool.map(lambda name: find(views.frames_of(name), views.size_of[name]), seen)
            for name, found in zip(track(seen, "Counting burned-in marks"), results, strict=True):
                for number, place in found:
                    yield name, number, place
        finally:
            # Without this, an interrupt would wait until every image is searched.
            pool.shutdown(cancel_futures=True)
    others = [sample for sample in samples if sample.name not in views.row_of]
    for sample, result in read_each(source, others, look_again, "Counting burned-in marks"):
        for number, place in [] if isinstance(result, ImageError) else result:
            yield sample.name, number, place


def _find(frame: _HighPass, template: _Template) -> tuple[int, int] | None:
    """Top and left of the window nearest to a template, if it matches."""
    height, width = _WINDOW
    top, left = max(0, template.top - _REACH), max(0, template.left - _REACH)
    around = frame[top : template.top + height + _REACH, left : template.left + width + _REACH].astype(np.float32)
    # A window of high contrast has this share of the pixels, so the whole has at least this deviation.
    if around.std() < _CONTRAST * np.sqrt(height * width / around.size):
        return None
    windows = np.lib.stride_tricks.sliding_window_view(around, _WINDOW)
    flat = windows.reshape(-1, height * width)
    # The template has mean 0, so the windows need none; norm = standard deviation * sqrt(pixels).
    deviations = flat.std(axis=1)
    matches = (flat @ template.pixels) / (np.maximum(deviations, _CONTRAST) * np.sqrt(height * width))
    matches[deviations < _CONTRAST] = 0
    best = int(matches.argmax())
    row, column = divmod(best, windows.shape[1])
    return (top + row, left + column) if matches[best] > _MATCH else None


def _distinct(items: Iterable[Item], members: Iterable[set[str]], places: Iterable[_Floats]) -> Iterator[Item]:
    """Those items without those that are near one before and have most of their members in common with it."""
    before: list[tuple[set[str], _Floats]] = []
    for item, own, place in zip(items, members, places, strict=True):
        if not any(np.abs(place - other).max() < 1 and 2 * len(own & of) > len(own) for of, other in before):
            yield item
        before.append((own, place))


def _mark(
    source: Readable, template: _Template, found: Mapping[str, _Place], samples: Sequence[Sample], scale: float
) -> Mark | None:
    """The mark of a template, if it stands on enough patients of one class alone.

    Args:
        source: The data set.
        template: The pattern.
        found: The images that have it, and where.
        samples: The samples that were searched.
        scale: Of the frames of corners.
    """
    marked = [sample for sample in samples if sample.name in found]
    training = [sample for sample in samples if sample.split != "test"]

    def people(of_class: bool, with_mark: bool) -> int:
        return len(
            {
                (sample.patient, sample.kind)
                for sample in training
                if (sample.label == template.label) == of_class and (sample.name in found) == with_mark
            }
        )

    own, others = people(True, True), people(False, True)
    if own < _LEAST_PATIENTS or own < _PURITY * (own + others):
        return None
    p_value = chance(own, others, people(True, False), people(False, False))
    if p_value > _P_VALUE:
        return None
    places = np.array([_in_image(template.frame, *found[sample.name], scale) for sample in marked])
    left, top, width, height = (float(value) for value in np.median(places, axis=0))
    return Mark(
        class_name=source.task.class_names[template.label],
        frame=FRAMES[template.frame],
        left=left,
        top=top,
        width=width,
        height=height,
        counts=describe_counts(marked, source.task.class_names),
        patients=own,
        p_value=p_value,
        names=tuple(sample.name for sample in marked),
    )


def chance(own: int, others: int, own_without: int, others_without: int) -> float:
    """One-sided p-value of Fisher's exact test.

    It is the probability of at least ``own`` marks in the class if they were dealt by chance (hypergeometric).

    Args:
        own: Patients of the class with the mark.
        others: Patients of other classes with it.
        own_without: Patients of the class without it.
        others_without: Patients of other classes without it.
    """
    of_class, elsewhere, marked = own + own_without, others + others_without, own + others
    ways = sum(comb(of_class, k) * comb(elsewhere, marked - k) for k in range(own, min(of_class, marked) + 1))
    return ways / comb(of_class + elsewhere, marked)


def _in_image(frame: int, top: int, left: int, size: tuple[int, int], scale: float) -> tuple[float, ...]:
    """Left, top, width and height of a window as shares of an image of ``size`` (width, height) in pixels."""
    if frame == 0:
        across, down = 1 / _SIDE, 1 / _SIDE
    else:
        across, down = 1 / (size[0] * scale), 1 / (size[1] * scale)
    height, width = _WINDOW
    shares = left * across, top * down, width * across, height * down
    if frame in (2, 4):
        shares = (1 - (_CORNER[1] - left) * across, *shares[1:])
    if frame in (3, 4):
        shares = (shares[0], 1 - (_CORNER[0] - top) * down, *shares[2:])
    return shares
