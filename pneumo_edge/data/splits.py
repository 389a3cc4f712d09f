"""Assigns images to splits: validation is drawn from train by patient, and is the same on every machine."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pneumo_edge._util import files, records
from pneumo_edge._util.records import Count
from pneumo_edge.data.datasource import parse_shares
from pneumo_edge.data.layout import SplitName
from pneumo_edge.data.likeness import Bits, find_alike
from pneumo_edge.data.samples import Sample, Source, describe_counts
from pneumo_edge.errors import DataError, printable
from pneumo_edge.task import PNEUMONIA, Task

VALIDATION_SHARE = 0.1
#: Part of every hash. Another rule gives another split and another fingerprint.
RULE_VERSION = "pneumo-edge-validation-1"
#: A model file names this many images of its training, by so many digits of their SHA-256.
NAMED_IMAGES, DIGITS = 256, 12

BY_PATIENT = (
    f"train and val pooled; {VALIDATION_SHARE:.0%} of each class to val, whole patients, in the order of a hash"
)
BY_IMAGE = f"train and val pooled; {VALIDATION_SHARE:.0%} of each class to val in the order of a hash; patients unknown"
AS_GIVEN = "as the source has it; patients unknown, so train and val may share some of them"
#: For data where only some names contain a patient.
PARTLY_BY_PATIENT = (
    f"train and val pooled; {VALIDATION_SHARE:.0%} of each class to val in the order of a hash; images of one patient "
    "together, where it is known; for {unknown:,} of {total:,} images it is not"
)

_SAME_BYTES = "has the same bytes as"


@dataclass(frozen=True)
class Entry:
    """One image of the manifest."""

    name: str
    split: SplitName
    label: Count
    patient: str
    kind: str
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Every image that is used with its split, and every image that is left out with the reason.

    ``task`` has the classes of the labels; older manifests without it are of pneumonia. ``patient_pattern`` is the
    user's pattern for patients in names, or "". ``passed_over`` has the reason by name for files that are not used.
    ``options`` are the user's other options for reading the data set.
    """

    source: str
    real: bool
    licence: str
    rule: str
    fingerprint: str
    entries: tuple[Entry, ...]
    left_out: dict[str, str]
    patient_pattern: str = ""
    passed_over: dict[str, str] = field(default_factory=dict)
    task: Task = PNEUMONIA
    options: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        last = len(self.task.class_names) - 1
        for index, entry in enumerate(self.entries):
            if entry.label > last:
                raise ValueError(f"entries[{index}].label is {entry.label}, not within 0 to {last}")

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Images by split and class name."""
        return describe_counts(self.entries, self.task.class_names)

    @property
    def is_whole(self) -> bool:
        """Whether the fingerprint matches the entries."""
        return _fingerprint(self.entries) == self.fingerprint

    @property
    def used_images(self) -> tuple[str, ...]:
        """A sample of the images in train and val, as every model file has it: those with the smallest SHA-256.

        Of any images, the same share is in the sample. So a few hashes tell whether others are among them.
        """
        digests = {entry.sha256[:DIGITS] for entry in self.entries if entry.split != "test"}
        return tuple(sorted(digests)[:NAMED_IMAGES])

    def save(self, path: Path) -> None:
        """Write the manifest as JSON."""
        files.write_text(path, records.document(self))

    @staticmethod
    def load(path: Path) -> Manifest:
        """Read a manifest; raises DataError if the file is missing or invalid."""
        try:
            return records.loads(Manifest, path.read_bytes())
        except (OSError, records.RecordError) as error:
            raise DataError(f"{path} is not a split manifest ({error})", "a split.json", "Train again") from error


def make_manifest(
    source: Source,
    digests: Mapping[str, str],
    left_out: Mapping[str, str],
    hashes: Mapping[str, Bits] | None = None,
) -> Manifest:
    """Draw validation and record the split of every image.

    Args:
        source: The data set.
        digests: SHA-256 of the file bytes by sample name, for every sample that could be read.
        left_out: Reason by sample name, for every sample that cannot be used.
        hashes: Perceptual hash by sample name, used to put near duplicates all in train or all in validation.

    Returns:
        The manifest. An image whose bytes are also in test is left out of training, with that reason. So is one whose
        bytes are also in the source's own validation split.

    Raises:
        DataError: A class has no images left in train or val.
    """
    left_out = dict(left_out)
    usable = [sample for sample in source.samples if sample.name not in left_out]
    held_out: dict[str, Sample] = {}
    for split in ("test", "val") if source.own_validation else ("test",):
        for sample in usable:
            if sample.split == split:
                held_out.setdefault(digests[sample.name], sample)
    entries = []
    for sample in usable:
        digest = digests[sample.name]
        twin = held_out.get(digest)
        if twin is not None and twin.split != sample.split:
            left_out[sample.name] = f"{_SAME_BYTES} {twin.name}, a {twin.split} image"
            continue
        entries.append(Entry(sample.name, sample.split, sample.label, sample.patient, sample.kind, digest))
    rule = source.rule
    if not source.own_validation:
        alike = _alike(entries, hashes or {}) + _copies(usable, entries)
        rule = _describe(source, entries)
        entries = _draw_validation(entries, alike)
    manifest = Manifest(
        source.title,
        source.real,
        source.licence,
        rule,
        _fingerprint(entries),
        tuple(entries),
        left_out,
        task=source.task,
    )
    for split in ("train", "val"):
        if 0 in manifest.counts.get(split, {"none": 0}).values():
            raise _too_few(manifest, split, source.options.get("split"))
    return manifest


def count_copies(left_out: Mapping[str, str]) -> int:
    """How many images are left out because their bytes are in a split that is held out."""
    return sum(reason.startswith(_SAME_BYTES) for reason in left_out.values())


def _too_few(manifest: Manifest, split: str, shares: str | None) -> DataError:
    remedy = "Use a larger data set, or repair the images that were left out"
    copies = count_copies(manifest.left_out)
    if copies:
        remedy = "Remove the copies, or give other test images"
    elif shares and 0 in parse_shares(shares)[:2]:
        remedy = "Give other shares, such as --split-shares 80/10/10"
    found = ", ".join(f"{count} of {name}" for name, count in manifest.counts.get(split, {}).items())
    return DataError(
        f"{manifest.source} leaves {printable(found) or 'nothing'} for {split}"
        + (f", as {copies:,} images have the same bytes as images of test or validation" if copies else ""),
        "images of each class",
        remedy,
    )


def adopt(manifest: Manifest, found: Manifest) -> Manifest | None:
    """Give images the splits of an earlier manifest, matched by their content.

    So a run keeps its split, even if another version of this program, another pattern for patients or additional files
    would give another split.

    Args:
        manifest: The earlier manifest.
        found: A manifest of the same images, possibly with additional ones.

    Returns:
        The earlier manifest with the current names; None if some of its images are missing.
    """
    of_content: dict[tuple[str, int], list[Entry]] = defaultdict(list)
    for entry in reversed(found.entries):
        of_content[entry.sha256, entry.label].append(entry)
    entries = []
    for entry in manifest.entries:
        same = of_content[entry.sha256, entry.label]
        if not same:
            return None
        # Of several images with the same bytes, prefer the one with the same name.
        chosen = next((each for each in same if each.name == entry.name), same[-1])
        same.remove(chosen)
        entries.append(replace(entry, name=chosen.name))
    names = {entry.name for entry in entries}
    others = {entry.name: "not in the run's split" for entry in found.entries if entry.name not in names}
    return replace(manifest, entries=tuple(entries), left_out={**found.left_out, **others})


def _describe(source: Source, entries: Iterable[Entry]) -> str:
    """Describe the rule, and for how many images the patient is unknown."""
    pool = [entry for entry in entries if entry.split != "test"]
    unknown = sum(entry.patient == entry.name for entry in pool)
    if not source.has_patients or unknown == len(pool):
        return BY_IMAGE
    return PARTLY_BY_PATIENT.format(unknown=unknown, total=len(pool)) if unknown else BY_PATIENT


def _alike(entries: Iterable[Entry], hashes: Mapping[str, Bits]) -> list[tuple[str, str]]:
    """Return pairs of names of near duplicates, without test images, which keep their split."""
    names = [entry.name for entry in entries if entry.split != "test" and entry.name in hashes]
    return [(names[first], names[second]) for first, second, _ in find_alike([hashes[name] for name in names])]


def _copies(samples: Iterable[Sample], entries: Iterable[Entry]) -> list[tuple[str, str]]:
    """Return pairs of names of images that are copies of one another by their names."""
    used = {entry.name for entry in entries if entry.split != "test"}
    first: dict[str, str] = {}
    return [
        (first.setdefault(sample.original, sample.name), sample.name)
        for sample in samples
        if sample.original and sample.name in used
    ]


def _draw_validation(entries: list[Entry], alike: Iterable[tuple[str, str]]) -> list[Entry]:
    pool = [entry for entry in entries if entry.split != "test"]
    groups = group_images(
        {entry.name: entry.sha256 for entry in pool}, {entry.name: f"patient {entry.patient}" for entry in pool}, alike
    )
    sizes = Counter(entry.label for entry in pool)
    wanted = {label: round(VALIDATION_SHARE * size) for label, size in sizes.items()}
    validation = draw({entry.name: entry.label for entry in pool}, groups, wanted, RULE_VERSION)
    return [
        entry if entry.split == "test" else replace(entry, split="val" if groups[entry.name] in validation else "train")
        for entry in entries
    ]


def draw(labels: Mapping[str, int], groups: Mapping[str, str], wanted: Mapping[int, int], version: str) -> set[str]:
    """Draw groups of images in the order of a hash, until there are enough images of each class.

    Args:
        labels: By the name of an image.
        groups: The group of each image, as :func:`group_images` gives it.
        wanted: How many images of each label, about.
        version: Of the rule; another one draws others.

    Returns:
        The groups that were drawn.
    """
    drawn: set[str] = set()
    for label in sorted(set(labels.values())):
        sizes: dict[str, int] = defaultdict(int)
        for name, of_image in labels.items():
            if of_image == label:
                sizes[groups[name]] += 1
        # A patient with images of several classes may have been drawn already.
        missing = wanted[label] - sum(sizes[group] for group in drawn & sizes.keys())
        for group in sorted(sizes.keys() - drawn, key=lambda group: _order(version, group)):
            if missing <= 0:
                break
            drawn.add(group)
            missing -= sizes[group]
    return drawn


def group_images(
    digests: Mapping[str, str], patients: Mapping[str, str], alike: Iterable[tuple[str, str]]
) -> dict[str, str]:
    """Find out which images stay together.

    Args:
        digests: SHA-256 by the name of an image.
        patients: What tells the patient of each image.
        alike: Pairs of names of images that show the same picture.

    Returns:
        The key of a group by name: images of one patient are in one, and so are those of patients who share an image
        or have some alike.
    """
    root: dict[str, str] = {}

    def find(key: str) -> str:
        while root.setdefault(key, key) != key:
            key = root[key]
        return key

    def join(one: str, other: str) -> None:
        # The smaller key is the root, so that the key of a group does not depend on the order of joining.
        first, second = sorted((find(one), find(other)))
        root[second] = first

    for name, patient in patients.items():
        join(patient, f"sha256 {digests[name]}")
    for one, other in alike:
        join(patients[one], patients[other])
    return {name: find(patient) for name, patient in patients.items()}


def _order(version: str, group: str) -> str:
    return hashlib.sha256(f"{version} {group}".encode()).hexdigest()


def _fingerprint(entries: Iterable[Entry]) -> str:
    """Return the SHA-256 over split, label and content of every image; file names do not matter."""
    lines = sorted(f"{entry.split} {entry.label} {entry.sha256}" for entry in entries)
    return hashlib.sha256("\n".join([RULE_VERSION, *lines]).encode()).hexdigest()
