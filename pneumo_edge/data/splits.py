"""Which image is for what: validation drawn out of train by patient, the same for everyone."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pneumo_edge._util import files, records
from pneumo_edge._util.records import Count
from pneumo_edge.data.likeness import Bits, find_alike
from pneumo_edge.data.sources import Sample, Source, SplitName, describe_counts
from pneumo_edge.errors import DataError
from pneumo_edge.task import PNEUMONIA, Task

VALIDATION_SHARE = 0.1
#: Part of every hash, so that another rule would give another split and another fingerprint.
RULE_VERSION = "pneumo-edge-validation-1"

BY_PATIENT = (
    f"train and val pooled; {VALIDATION_SHARE:.0%} of each class to val, whole patients, in the order of a hash"
)
BY_IMAGE = f"train and val pooled; {VALIDATION_SHARE:.0%} of each class to val in the order of a hash; patients unknown"
#: Where some names tell a patient and some do not: for how many of how many images it is not known.
PARTLY_BY_PATIENT = (
    f"train and val pooled; {VALIDATION_SHARE:.0%} of each class to val in the order of a hash; images of one patient "
    "together, where it is known; for {unknown:,} of {total:,} images it is not"
)
AS_GIVEN = "as the source has it; patients unknown, so train and val may share some of them"


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
    """Every image that is used and its split, and every image that is left out with the reason.

    ``task`` has the classes that labels stand for; manifests from before it was written are of pneumonia.
    ``patient_pattern`` is the user's own, by which patients were read, or ""; ``passed_over`` has what else lies in
    the data folder, with the reason by name.
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
        """Whether its entries are those that the fingerprint was made of."""
        return _fingerprint(self.entries) == self.fingerprint

    def save(self, path: Path) -> None:
        """Write the manifest as JSON."""
        files.write_text(path, records.document(self))

    @staticmethod
    def load(path: Path) -> Manifest:
        """Read a manifest; raises DataError where the file is missing or not valid."""
        try:
            return records.loads(Manifest, path.read_bytes())
        except (OSError, records.RecordError) as error:
            raise DataError(f"{path} is no split manifest ({error})", "a split.json", "Train again") from error


def make_manifest(
    source: Source,
    digests: Mapping[str, str],
    left_out: Mapping[str, str],
    hashes: Mapping[str, Bits] | None = None,
) -> Manifest:
    """Draw validation and write down what every image is for.

    Args:
        source: The data set.
        digests: SHA-256 of the file bytes by sample name, for every sample that could be read.
        left_out: Reason by sample name, for every sample that cannot be used.
        hashes: Perceptual hash by sample name, by which near duplicates are kept on one side of validation. Without
            them they are not.

    Returns:
        The manifest. An image whose bytes also stand in test is left out of training, with that reason;
        so is one whose bytes stand in a validation split that is taken as it is.

    Raises:
        DataError: Nothing is left of a class in train or val.
    """
    left_out = dict(left_out)
    usable = [sample for sample in source.samples if sample.name not in left_out]
    judges: dict[str, Sample] = {}
    for split in ("test", "val") if source.own_validation else ("test",):
        for sample in usable:
            if sample.split == split:
                judges.setdefault(digests[sample.name], sample)
    entries = []
    for sample in usable:
        digest = digests[sample.name]
        twin = judges.get(digest)
        if twin is not None and twin.split != sample.split:
            left_out[sample.name] = f"the same bytes as {twin.name}, which is a {twin.split} image"
            continue
        entries.append(Entry(sample.name, sample.split, sample.label, sample.patient, sample.kind, digest))
    rule = AS_GIVEN
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
            raise DataError(
                f"{source.title} leaves {manifest.counts.get(split, 'nothing')} for {split}",
                "images of each class",
                "Use a larger data set, or mend the images that were left out",
            )
    return manifest


