"""The reference set: the answers of the trained network on the validation images, which files are compared with.

It is written beside the files as ``BACKBONE-reference.npz``, so a file can be verified again on any machine: with the
data, or without it on the images inside the reference set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pneumo_edge._util import files
from pneumo_edge.data.tensors import Dataset
from pneumo_edge.errors import ConversionError
from pneumo_edge.evaluation.metrics import Labels, Scores
from pneumo_edge.evaluation.operating_point import ThresholdRule
from pneumo_edge.imaging import images

#: Images that travel: the fewest of which one may be decided otherwise at an agreement of 0.98 is 50.
TRAVELLING = 64
#: How many images in colour there are: those whose answer changes most when red and blue are exchanged.
IN_COLOUR = 16
_OF_EACH_IMAGE = ("sha256", "labels", "patients", "scores")
_IN_COLOUR = ("red", "red_scores", "blue_scores")
#: What the names of other outputs begin with in the file.
_OUTPUT = "output:"


@dataclass(frozen=True)
class Reference:
    """Validation images and the answers of the Keras model.

    Attributes:
        checkpoint: SHA-256 of the Keras file.
        fingerprint: Fingerprint of the split manifest.
        sha256: Of each image's file, shape (images,).
        pixels: uint8 of shape (images, height, width, 3); of these, or of fewer where only a part travels.
        labels: 1 for the positive class, else 0, shape (images,); without a positive class the place of each image's.
        patients: A number for each image, the same for images of one patient.
        scores: Probability of the positive class, shape (images,); without one of every class, (images, classes).
        threshold: The decision threshold of the Keras model; None without a positive class.
        rule: The rule of the threshold, a :class:`ThresholdRule`.
        red: Some of the images with only their red channel, uint8 of shape (red, height, width, 3). Chest X-rays are
            grey and would not reveal exchanged channels. Empty where the Keras model was not run on them.
        red_scores: The scores of these.
        blue_scores: The same with red and blue exchanged.
        outputs: Other outputs of the model by name, float32 of shape (images, ...).
        whole: Number of images of the validation split, where these are some of them; 0 where these are all.
        asked_for: Names of the outputs that the model was asked for, including those that it lacks; and
            :func:`pneumo_edge.converters.features.key` of its components.
    """

    checkpoint: str
    fingerprint: str
    sha256: npt.NDArray[np.str_]
    pixels: npt.NDArray[np.uint8]
    labels: Labels
    patients: npt.NDArray[np.intp]
    scores: Scores
    threshold: float | None
    rule: ThresholdRule
    red: npt.NDArray[np.uint8]
    red_scores: Scores
    blue_scores: Scores
    outputs: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    asked_for: tuple[str, ...] = ()
    whole: int = 0

    @property
    def of(self) -> int:
        """Number of images of the validation split."""
        return self.whole or len(self.labels)

    @property
    def travelling(self) -> npt.NDArray[np.bool_]:
        """Which images travel inside the file: :data:`TRAVELLING`, and copies of these."""
        if len(self.labels) < self.of:
            raise ValueError("of a part it is not known which of them travel")
        return np.isin(self.sha256, self.subset(TRAVELLING).sha256)

    def subset(self, count: int) -> Reference:
        """At most ``count`` images, evenly spread, which preserves the class shares."""
        return self if count >= len(self.labels) else self.at(_spread(self.labels, count))

    def with_travelling(self, count: int) -> npt.NDArray[np.intp]:
        """Positions of at most ``count`` images: all that travel, and others evenly spread."""
        everything = np.arange(len(self.labels))
        if count >= len(everything) or len(everything) < self.of:
            return everything[:count]
        travelling = self.travelling
        others = everything[~travelling]
        more = others[_spread(self.labels[others], max(0, count - int(travelling.sum())))]
        return np.sort(np.concatenate([everything[travelling], more]))

    def at(self, kept: npt.NDArray[np.intp]) -> Reference:
        """Some of the images, by their positions."""
        return replace(self._at(kept), pixels=self.pixels[kept])

    def _at(self, kept: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Reference:
        """Some of the images, without their pixels."""
        outputs = {name: array[kept] for name, array in self.outputs.items()}
        return replace(
            self, outputs=outputs, whole=self.of, **{name: getattr(self, name)[kept] for name in _OF_EACH_IMAGE}
        )


def _spread(labels: Labels, count: int) -> npt.NDArray[np.intp]:
    """Positions of ``count`` images, evenly spread over the classes."""
    order = np.argsort(labels, kind="stable")
    return np.asarray(order[np.linspace(0, len(order) - 1, count).astype(int)])


def red_alone(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Images of uint8 shape (images, height, width, 3) with their green and blue channels at 0."""
    return pixels * np.array([1, 0, 0], dtype=np.uint8)


