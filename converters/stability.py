"""Checks that a calibrated file depends little on the choice of calibration images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from pneumo_edge.converters import acceptance, chance, convert
from pneumo_edge.converters.acceptance import ROUNDING, Candidate
from pneumo_edge.converters.convert import Conversions
from pneumo_edge.converters.prepare import Prepared
from pneumo_edge.converters.verify import IMAGES_FURTHER_ON, Verified, installed_engines
from pneumo_edge.errors import GateError
from pneumo_edge.evaluation.metrics import decide, mean_distances
from pneumo_edge.formats import Format
from pneumo_edge.spec import CalibrationSpec


def check(prepared: Prepared, conversions: Conversions, share: float, verified: Verified) -> CalibrationSpec | None:
    """Describe the calibration of a file, and its agreement with a file that was calibrated on other images.

    Args:
        prepared: The inputs of the conversion.
        conversions: The file, and the one to compare it with, which is waited for.
        share: The share of its ranges, see :attr:`pneumo_edge.converters.interface.Converted.share`.
        verified: The results of its verification.

    Returns:
        None where the format is not calibrated.

    Raises:
        ConversionError: The other file could not be made.
        GateError: The files do not agree.
        ModelFileError: The engine refused a file.
    """
    row, images = conversions.row, prepared.representative
    if not row.calibrated:
        return None
    calibrated = CalibrationSpec(images.images, images.manifest, share)
    if conversions.other is None:
        return calibrated
    convert.finish(conversions.other, f"{conversions.file.path.name} on other calibration images")
    file, other = conversions.file.path, conversions.other.path
    stability = compare_calibrations(file, other, row, verified, prepared.opened.run.task.positive_index)
    return replace(calibrated, stability=stability)


def compare_calibrations(
    path: Path, other: Path, row: Format, verified: Verified, positive: int | None
) -> dict[str, float]:
    """Compare a calibrated file with one whose ranges come from other images; they should hardly differ.

    Args:
        path: The model file.
        other: The same network, calibrated on other images; it is compared on as many images as a further engine.
        row: Their format; its bounds for mean difference and agreement apply.
        verified: The results of the acceptance checks of the first file.
        positive: Index of the positive class in the files' output; None where there is none.

    Returns:
        ``images``, ``agreement`` and ``mean_difference``.

    Raises:
        GateError: A check failed: the representative dataset is too small for this network.
        ModelFileError: The engine refused a file.
    """
    answers, threshold = verified.file_answers.subset(IMAGES_FURTHER_ON), verified.threshold
    loaded = acceptance.load(Candidate(other, row, positive), installed_engines(row)[0], threads=1)
    first, second = answers.scores, acceptance.ask(loaded, answers).scores
    differences = mean_distances(first, second)
    difference, changed = float(differences.mean()), int(np.sum(decide(first, threshold) != decide(second, threshold)))
    most_changed = chance.most_changed(len(first), answers.of, 1 - row.bounds.min_agreement)
    most_mean = chance.most_mean(differences, answers.of, row.bounds.mean_difference)
    agreement = 1 - changed / len(first)
    if difference > most_mean + ROUNDING or changed > most_changed:
        raise GateError(
            f"{path.name} and the same network calibrated on other training images agree on {agreement:.1%} of "
            f"{len(first)} decisions, with a mean difference of probability of {difference:.3g}",
            f"at most {most_changed} changed ones and a mean difference of at most {most_mean:.3g}",
            "Calibrate on more images, or use a format whose activations stay in float",
        )
    return {"images": float(len(first)), "agreement": agreement, "mean_difference": difference}
