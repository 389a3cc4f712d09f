"""Third step of an export: verifies each file. ``pneumo-edge verify`` repeats it on the machine that uses the file.

:func:`verify` runs a file on all installed engines of its format, one after the other. The first engine with one thread
classifies every validation image, and its answers decide the threshold of a quantized file. The other engines classify
fewer images and must agree with it, too. The checks are in :mod:`pneumo_edge.converters.acceptance`.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pneumo_edge import formats
from pneumo_edge._util import processor, subprocesses
from pneumo_edge.converters import acceptance, proof, reference
from pneumo_edge.converters.acceptance import Answers, Candidate, Comparison, Loaded, Measured
from pneumo_edge.converters.reference import Reference
from pneumo_edge.data.sources import DataSource, open_source
from pneumo_edge.data.tensors import prepare
from pneumo_edge.errors import ConversionError, DataError, GateError
from pneumo_edge.evaluation.operating_point import choose_threshold
from pneumo_edge.formats import FORMATS, Format, FormatRecord
from pneumo_edge.runtime import engines, pixels
from pneumo_edge.runtime.classifier import Classifier
from pneumo_edge.runtime.engines.tensors import Given
from pneumo_edge.spec import ModelSpec, VerificationSpec, suffix_of

#: The first engine with one thread classifies every validation image; the others, some far slower, this many.
IMAGES_FURTHER_ON = 100
#: Numbers of threads that every file is verified with.
_THREADS = (1, 2)
#: Time limit for verifying a file again, in seconds.
_SECONDS = 3600


@dataclass(frozen=True)
class Verified:
    """A file that passed: its threshold, the record of the acceptance checks, and its answers.

    ``file_answers`` are the reference's images with the file's own probabilities, on its first engine with one thread;
    ``failed_outputs`` names the other outputs that failed their checks: a quantized file passes without them.
    ``remark`` says what its proof has otherwise, where it is verified again; "" for nothing.
    """

    threshold: float | None
    verification: VerificationSpec
    file_answers: Reference
    failed_outputs: frozenset[str] = frozenset()
    remark: str = ""


def verify(
    candidate: Candidate,
    reference: Reference,
    described: str,
    threshold: float | None = None,
    first_only: bool = False,
    rows: Sequence[engines.EngineInfo] = (),
) -> Verified:
    """Run a file on every installed engine of its format, and check it against its bounds.

    Args:
        candidate: The file.
        reference: The answers that it is compared with.
        described: A description of the images, for the record.
        threshold: The file's decision threshold. By default that of the Keras model; for a quantized format one is
            chosen by the same rule on the file's own probabilities. If the file fails with it, that of the Keras model
            is used: the rule's choice may jump to another value that is as good, and with it many decisions, although
            probabilities hardly change.
        first_only: Run it on the first engine with one thread alone.
        rows: The engines to run it on; by default those of its format that are installed.

    Raises:
        GateError: A check failed, or an engine returned values that are not probabilities.
        ModelFileError: An engine refused the file.
        MissingExtraError: None of the engines is installed.
    """
    row = candidate.row
    rows = rows or installed_engines(row)
    runs = [(info, threads) for info in rows for threads in _THREADS]
    answers = acceptance.ask(acceptance.load(candidate, *runs[0]), reference)
    decide = functools.partial(_verify_with, candidate, reference, answers, described, runs[:1] if first_only else runs)
    try:
        return decide(_decide_threshold(row, reference, answers, threshold))
    except GateError:
        if threshold is None and row.quantized and reference.threshold is not None:
            with contextlib.suppress(GateError):
                return decide(reference.threshold)
        raise


def _verify_with(
    candidate: Candidate,
    reference: Reference,
    answers: Answers,
    described: str,
    runs: Sequence[tuple[engines.EngineInfo, int]],
    threshold: float | None,
) -> Verified:
    """Check a file with a threshold on engines and threads; ``answers`` are those on the first of them."""
    row = candidate.row
    first = acceptance.load(candidate, *runs[0])
    held = [_hold_first(first, reference, answers, threshold)]
    # Free the memory for the next engine.
    del first
    fewer = reference.with_travelling(IMAGES_FURTHER_ON)
    for info, threads in runs[1:]:
        loaded = acceptance.load(candidate, info, threads)
        held.append(_hold_further(loaded, reference, fewer, answers, threshold))
    return Verified(
        threshold,
        _record(row, reference, described, held),
        replace(reference, scores=answers.scores, outputs=answers.outputs),
        frozenset().union(*(each.comparison.failed_outputs for each in held)),
    )


def measure(candidate: Candidate, reference: Reference) -> Measured:
    """Compare a file with the Keras model on its first engine, as :func:`verify` does, without checking its bounds.

    Raises:
        GateError: An engine returned values that are not probabilities.
        ModelFileError: The engine refused the file.
        MissingExtraError: None of the engines is installed.
    """
    loaded = acceptance.load(candidate, installed_engines(candidate.row)[0], _THREADS[0])
    answers = acceptance.ask(loaded, reference)
    threshold = _decide_threshold(candidate.row, reference, answers, None)
    return acceptance.compare(loaded, reference, answers, threshold).measured


@dataclass(frozen=True)
class _Held:
    """An engine on which a file passed: name, name with threads, version, and the measurements."""

    engine: str
    described: str
    version: str
    comparison: Comparison


def _decide_threshold(row: Format, reference: Reference, answers: Answers, threshold: float | None) -> float | None:
    """The given threshold; by default that of Keras or, for a quantized file, its own by the same rule."""
    if threshold is not None:
        return threshold
    return choose_threshold(reference.rule, reference.labels, answers.scores) if row.quantized else reference.threshold


def _hold_first(loaded: Loaded, reference: Reference, answers: Answers, threshold: float | None) -> _Held:
    comparison = acceptance.compare(loaded, reference, answers, threshold)
    acceptance.check(loaded, comparison, reference, reference)
    return _held(loaded, comparison)


def _hold_further(
    loaded: Loaded, reference: Reference, positions: npt.NDArray[np.intp], first: Answers, threshold: float | None
) -> _Held:
    """Check a file on a further engine, on some of the images, by their positions."""
    images = reference.at(positions)
    answers = acceptance.ask(loaded, images)
    comparison = acceptance.compare(loaded, images, answers, threshold, first.scores[positions])
    acceptance.check(loaded, comparison, reference, images)
    return _held(loaded, comparison)


def _held(loaded: Loaded, comparison: Comparison) -> _Held:
    engine = loaded.engine
    return _Held(engine.name, acceptance.describe(engine), engine.version, comparison)


def _record(row: Format, reference: Reference, described: str, held: Sequence[_Held]) -> VerificationSpec:
    measured = {each.described: asdict(each.comparison.measured) for each in held}
    return VerificationSpec(
        {each.engine: each.version for each in held},
        len(reference.labels),
        described,
        asdict(row.bounds) | (asdict(row.output_bounds) if reference.outputs else {}),
        {name: {key: value for key, value in found.items() if value is not None} for name, found in measured.items()},
        processor.kind(),
        row.by_processor,
    )


def verify_again(model: Path, data: DataSource | None, cache: Path, names: Sequence[str] = ()) -> Verified:
    """Verify a file again on this machine's engines, without TensorFlow.

    A file of an export is compared with the Keras model, an adopted one with its own answers on the machine that
    adopted it.

    Args:
        model: A model file with its proof and its reference set beside it. If the reference lacks colour images or
            other outputs, they are not checked, and the record says so.
        data: The data that it was trained on, for the whole validation split; by default the images inside the
            reference set are used.
        cache: Folder with decoded data sets.
        names: The engines to verify it on; by default those of its format that are installed.

    Raises:
        ConversionError: Proof or reference set is missing or broken, or belongs to another file.
        GateError: A check failed.
        ModelFileError: The file cannot be read, or an engine refuses it.
        MissingExtraError: No engine that runs the file is installed.
        DataError: The data cannot be opened.
    """
    # Loaded as on a device, so that a wrong spec is refused with the same message.
    rows = [engines.choose(model, name) for name in names]
    spec = Classifier(model, engine=names[0] if names else None).spec
    if not spec.is_adopted and formats.find(suffix_of(model), spec.format) is None:
        raise ConversionError(
            f"{model} has the format {spec.format!r}",
            "one of " + ", ".join(FORMATS),
            "Verify it with the version of pneumo-edge that made it",
        )
    record = proof.load(model)
    proof.check(model, record)
    if record.threshold != spec.decision.threshold:
        raise ConversionError(
            f"the proof {proof.path(model)} has the threshold {record.threshold}",
            f"{spec.decision.threshold}, as in the ModelSpec of {model.name}",
            "Copy the file and its proof again from where they come from",
        )
    row = formats.find(suffix_of(model), spec.format) or formats.adopted(
        _adopted_record(model, spec, record.origin.format)
    )
    dataset = None
    if data:
        read = spec.data.options | {"patient_pattern": spec.data.patient_pattern}
        try:
            source = open_source(data.with_defaults(read), task=spec.task)
            dataset = prepare(source, cache, spec.input.height, spec.input.width)
        except DataError as error:
            made = "measured" if spec.is_trained_elsewhere else "trained"
            raise DataError(
                error.given,
                f"the data that {model.name} was {made} on ({spec.data.name})",
                "Give that data, or omit --data to verify on the reference set beside the file",
            ) from error
    held_against = reference.load(model.with_name(reference.file_name(record.origin.backbone)), dataset)
    count = len(held_against.labels)
    described = f"the validation split, {count} images" if data else f"{count} images of the validation split"
    unchecked = [output.name for output in spec.outputs if output.name not in held_against.outputs]
    if not len(held_against.red):
        unchecked.append("order of the colour channels")
    if unchecked:
        described += f" (not checked: {', '.join(unchecked)})"
    remedy = f"Do not use it here; it passed with {_passed_with(record.verification)}"
    candidate = Candidate(model, row, spec.task.positive_index, remedy, spec if spec.is_adopted else None)
    verified = verify(candidate, held_against, described, spec.decision.threshold, rows=rows)
    return replace(verified, remark=_other_bounds(model, record, row))


def _adopted_record(model: Path, spec: ModelSpec, recorded: FormatRecord) -> FormatRecord:
    """The guarantees of an adopted file: of its proof, only the engines count, which no file shows.

    Raises:
        ConversionError: An engine of the proof does not run such files.
    """
    rows = engines.engines_for(model)
    named = tuple(row.name for row in rows if row.name in recorded.engines)
    if not named or len(named) != len(recorded.engines):
        raise ConversionError(
            f"the proof {proof.path(model)} names the engines {', '.join(recorded.engines) or 'none'}",
            f"engines that run {model.suffix} files: {' or '.join(row.name for row in rows)}",
            "Copy it again, or adopt the model again",
        )
    given = Given({spec.input.name: pixels.shape(spec.input)})
    is_quantized = engines.load_any(model, engines.choose(model), given=given).is_quantized
    return formats.of_another_tool(suffix_of(model), named, is_quantized)


def _other_bounds(model: Path, record: proof.Proof, row: Format) -> str:
    """A remark on the bounds that a proof records, where they are not those that the file was now checked with."""
    bounds = asdict(row.bounds)
    every = bounds | asdict(row.output_bounds)
    recorded = (
        record.verification.bounds.items() - every.items()
        | asdict(record.origin.format.bounds).items() - bounds.items()
    )
    if not recorded:
        return ""
    listed = ", ".join(f"{name} {value:g}, here {every.get(name, 'none')}" for name, value in sorted(recorded))
    return f"{proof.path(model)} records other bounds than those that were checked here: {listed}"


def _passed_with(verification: VerificationSpec) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in verification.engines.items())
    return f"{versions} on {verification.processor}" if verification.processor else versions


@dataclass(frozen=True)
class VerifiedAgain:
    """What :func:`verify_again` measured, and its remark on the proof."""

    verification: VerificationSpec
    remark: str


def verify_in_subprocess(model: Path, data: DataSource | None, cache: Path, names: Sequence[str] = ()) -> VerifiedAgain:
    """Call :func:`verify_again` in a separate process, because the file is not trusted yet.

    Raises:
        PneumoEdgeError: As :func:`verify_again`.
        ModelFileError: An engine crashed on the file, or the checks took too long.
    """
    question = _Question(str(model), data, str(cache), tuple(names))
    return subprocesses.call_untrusted(_verify, question, f"an engine on {model}", _SECONDS)


@dataclass(frozen=True)
class _Question:
    """The arguments of :func:`verify_again`."""

    model: str
    data: DataSource | None
    cache: str
    names: tuple[str, ...] = ()


def _verify(question: _Question) -> VerifiedAgain:
    verified = verify_again(Path(question.model), question.data, Path(question.cache), question.names)
    return VerifiedAgain(verified.verification, verified.remark)


def installed_engines(row: Format) -> list[engines.EngineInfo]:
    """Engines of a format that are installed here, best first.

    Raises:
        MissingExtraError: There is none.
    """
    # An adopted file may name an engine of a package that is not here.
    rows = [engines.ENGINES[name] for name in row.engines if name in engines.ENGINES]
    installed = [engine for engine in rows if engine.is_installed]
    if not installed:
        raise engines.none_installed(f"no engine that can verify {row.id} is installed", rows)
    return installed
