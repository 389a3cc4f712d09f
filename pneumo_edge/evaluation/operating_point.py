"""The decision threshold and the temperature, both chosen on validation."""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from pneumo_edge.evaluation.metrics import Labels, Scores, roc

#: Keeps the logarithm finite where a probability is exactly 0 or 1.
_TINY = 1e-7


class ThresholdRule(StrEnum):
    """How the decision threshold is chosen on validation, as the ModelSpec says it."""

    YOUDEN = "Youden: largest sensitivity + specificity - 1"
    SENSITIVITY_95 = "sensitivity at least 0.95, then the largest specificity"
    ARGMAX = "argmax: the most probable class"


def choose_threshold(rule: ThresholdRule, labels: Labels, scores: Scores) -> float | None:
    """The threshold by a rule; arguments and errors as of the functions below.

    Returns:
        None for :attr:`ThresholdRule.ARGMAX`, which takes no threshold.

    Raises:
        ValueError: Scores of every class, shape (images, classes), go with that rule alone, and others do not.
    """
    if (rule is ThresholdRule.ARGMAX) != (np.ndim(scores) == 2):
        raise ValueError(f"the rule {rule.value!r} is not for scores of shape {np.shape(scores)}")
    if rule is ThresholdRule.ARGMAX:
        return None
    if rule is ThresholdRule.YOUDEN:
        return youden_threshold(labels, scores)
    return sensitivity_threshold(labels, scores, 0.95)


def youden_threshold(labels: Labels, scores: Scores) -> float:
    """The threshold with the largest Youden index (Youden, Cancer 1950), midway to the next lower score.

    Midway, because the observed score itself sits at the edge: a change in its last bit would flip it.
    Of several thresholds with that index it is the highest.

    Args:
        labels: 0 or 1, shape (images,).
        scores: Probabilities of class 1, shape (images,).

    Raises:
        ValueError: Only one class is present, or a score is NaN.
    """
    thresholds, sensitivity, false_positive_rate = roc(labels, scores)
    # Equal indices may differ in the last bit.
    return _below(thresholds, int(np.argmax(np.round(sensitivity - false_positive_rate, 12))))


def sensitivity_threshold(labels: Labels, scores: Scores, least: float) -> float:
    """The highest threshold, and so the best specificity, at which sensitivity is at least ``least``.

    Like Youden's it is put midway to the next lower score.

    Args:
        labels: 0 or 1, shape (images,).
        scores: Probabilities of class 1, shape (images,).
        least: Sensitivity to keep, above 0 to 1.

    Raises:
        ValueError: Only one class is present, or a score is NaN.
    """
    thresholds, sensitivity, _ = roc(labels, scores)
    return _below(thresholds, int(np.argmax(sensitivity >= least - 1e-12)))


def _below(thresholds: Scores, index: int) -> float:
    next_lower = thresholds[index + 1] if index + 1 < len(thresholds) else 0.0
    return float((thresholds[index] + next_lower) / 2)


def fit_temperature(labels: Labels, scores: Scores) -> float:
    """The temperature that minimizes the log loss of the rescaled logits (Guo et al., ICML 2017).

    Args:
        labels: 0 or 1, shape (images,); or the place of the class.
        scores: Probabilities of class 1, shape (images,); or of every class, shape (images, classes).

    Returns:
        A factor within 0.05 to 20 that the logits are to be divided by; above 1 the model was too sure. Where every
        image is on its side of one half, 1: the loss then only falls with the temperature, and tells of none. The same
        where the class of every image is the most probable one.
    """
    if np.ndim(scores) == 2:
        if (scores.argmax(axis=1) == labels).all() and (
            np.sort(scores, axis=1)[:, -1] > np.sort(scores, axis=1)[:, -2]
        ).all():
            return 1.0
    elif ((scores > 0.5) == (labels == 1)).all() and not (scores == 0.5).any():
        return 1.0
    # The log loss is convex in the inverse temperature, so a grid in its logarithm that is refined
    # around the best point finds the minimum to three digits.
    low, high = np.log(0.05), np.log(20.0)
    best = 1.0
    for _ in range(6):
        grid = np.exp(np.linspace(low, high, 21))
        best = float(grid[int(np.argmin([log_loss(labels, rescale(scores, t)) for t in grid]))])
        width = (high - low) / 10
        low, high = max(np.log(0.05), np.log(best) - width), min(np.log(20.0), np.log(best) + width)
    return best


def rescale(scores: Scores, temperature: float) -> Scores:
    """Probabilities after their logits were divided by a temperature: of class 1, or of every class."""
    if np.ndim(scores) == 2:
        of_class = np.log(np.clip(np.asarray(scores, dtype=np.float64), _TINY, 1)) / temperature
        shares = np.exp(of_class - of_class.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))
    return np.asarray(1 / (1 + np.exp(-logits(scores) / temperature)), dtype=np.float64)


def logits(scores: Scores | float) -> Scores:
    """The logits of probabilities of class 1, float64 of the same shape; finite also where these are 0 or 1."""
    clipped = np.clip(np.asarray(scores, dtype=np.float64), _TINY, 1 - _TINY)
    return np.asarray(np.log(clipped / (1 - clipped)))


def log_loss(labels: Labels, scores: Scores) -> float:
    """Mean cross-entropy in nats, of class 1 or of every class."""
    if np.ndim(scores) == 2:
        of_label = np.asarray(scores, dtype=np.float64)[np.arange(len(labels)), labels]
        return float(-np.mean(np.log(np.clip(of_label, _TINY, 1))))
    clipped = np.clip(np.asarray(scores, dtype=np.float64), _TINY, 1 - _TINY)
    return float(-np.mean(np.where(labels == 1, np.log(clipped), np.log1p(-clipped))))
