"""Fourth step of an export: the ModelSpec of a file that passed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pneumo_edge import backbones
from pneumo_edge.converters import convert, features, keras_model
from pneumo_edge.converters.prepare import Prepared
from pneumo_edge.converters.reference import Reference
from pneumo_edge.converters.verify import Verified
from pneumo_edge.evaluation import drift, input_check
from pneumo_edge.evaluation.conformal import (
    COUNTERFACTUAL_COVERAGE,
    COVERAGE,
    NEAREST,
    carry_over,
    class_bounds,
    conformal_bounds,
    reachable,
    widen,
)
from pneumo_edge.evaluation.metrics import Scores
from pneumo_edge.formats import Format
from pneumo_edge.spec import (
    COMPONENTS,
    CalibrationSpec,
    ConformalSpec,
    DecodingSpec,
    InputCheckSpec,
    InputSpec,
    ModelSpec,
    OutputSpec,
    ValidationDistributionSpec,
)


def describe(prepared: Prepared, row: Format, verified: Verified, calibrated: CalibrationSpec | None) -> ModelSpec:
    """Make the ModelSpec of a file.

    Args:
        prepared: The inputs of the conversion.
        row: The format of the file.
        verified: The results of its verification.
        calibrated: Its calibration; None where it was not calibrated.
    """
    run, check = prepared.opened.run, _input_check(prepared, verified)
    return ModelSpec(
        name=f"{run.backbone}-{row.name}",
        backbone=run.backbone,
        format=row.name,
        class_names=run.class_names,
        input=InputSpec(run.height, run.width, 3, row.input_dtype, "bilinear", decoding=_decoding(run.backbone)),
        decision=replace(run.decision, threshold=verified.threshold),
        temperature=run.temperature,
        # Runs of earlier versions do not name their images.
        data=replace(run.data, used_images=prepared.opened.dataset.manifest.used_images),
        training=run.training,
        versions={**run.versions, **convert.versions()},
        notice=run.notice,
        verification=verified.verification,
        calibration=calibrated,
        outputs=_outputs(prepared, verified),
        conformal=_conformal(prepared, verified),
        input_check=check,
        validation_distribution=_distribution(prepared, verified, check),
    )


def _decoding(backbone: str) -> DecodingSpec:
    """The measured setting of a backbone; images for other backbones are decoded in full."""
    row = backbones.find(backbone)
    return DecodingSpec(row.decoder_scale if row else None)


def _outputs(prepared: Prepared, verified: Verified) -> tuple[OutputSpec, ...]:
    return tuple(
        OutputSpec(
            name,
            array.shape[1:],
            keras_model.OTHER_OUTPUTS[name].describe(prepared.opened.run.task),
            name not in verified.failed_outputs,
        )
        for name, array in prepared.reference.outputs.items()
    )


def _input_check(prepared: Prepared, verified: Verified) -> InputCheckSpec | None:
    answers = verified.file_answers
    if COMPONENTS not in answers.outputs or COMPONENTS in verified.failed_outputs:
        return None
    calibrating, patients = _like_training(prepared, verified)
    chosen_on = f"{prepared.described} and {len(features.choose(prepared.opened.dataset))} training images"
    return input_check.learn(calibrating, features.parts(prepared.opened.model), patients, chosen_on)


def _like_training(prepared: Prepared, verified: Verified) -> tuple[input_check.Features, list[int]]:
    """The components of images that shall pass, and whose they are.

    First the validation images, then training images, which are far more patients, then both as at full resolution.
    Training images, and what full resolution changes, are of the Keras model, carried over to the file.
    """
    answers, dataset = verified.file_answers, prepared.opened.dataset
    network, known = prepared.reference.outputs[COMPONENTS], features.known(prepared.opened.model)
    validation = answers.outputs[COMPONENTS].astype(np.float64)
    training = input_check.carry_over(validation, network, known.training)
    entries = dataset.entries(features.choose(dataset).tolist())
    # No patient is in both splits.
    others = np.unique([entry.patient for entry in entries], return_inverse=True)[1] + answers.patients.max() + 1
    images = [validation, training, validation + known.validation_moved, training + known.training_moved]
    return np.concatenate(images), np.concatenate([answers.patients, others] * 2).tolist()


def _distribution(prepared: Prepared, verified: Verified, check: InputCheckSpec | None) -> ValidationDistributionSpec:
    """How the file's answers on the validation images are distributed, for :mod:`pneumo_edge.evaluation.drift`."""
    answers, task = verified.file_answers, prepared.opened.run.task
    patients, distances = answers.patients.tolist(), None
    if check:
        distances = input_check.held_out_distances(check, *_like_training(prepared, verified))[: len(patients)]
    return drift.describe(drift.by_class(task, answers.scores), distances, patients, prepared.described)


def _conformal(prepared: Prepared, verified: Verified) -> ConformalSpec:
    answers, task = verified.file_answers, prepared.opened.run.task
    targets = task.targets(np.arange(len(task.class_names)))
    patients = {
        name: len(np.unique(answers.patients[answers.labels == target]))
        for name, target in zip(task.class_names, targets, strict=True)
    }
    coverage = reachable(COVERAGE, min(patients.values()))
    if task.positive_class is None:
        least = class_bounds(answers.labels, answers.scores, answers.patients.tolist(), coverage)
        by_class = dict(zip(task.class_names, least, strict=True))
        return ConformalSpec(coverage, None, None, patients, prepared.described, by_class)
    patients_of = answers.patients.tolist()
    changed = _changed(prepared, answers)
    bounds = conformal_bounds(answers.labels, answers.scores, patients_of, coverage)
    if verified.threshold is not None:
        bounds = widen(bounds, answers.labels, answers.scores, changed, patients_of, verified.threshold)
    return ConformalSpec(
        coverage,
        bounds.least_positive,
        bounds.most_negative,
        patients,
        prepared.described,
        nearest=NEAREST,
        counterfactual_coverage=reachable(COUNTERFACTUAL_COVERAGE, min(patients.values())) if changed else None,
    )


def _changed(prepared: Prepared, answers: Reference) -> dict[str, Scores]:
    """What the file would make of the images of counterfactual validation, by kind."""
    validation = prepared.opened.validation
    place_of = {digest: place for place, digest in enumerate(validation.sha256)}
    places = [place_of[digest] for digest in answers.sha256.tolist()]
    return {
        kind: carry_over(answers.scores, prepared.reference.scores, scores[places])
        for kind, scores in validation.changed.items()
    }
