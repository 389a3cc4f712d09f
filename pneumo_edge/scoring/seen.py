"""Whether images that are to be scored were used to make a model: each ModelSpec has hashes of a sample of those."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

from pneumo_edge.data.datasource import option, parse_shares
from pneumo_edge.data.reading import read_each
from pneumo_edge.data.samples import LABELS_OF, Sample, Source
from pneumo_edge.data.splits import DIGITS, make_manifest
from pneumo_edge.errors import DataError, ImageError, printable
from pneumo_edge.scoring.models import ModelFile
from pneumo_edge.spec import DataSpec

#: Up to this share of the scored images may have been used. Collections of images share some now and then.
_FEW = 0.01


def check_unseen(
    models: Sequence[ModelFile],
    source: Source,
    chosen: Sequence[Sample],
    warn: Callable[[str], None],
    digests: Mapping[str, str] | None = None,
    *,
    external: bool = False,
) -> None:
    """Refuse images that a model was trained on, or that its threshold was chosen on.

    Args:
        models: The model files.
        source: The data set, as it was opened.
        chosen: The images to score: the test split, or another population.
        warn: Called with a line where few of the images were used, and where this cannot be known.
        digests: SHA-256 by name of an image, of all that can be read; by default the images are read.
        external: Whether the images are those of another population.

    Raises:
        DataError: More than 1 % of the images were used.
    """
    informed = [model for model in models if model.spec.data.used_images]
    uninformed = [model for model in models if not model.spec.data.used_images and _is_drawn(model.spec.data)]
    if digests is None:
        digests = _digests(source, source.samples if uninformed else chosen if informed else ())
    scored = {digests[sample.name][:DIGITS] for sample in chosen if sample.name in digests}
    for model in informed:
        data = model.spec.data
        found = len(scored.intersection(data.used_images))
        in_all = sum(sum(data.counts.get(split, {}).values()) for split in ("train", "val"))
        count = min(len(scored), round(found * max(1, in_all / len(data.used_images))))
        if not count:
            continue
        about = "" if len(data.used_images) >= in_all else "about "
        whose = "images" if external else "test images"
        given = f"{_used(model)} {about}{count:,} of these {len(scored):,} {whose}"
        if count > _FEW * len(scored):
            raise DataError(given, f"{whose} that no model has seen", _remedy(data, source, external=external))
        warn(given)
    if uninformed and _fingerprint(source, digests) not in {model.spec.data.fingerprint for model in uninformed}:
        warn(
            f"{uninformed[0].model.file} is from a version that did not record its training images. Its split was "
            "drawn from other images or in another way, so some of these may be among them"
        )


def _used(model: ModelFile) -> str:
    use = model.spec.data_use
    if use == "threshold chosen on":
        return f"the threshold of {model.model.file} was chosen on"
    return f"{model.model.file} was {use}"


def _is_drawn(data: DataSpec) -> bool:
    """Whether the test split was drawn."""
    return "split" in data.options and len(parse_shares(data.options["split"])) == 3


def _digests(source: Source, samples: Sequence[Sample]) -> dict[str, str]:
    return {
        sample.name: result
        for sample, result in read_each(
            source, samples, lambda content: hashlib.sha256(content).hexdigest(), "Reading images"
        )
        if not isinstance(result, ImageError)
    }


def _fingerprint(source: Source, digests: Mapping[str, str]) -> str | None:
    unreadable = {sample.name: "" for sample in source.samples if sample.name not in digests}
    try:
        return make_manifest(source, digests, unreadable).fingerprint
    except DataError:
        # All images are in the test split, so nothing was trained on such a split.
        return None


def other_options(data: DataSpec, source: Source) -> list[str]:
    """The options of a training that a data set was not read with, as they are typed."""
    options = [
        f"{option(name)} {printable(value)}"
        for name, value in data.options.items()
        if source.options.get(name) != value and not (name == "positive" and value == source.task.positive_class)
    ]
    labels = data.name.partition(LABELS_OF)[2]
    if labels and LABELS_OF not in source.title:
        options.insert(0, f"--labels {printable(labels)}")
    if data.patient_pattern != source.patient_pattern:
        options.append(f"--patient-pattern {printable(repr(data.patient_pattern))}")
    return options


def _remedy(data: DataSpec, source: Source, *, external: bool) -> str:
    """What to do, with the options that differ from those of the training."""
    options = other_options(data, source)
    if external:
        return "Give images of another population, or omit --external and give " + " ".join(["--split test", *options])
    if options:
        return f"Read the data set as for the training: give {' '.join(options)}"
    return "Remove the images that came later, and score these alone, in a folder of their own, with --external"
