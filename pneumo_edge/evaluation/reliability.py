"""Calibration of probabilities: among images with probability p, a share p should be positive.

Bins are of equal mass: every bin has as many images as the others, so far as images with one probability, which
always share a bin, allow it. A classifier's probabilities crowd at both ends; in bins of equal width nearly all
images fall into the first and the last, and the few others are bins of noise. Of the two, equal mass estimates the
calibration error with less bias (Nixon et al., CVPR Workshops 2019; Roelofs et al., AISTATS 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pneumo_edge.evaluation.metrics import Interval, Labels, Scores, wilson
from pneumo_edge.evaluation.tally import Counts, Tally, tally

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Images of neighbouring probabilities: their number, their mean probability, and the share that is positive."""

    images: int
    mean_probability: float
    observed: Interval


def brier_score(labels: Labels, scores: Scores) -> float:
    """Mean squared difference of probability and label (Brier, Monthly Weather Review 1950); 0 is perfect.

    Raises:
        ValueError: As :func:`~pneumo_edge.evaluation.tally.tally`.
    """
    return float(brier_scores(tally(labels, scores))[0])


def expected_calibration_error(labels: Labels, scores: Scores, bins: int = BINS) -> float:
    """Mean distance of a bin's mean probability from the share of its images that is positive, by images.

    That is the expected calibration error of Guo et al. (ICML 2017) for the probability of class 1, in bins
    of equal mass. Noise in the bins adds to it: :func:`calibration_error_by_chance` says how much.

    Raises:
        ValueError: As :func:`~pneumo_edge.evaluation.tally.tally`, or ``bins`` is less than 1.
    """
    return float(calibration_errors(tally(labels, scores), bins)[0])


def calibration_error_by_chance(scores: Scores, bins: int = BINS, draws: int = 1000, seed: int = 0) -> Interval:
    """The expected calibration error that a perfectly calibrated model would show on so many images.

    Labels are drawn from the probabilities themselves (consistency resampling: Bröcker and Smith, Weather and
    Forecasting 2007).

    Args:
        scores: Probabilities of class 1, shape (images,).
        bins: Number of bins.
        draws: How often labels are drawn.
        seed: Chooses the draws.

    Returns:
        The mean over draws, and the range that holds the central 95 % of them.

    Raises:
        ValueError: As :func:`~pneumo_edge.evaluation.tally.tally`, or ``bins`` is less than 1.
    """
    scores = np.asarray(scores, dtype=np.float64)
    once = tally(np.zeros(scores.shape, dtype=np.int64), scores)
    generator = np.random.default_rng(seed)
    images = once.negatives[0]
    # The draws of all images of one score, image by image, in the order of the scores.
    drawn = generator.random((draws, len(scores))) < np.repeat(once.scores, images)
    positives = np.add.reduceat(drawn.astype(np.int64), np.cumsum(images) - images, axis=1)
    errors = calibration_errors(Tally(once.scores, positives, images - positives), bins)
    low, high = np.quantile(errors, (0.025, 0.975))
    return Interval(float(errors.mean()), float(low), float(high))


def reliability(labels: Labels, scores: Scores, bins: int = BINS) -> tuple[Bin, ...]:
    """The rows of a reliability diagram, by rising probability; the observed share has its Wilson interval.

    There are fewer than ``bins`` rows where equal probabilities leave a bin empty.

    Raises:
        ValueError: As :func:`~pneumo_edge.evaluation.tally.tally`, or ``bins`` is less than 1.
    """
    counted = tally(labels, scores)
    bin_of = _equal_mass(counted, bins)[0]
    positives, images = counted.positives[0], (counted.positives + counted.negatives)[0]
    rows = []
    for number in np.unique(bin_of):
        inside = bin_of == number
        total = int(images[inside].sum())
        mean = float((counted.scores * images)[inside].sum() / total)
        rows.append(Bin(total, mean, wilson(int(positives[inside].sum()), total)))
    return tuple(rows)


def brier_scores(counted: Tally) -> Scores:
    """Brier score for each weighting, shape (weightings,)."""
    squares = counted.positives * (1 - counted.scores) ** 2 + counted.negatives * counted.scores**2
    return np.asarray(squares.sum(axis=1) / counted.images)


def calibration_errors(counted: Tally, bins: int = BINS) -> Scores:
    """Expected calibration error for each weighting, in its own bins, shape (weightings,)."""
    weightings = len(counted.positives)
    gaps = (counted.positives + counted.negatives) * counted.scores - counted.positives
    cells = _equal_mass(counted, bins) + bins * np.arange(weightings)[:, np.newaxis]
    by_bin = np.bincount(cells.ravel(), weights=gaps.ravel(), minlength=weightings * bins).reshape(weightings, bins)
    return np.asarray(np.abs(by_bin).sum(axis=1) / counted.images)


def _equal_mass(counted: Tally, bins: int) -> Counts:
    """The bin of each score, from 0, shape (weightings, scores): where the middle one of its images falls."""
    if bins < 1:
        raise ValueError(f"bins is {bins}, not at least 1")
    images = counted.positives + counted.negatives
    twice_the_middle = 2 * images.cumsum(axis=1) - images
    # A score that a weighting leaves out may lie behind the last image.
    return np.asarray(np.minimum(twice_the_middle * bins // (2 * counted.images[:, np.newaxis]), bins - 1))