def file_name(backbone: str) -> str:
    """Name of the file beside the models of a backbone."""
    return f"{backbone}-reference.npz"


def save(reference: Reference, path: Path, encoded: Mapping[str, bytes] | None = None) -> None:
    """Write a reference.

    Args:
        reference: The reference; most of its pixels are not written.
        path: The file to write.
        encoded: Image files of the model's size, by their SHA-256: these images travel, as the bytes given. By default
            :data:`TRAVELLING` images do, as the pixels of one channel.
    """
    if encoded is None:
        travelling = reference.travelling
        pixels = {"grey": reference.pixels[travelling, ..., 0]}
    else:
        travelling = np.isin(reference.sha256, list(encoded))
        contents = [encoded[digest] for digest in reference.sha256[travelling].tolist()]
        pixels = {"encoded": np.frombuffer(b"".join(contents), np.uint8), "sizes": np.array(list(map(len, contents)))}
    with files.atomic(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            checkpoint=np.array(reference.checkpoint),
            fingerprint=np.array(reference.fingerprint),
            sha256=reference.sha256,
            labels=reference.labels,
            patients=reference.patients,
            scores=reference.scores,
            threshold=np.array(np.nan if reference.threshold is None else reference.threshold),
            rule=np.array(str(reference.rule)),
            **{name: getattr(reference, name) for name in _IN_COLOUR},
            **{f"{_OUTPUT}{name}": array for name, array in reference.outputs.items()},
            asked_for=np.array(reference.asked_for, np.str_),
            travelling=travelling,
            **pixels,
        )


def load(path: Path, dataset: Dataset | None = None) -> Reference:
    """Read a reference.

    Args:
        path: From :func:`save`.
        dataset: The data it was made with, which has the pixels of all its images; without it the reference
            has only the images that travel inside the file.

    Raises:
        ConversionError: There is no reference, it cannot be read, or the data is different.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            stored = {name: archive[name] for name in archive.files}
        rule = ThresholdRule(str(stored["rule"]))
        everything = Reference(
            checkpoint=str(stored["checkpoint"]),
            fingerprint=str(stored["fingerprint"]),
            threshold=None if rule is ThresholdRule.ARGMAX else float(stored["threshold"]),
            rule=rule,
            pixels=images.grey_to_rgb(stored["grey"] if "grey" in stored else _decode(stored)),
            outputs={name.removeprefix(_OUTPUT): array for name, array in stored.items() if name.startswith(_OUTPUT)},
            asked_for=tuple(stored.get("asked_for", np.array(())).tolist()),
            **{name: stored[name] for name in (*_OF_EACH_IMAGE, *_IN_COLOUR)},
        )
        travelling = stored["travelling"]
    except FileNotFoundError as error:
        raise ConversionError(
            f"there is no reference {path}",
            "the reference set that `pneumo-edge export` or `adopt` puts beside its files",
            "Copy it from where the model file comes from",
        ) from error
    except Exception as error:  # numpy and zipfile have no common base class for a broken file
        raise ConversionError(
            f"the reference {path} cannot be read ({error})", "a file of `pneumo-edge export`", "Copy it again"
        ) from error
    if dataset is not None:
        return _with_pixels_of(everything, dataset)
    return everything._at(travelling)


def _decode(stored: Mapping[str, npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    contents = np.split(stored["encoded"], np.cumsum(stored["sizes"])[:-1])
    return np.stack([np.asarray(images.decode(content.tobytes()), dtype=np.uint8) for content in contents])


def _with_pixels_of(reference: Reference, dataset: Dataset) -> Reference:
    position = {entry.sha256: index for index, entry in enumerate(dataset.manifest.entries)}
    missing = sum(digest not in position for digest in reference.sha256.tolist())
    if missing:
        raise ConversionError(
            f"the data lacks {missing} of the {len(reference.sha256)} images of the reference",
            "the data that the model was trained on",
            "Give that data (data / --data), or omit it to verify on the images beside the model file",
        )
    indices = np.array([position[digest] for digest in reference.sha256.tolist()], dtype=np.intp)
    return replace(reference, pixels=dataset.rgb(indices))