def adopt(manifest: Manifest, found: Manifest) -> Manifest | None:
    """Give images the splits of an earlier manifest, by their content.

    So a run keeps its split where another version of this program, another pattern for patients or more files beside
    its own would draw another.

    Args:
        manifest: The earlier one.
        found: A manifest of the same images, or of more.

    Returns:
        The earlier manifest with the names of today; None where images of it are missing.
    """
    of_content: dict[tuple[str, int], list[Entry]] = defaultdict(list)
    for entry in reversed(found.entries):
        of_content[entry.sha256, entry.label].append(entry)
    entries = []
    for entry in manifest.entries:
        same = of_content[entry.sha256, entry.label]
        if not same:
            return None
        # Of several with the same bytes, the one that still has its name.
        chosen = next((each for each in same if each.name == entry.name), same[-1])
        same.remove(chosen)
        entries.append(replace(entry, name=chosen.name))
    names = {entry.name for entry in entries}
    others = {entry.name: "no image of the run's split" for entry in found.entries if entry.name not in names}
    return replace(manifest, entries=tuple(entries), left_out={**found.left_out, **others})


def _describe(source: Source, entries: Iterable[Entry]) -> str:
    """The rule in words, which claim no more than the names tell."""
    pool = [entry for entry in entries if entry.split != "test"]
    unknown = sum(entry.patient == entry.name for entry in pool)
    if not source.has_patients or unknown == len(pool):
        return BY_IMAGE
    return PARTLY_BY_PATIENT.format(unknown=unknown, total=len(pool)) if unknown else BY_PATIENT


def _alike(entries: Iterable[Entry], hashes: Mapping[str, Bits]) -> list[tuple[str, str]]:
    """Pairs of names of near duplicates, those of test images apart, which stay where they are."""
    names = [entry.name for entry in entries if entry.split != "test" and entry.name in hashes]
    return [(names[first], names[second]) for first, second, _ in find_alike([hashes[name] for name in names])]


def _copies(samples: Iterable[Sample], entries: Iterable[Entry]) -> list[tuple[str, str]]:
    """Pairs of names of images that are copies of one another by their names."""
    used = {entry.name for entry in entries if entry.split != "test"}
    first: dict[str, str] = {}
    return [
        (first.setdefault(sample.original, sample.name), sample.name)
        for sample in samples
        if sample.original and sample.name in used
    ]


def _draw_validation(entries: list[Entry], alike: Iterable[tuple[str, str]]) -> list[Entry]:
    pool = [entry for entry in entries if entry.split != "test"]
    group_of = _group(pool, alike)
    validation: set[str] = set()
    for label in sorted({entry.label for entry in pool}):
        sizes: dict[str, int] = defaultdict(int)
        for entry in pool:
            if entry.label == label:
                sizes[group_of[entry.name]] += 1
        # A patient with images of both classes may stand in validation already.
        wanted = round(VALIDATION_SHARE * sum(sizes.values())) - sum(sizes[g] for g in validation & sizes.keys())
        for group in sorted(sizes.keys() - validation, key=_order):
            if wanted <= 0:
                break
            validation.add(group)
            wanted -= sizes[group]
    return [
        entry
        if entry.split == "test"
        else replace(entry, split="val" if group_of[entry.name] in validation else "train")
        for entry in entries
    ]


def _group(entries: Iterable[Entry], alike: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Group key by name: images of one patient, and patients who share an image or have some alike, together."""
    root: dict[str, str] = {}

    def find(key: str) -> str:
        while root.setdefault(key, key) != key:
            key = root[key]
        return key

    def join(one: str, other: str) -> None:
        # The smaller is the root, so that a group has the same key in whatever order it comes together.
        first, second = sorted((find(one), find(other)))
        root[second] = first

    entries = list(entries)
    patient_of = {entry.name: f"patient {entry.patient}" for entry in entries}
    for entry in entries:
        join(patient_of[entry.name], f"sha256 {entry.sha256}")
    for one, other in alike:
        join(patient_of[one], patient_of[other])
    return {entry.name: find(f"patient {entry.patient}") for entry in entries}


def _order(group: str) -> str:
    return hashlib.sha256(f"{RULE_VERSION} {group}".encode()).hexdigest()


def _fingerprint(entries: Iterable[Entry]) -> str:
    """SHA-256 over split, label and content of every image, whatever the files are called."""
    lines = sorted(f"{entry.split} {entry.label} {entry.sha256}" for entry in entries)
    return hashlib.sha256("\n".join([RULE_VERSION, *lines]).encode()).hexdigest()
