"""Scores model files on a split of a data set, each once, and keeps finished scores."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pneumo_edge._util.progress import bar
from pneumo_edge._util.records import encodable
from pneumo_edge._util.scratch import Scratch, scratch
from pneumo_edge.data import shortcuts
from pneumo_edge.data.likeness import Bits, perceptual_hash
from pneumo_edge.data.reading import read_each
from pneumo_edge.data.shortcuts import Measures
from pneumo_edge.data.sources import Sample, Source, SplitName
from pneumo_edge.data.splits import make_manifest
from pneumo_edge.errors import (
    ArgumentError,
    DataError,
    ImageError,
    MissingExtraError,
    PneumoEdgeError,
    ResultsError,
)
from pneumo_edge.evaluation import metrics
from pneumo_edge.imaging import images
from pneumo_edge.runtime.classifier import Classifier
from pneumo_edge.runtime.engines import engines_for
from pneumo_edge.scoring import decoding, scores
from pneumo_edge.scoring.classification import classify
from pneumo_edge.scoring.decoding import DecodedImages, InputSize
from pneumo_edge.scoring.models import ModelFile, Skipped, find_models, read_models
from pneumo_edge.scoring.scores import EvaluationScores, FileScores, ImageSet, ScoredImage, ScoredModel, ShortcutValues
from pneumo_edge.scoring.seen import check_unseen, other_options
from pneumo_edge.spec import ModelSpec


@dataclass(frozen=True)
class _Look:
    """Properties of an image file that do not depend on a model."""

    sha256: str
    measures: Measures
    bits: Bits


def score(
    paths: Sequence[Path],
    source: Source,
    split: SplitName,
    target: Path,
    *,
    external: bool = False,
    engine: str | None = None,
    threads: int = 1,
    tell: Callable[[Skipped], None] = lambda skipped: None,
    warn: Callable[[str], None] = lambda text: None,
) -> EvaluationScores:
    """Score model files on a split of a data set.

    A file that ``target`` already has, with the same content on the same version of the same engine, is not scored
    again. ``target`` is written after every file, so an interrupted run resumes. Files that cannot be scored are
    skipped with the reason.

    Args:
        paths: Model files, and folders that are searched for them.
        source: The data set.
        split: ``"test"``, or ``"val"`` as :func:`~pneumo_edge.data.splits.make_manifest` draws it.
        target: The ``scores.json`` to create or to extend.
        external: Whether the data set is another population, of which all images are scored, of every split.
        engine: Name of the engine; by default the best one that is installed for each file.
        threads: Threads for one inference.
        tell: Called with every skipped file, as soon as it is known.
        warn: Called with warnings about the scores.

    Raises:
        ResultsError: Nothing can be scored, or ``target`` is damaged or has scores of other images.
        ArgumentError: A model was trained, or its threshold chosen, on a data set that is to be another population.
        DataError: The split has fewer than two images of a class, or images that a model was trained on.
        OSError: ``target`` cannot be written.
    """
    models = [model for model in read_models(find_models(paths), tell, source.task) if _can_run(model, engine, tell)]
    if not models:
        raise _nothing_scored()
    with scratch() as place:
        found, decoded = _prepare(source, split, external, models, place, warn)
        if target.exists():
            found = _join(scores.read(target), found, target)
        done = 0
        with bar(f"Scoring the {'' if external else f'{split} '}images", len(models) * len(decoded.samples)) as show:
            for model in models:
                try:
                    found = _score(found, model, decoded, engine, threads, show)
                except PneumoEdgeError as error:
                    failed = not isinstance(error, MissingExtraError)
                    tell(Skipped(model.model.file, engine or "", str(error), failed=failed))
                    continue
                scores.write(target, found)
                done += 1
    if not done:
        raise _nothing_scored()
    return found


def _nothing_scored() -> ResultsError:
    return ResultsError(
        "none of the model files can be scored here", "at least one that can", "See the reason given for each"
    )


def _can_run(model: ModelFile, engine: str | None, tell: Callable[[Skipped], None]) -> bool:
    if engine is None or any(row.name == engine for row in engines_for(model.path)):
        return True
    tell(Skipped(model.model.file, engine, f"it does not run {model.path.suffix} files", failed=False))
    return False


def _prepare(
    source: Source,
    split: SplitName,
    external: bool,
    models: Sequence[ModelFile],
    place: Scratch,
    warn: Callable[[str], None],
) -> tuple[EvaluationScores, DecodedImages]:
    """The images of the split as pixels, and scores without a model."""
    looks: dict[str, _Look] = {}
    unreadable: dict[str, str] = {}
    specs = [model.spec for model in models]
    for sample, result in read_each(source, source.samples, _look, "Reading images"):
        if isinstance(result, ImageError):
            unreadable[sample.name] = str(result)
        else:
            looks[sample.name] = result
    if external:
        _check_external(source, looks, unreadable, specs)
        chosen = list(source.samples)
    else:
        chosen = _choose(source, split, looks, unreadable, specs, warn)
    if external or split == "test":
        digests = {name: look.sha256 for name, look in looks.items()}
        check_unseen(models, source, chosen, warn, digests, external=external)
    decoded = decoding.decode(source, chosen, split, [InputSize.of(spec) for spec in specs], place)
    data = ImageSet(
        title=source.title,
        real=source.real,
        licence=source.licence,
        class_names=source.task.class_names,
        split=split,
        has_patients=source.has_patients,
        fingerprint=decoded.fingerprint,
        left_out=decoded.left_out,
        positive_class=source.task.positive_class,
        images=tuple(
            ScoredImage(encodable(each.name), each.label, encodable(each.patient), each.kind)
            for each in decoded.samples
        ),
        external=external,
    )
    return EvaluationScores(data, _measure_shortcuts(source, decoded.samples, looks), ()), decoded


def _look(data: bytes) -> _Look:
    grey = images.decode(data)
    return _Look(hashlib.sha256(data).hexdigest(), shortcuts.measure(data, grey), perceptual_hash(grey))


def _check_external(
    source: Source, looks: Mapping[str, _Look], unreadable: Mapping[str, str], specs: Sequence[ModelSpec]
) -> None:
    digests = {name: look.sha256 for name, look in looks.items()}
    hashes = {name: look.bits for name, look in looks.items()}
    for given in (hashes, None):
        # What cannot be trained on, nothing was trained on.
        with contextlib.suppress(DataError):
            fingerprint = make_manifest(source, digests, unreadable, given).fingerprint
            if found := [spec for spec in specs if spec.data.fingerprint == fingerprint]:
                raise ArgumentError(
                    f"{_used_for(found)} {source.title}",
                    "images of another population where external (--external) is given",
                    "Omit it, and give the split test",
                )


def _used_for(specs: Sequence[ModelSpec]) -> str:
    """What a data set was used for that is in the ModelSpecs."""
    uses = {spec.data_use for spec in specs}
    if "trained on" in uses:
        return "a model was trained on"
    return "the threshold of a model was chosen on" if "threshold chosen on" in uses else "a model was measured on"


def _choose(
    source: Source,
    split: SplitName,
    looks: Mapping[str, _Look],
    unreadable: Mapping[str, str],
    specs: Sequence[ModelSpec],
    warn: Callable[[str], None],
) -> list[Sample]:
    if split == "test":
        return [sample for sample in source.samples if sample.split == "test"]
    trained_on = {spec.data.fingerprint for spec in specs}
    digests = {name: look.sha256 for name, look in looks.items()}
    manifest = make_manifest(source, digests, unreadable, {name: look.bits for name, look in looks.items()})
    if manifest.fingerprint not in trained_on:
        # Older models, from before near duplicates were kept together.
        earlier = make_manifest(source, digests, unreadable)
        manifest = earlier if earlier.fingerprint in trained_on else manifest
    if trained_on != {manifest.fingerprint}:
        others = dict.fromkeys(" ".join(other_options(spec.data, source)) for spec in specs)
        warn(
            "not every model here was trained with this data and this split, so some of these validation images may be "
            "among its training images" + "".join(f"; it was read with {each}" for each in others if each)
        )
    names = {entry.name for entry in manifest.entries if entry.split == split}
    return [sample for sample in source.samples if sample.name in names]


def _measure_shortcuts(
    source: Source, samples: Sequence[Sample], looks: Mapping[str, _Look]
) -> tuple[ShortcutValues, ...]:
    """Each shortcut, in the direction that images outside the split and the test split determine.

    Empty without a positive class.
    """
    own = {sample.name for sample in samples}
    others = [each for each in source.samples if each.split != "test" and each.name in looks and each.name not in own]
    labels = source.task.targets(np.array([sample.label for sample in others], dtype=np.int64))
    if source.task.positive_class is None or len(set(labels.tolist())) < 2:
        return ()

    def columns(chosen: Sequence[Sample]) -> dict[str, metrics.Scores]:
        return shortcuts.columns([looks[sample.name].measures for sample in chosen], source.has_files)

    return tuple(
        ShortcutValues(measure, shortcuts.find_direction(labels, theirs), tuple(values.tolist()))
        for (measure, values), theirs in zip(columns(samples).items(), columns(others).values(), strict=True)
    )


def _join(earlier: EvaluationScores, found: EvaluationScores, target: Path) -> EvaluationScores:
    same = all(
        getattr(earlier.data, name) == getattr(found.data, name)
        for name in ("split", "external", "fingerprint", "images", "task")
    )
    if not same:
        old, new = _described(earlier.data), _described(found.data)
        if earlier.data.task != found.data.task:
            given, expected = f"the classes {earlier.data.task}", f"the classes {found.data.task}"
        else:
            given, expected = f"other images ({old})", f"{new}, as they are now" if old == new else new
        raise ResultsError(
            f"{target} has scores of {given}", f"scores of {expected}", "Give another folder (out / --out)"
        )
    return replace(found, files=earlier.files)


def _described(data: ImageSet) -> str:
    return f"{'all' if data.external else data.split} of {data.title}, {len(data.images):,} images"


def _score(
    found: EvaluationScores,
    file: ModelFile,
    decoded: DecodedImages,
    engine: str | None,
    threads: int,
    show: Callable[[int, str], None],
) -> EvaluationScores:
    """The scores extended by one file, unless they already have it."""
    classifier = Classifier(file.path, engine=engine, threads=threads)
    model = _describe(file, classifier)
    others = [each for each in found.files if (each.model.sha256, each.model.engine) != (model.sha256, model.engine)]
    for each in found.files:
        if each not in others and each.model.engine_version == model.engine_version:
            show(len(decoded.samples), f"{model.file}: already scored")
            return found
    grey = np.load(decoded.pixels[InputSize.of(file.spec)], mmap_mode="r")
    names = [sample.name for sample in decoded.samples]
    measured = classify(classifier, grey, lambda: show(1, model.file), names)
    scored = FileScores(
        model,
        measured.probabilities,
        measured.class_probabilities,
        measured.out_of_distribution,
        file.spec.conformal,
    )
    return replace(found, files=(*others, scored))


def _describe(file: ModelFile, classifier: Classifier) -> ScoredModel:
    spec, model = file.spec, file.model
    return ScoredModel(
        file=model.file,
        sha256=model.sha256,
        size_bytes=model.size_bytes,
        backbone=spec.backbone,
        format=spec.format,
        recipe=spec.training.recipe,
        seed=spec.training.seed,
        initial_weights=spec.training.initial_weights,
        trained_on="" if spec.is_trained_elsewhere else spec.data.name,
        measured_on=spec.data.name if spec.is_trained_elsewhere else "",
        trained_on_real=spec.data.real,
        threshold=spec.decision.threshold,
        rule=spec.decision.rule,
        chosen_on=spec.decision.chosen_on,
        temperature=spec.temperature,
        engine=classifier.engine.name,
        engine_version=classifier.engine.version,
        validation=spec.training.validation,
    )
