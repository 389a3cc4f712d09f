"""The test images of a data set of any kind as one folder, to measure on another machine with the same names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath

from pneumo_edge._util import records
from pneumo_edge._util.records import Count
from pneumo_edge.data.reading import read_each
from pneumo_edge.data.samples import Sample, Source
from pneumo_edge.data.splits import AS_GIVEN
from pneumo_edge.errors import DataError, ImageError
from pneumo_edge.imaging import images
from pneumo_edge.task import Task

#: The file that makes a folder such a data set.
NAME = "pneumo-edge-data.json"


@dataclass(frozen=True)
class _Image:
    """A sample, and its file in the folder; or, where it could not be read, the three parts of the error."""

    name: str
    label: Count
    patient: str
    kind: str
    original: str
    file: str
    problem: tuple[str, str, str] | None = None


@dataclass(frozen=True)
class _Record:
    title: str
    real: bool
    licence: str
    has_patients: bool
    class_names: tuple[str, ...]
    positive_class: str | None
    patient_pattern: str
    options: dict[str, str]
    images: tuple[_Image, ...]


class CarriedSource:
    """The test images of another data set, as :func:`carry` describes them.

    Args:
        root: The folder.

    Raises:
        DataError: Its record cannot be read.
    """

    own_validation, has_files, rule = True, True, AS_GIVEN

    def __init__(self, root: Path) -> None:
        path = root / NAME
        try:
            record = records.loads(_Record, path.read_bytes())
            self.task = Task.of(record.class_names, record.positive_class)
            labels = {image.label for image in record.images}
            if not labels <= set(range(len(record.class_names))):
                raise ValueError("an image has the label of no class")
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path} cannot be read ({error})", "a data set as `benchmark --device` copies it", "Copy it again"
            ) from error
        self._root = root
        self.title, self.real, self.licence = record.title, record.real, record.licence
        self.has_patients, self.patient_pattern = record.has_patients, record.patient_pattern
        self.options, self.paths = record.options, dict[str, str]()
        self.passed_over: dict[str, str] = {}
        self.remarks: tuple[str, ...] = ()
        self._images = {image.name: image for image in record.images}
        self.samples: tuple[Sample, ...] = tuple(
            Sample(image.name, "test", image.label, image.patient, image.kind, image.original)
            for image in record.images
        )

    def read(self, sample: Sample) -> bytes:
        """Return the file's bytes; raises ImageError as the other data set did."""
        image = self._images[sample.name]
        if image.problem:
            raise ImageError(*image.problem)
        return images.read(self._root / image.file)


def carry(source: Source, chosen: Sequence[Sample]) -> tuple[bytes, dict[str, tuple[Sample, str, int]]]:
    """Describe test images for :class:`CarriedSource`.

    Args:
        source: The data set.
        chosen: Its test images.

    Returns:
        The content of the file :data:`NAME`; and by the path of each file in the folder the sample, its SHA-256 and its
        bytes.
    """
    found: dict[str, tuple[Sample, str, int]] = {}
    described = []
    for sample, read in read_each(source, chosen, _identify, "Reading images"):
        file, problem = "", None
        if isinstance(read, ImageError):
            problem = (read.given, read.expected, read.remedy)
        else:
            digest, size = read
            file = f"images/{digest}{PurePosixPath(sample.name).suffix}"
            found[file] = sample, digest, size
        described.append(_Image(sample.name, sample.label, sample.patient, sample.kind, sample.original, file, problem))
    record = _Record(
        title=source.title,
        real=source.real,
        licence=source.licence,
        has_patients=source.has_patients,
        class_names=source.task.class_names,
        positive_class=source.task.positive_class,
        patient_pattern=source.patient_pattern,
        options=source.options,
        images=tuple(described),
    )
    return records.dumps(record, indent=None).encode(), found


def _identify(content: bytes) -> tuple[str, int]:
    return sha256(content).hexdigest(), len(content)
