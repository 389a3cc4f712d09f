"""Splits drawn for a data set that has none: by patient where known, else by content, the same for everyone."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from pneumo_edge._util import files, records
from pneumo_edge._util.cache import cache_folder
from pneumo_edge.data.datasource import parse_shares
from pneumo_edge.data.layout import SplitName
from pneumo_edge.data.likeness import Bits, find_alike, perceptual_hash
from pneumo_edge.data.reading import read_each
from pneumo_edge.data.samples import Sample, Source
from pneumo_edge.data.splits import draw, group_images
from pneumo_edge.errors import DataError, ImageError
from pneumo_edge.imaging import images

#: Part of every hash, so that another rule draws other splits.
RULE_VERSION = "pneumo-edge-split-1"


@dataclass(frozen=True)
class _Drawn:
    """What was drawn before: the split by SHA-256."""

    split_of: dict[str, str]


class DrawnSource:
    """A data set with splits that are drawn when its samples are first asked for; this reads every image once.

    Args:
        source: The data set; a test split of its own stays as it is.
        split: Shares as for :class:`~pneumo_edge.data.datasource.DataSource`.
    """

    own_validation = True

    def __init__(self, source: Source, split: str) -> None:
        self._source = source
        self._shares = parse_shares(split)
        self.title, self.task, self.real, self.licence = source.title, source.task, source.real, source.licence
        self.has_patients, self.has_files = source.has_patients, source.has_files
        self.patient_pattern, self.passed_over = source.patient_pattern, source.passed_over
        self.options: dict[str, str] = {**source.options, "split": split}
        self.paths, self.remarks = source.paths, source.remarks
        self.rule = _describe(source, self._shares)

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """Every sample in its split."""
        pool = [sample for sample in self._source.samples if sample.split != "test" or len(self._shares) == 3]
        digests = {
            sample.name: result
            for sample, result in read_each(
                self._source, pool, lambda data: hashlib.sha256(data).hexdigest(), "Reading images"
            )
            if not isinstance(result, ImageError)
        }
        split_of = self._draw([sample for sample in pool if sample.name in digests], digests)
        in_pool = {sample.name for sample in pool}
        # What cannot be read is left out by name later.
        return tuple(
            replace(sample, split=split_of.get(digests.get(sample.name, ""), "train"))
            if sample.name in in_pool
            else sample
            for sample in self._source.samples
        )

    def read(self, sample: Sample) -> bytes:
        """The bytes of a sample's image file."""
        return self._source.read(sample)

    def _draw(self, pool: list[Sample], digests: Mapping[str, str]) -> dict[str, SplitName]:
        lines = sorted(f"{digests[each.name]} {each.label} {each.patient} {each.original}" for each in pool)
        key = hashlib.sha256("\n".join([RULE_VERSION, str(self._shares), *lines]).encode()).hexdigest()[:16]
        with contextlib.suppress(OSError, DataError, records.RecordError):
            found = records.loads(_Drawn, (cache_folder() / f"{key}.json").read_bytes()).split_of
            if all(digests[each.name] in found for each in pool):
                return found  # type: ignore[return-value]
        hashes = {
            sample.name: result
            for sample, result in read_each(
                self._source, pool, lambda data: perceptual_hash(images.decode(data)), "Comparing images"
            )
            if not isinstance(result, ImageError)
        }
        drawn = _draw(pool, digests, hashes, self._shares)
        with contextlib.suppress(OSError, DataError):
            folder = cache_folder()
            folder.mkdir(parents=True, exist_ok=True)
            files.write_text(folder / f"{key}.json", records.dumps(_Drawn(dict(drawn)), indent=None))
        return drawn


def _draw(
    pool: list[Sample], digests: Mapping[str, str], hashes: Mapping[str, Bits], shares: tuple[float, ...]
) -> dict[str, SplitName]:
    names = list(hashes)
    alike = [(names[first], names[second]) for first, second, _ in find_alike(list(hashes.values()))]
    first_of: dict[str, str] = {}
    alike += [(first_of.setdefault(each.original, each.name), each.name) for each in pool if each.original]
    # Without a patient it is the content that counts, not what the file is called.
    patients = {
        each.name: f"patient {each.patient}" if each.is_patient_known else f"content {digests[each.name]}"
        for each in pool
    }
    groups = group_images(digests, patients, alike)
    labels = {each.name: each.label for each in pool}
    chosen: dict[SplitName, set[str]] = {}
    left = labels
    parts: tuple[tuple[SplitName, float], ...] = (("test", sum(shares[2:])), ("val", shares[1]))
    for split, share in parts:
        wanted = {
            label: round(share * sum(each == label for each in labels.values())) for label in set(labels.values())
        }
        chosen[split] = draw(left, groups, wanted, f"{RULE_VERSION} {split}")
        left = {name: label for name, label in left.items() if groups[name] not in chosen[split]}
    split_of: dict[str, SplitName] = {}
    for each in pool:
        split_of[digests[each.name]] = "train"
        for split, drawn in chosen.items():
            if groups[each.name] in drawn:
                split_of[digests[each.name]] = split
    return split_of


def _describe(source: Source, shares: tuple[float, ...]) -> str:
    """The rule in words, which claim no more than the names tell."""
    numbers = "/".join(f"{100 * share:g}" for share in shares)
    unknown, total = sum(not each.is_patient_known for each in source.samples), len(source.samples)
    if not source.has_patients or unknown == total:
        how = "in the order of a hash of their content; patients unknown"
    elif unknown:
        how = f"whole patients, in the order of a hash; for {unknown:,} of {total:,} images the patient is not known"
    else:
        how = "whole patients, in the order of a hash"
    return f"{numbers} % of each class to {', '.join(('train', 'val', 'test')[: len(shares)])}, {how}"
