from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from pneumo_edge.evaluation.metrics import confusion
from pneumo_edge.evaluation.subgroups import sensitivity_by_kind

_IMAGE = st.tuples(st.integers(0, 1), st.booleans(), st.sampled_from(["", "bacteria", "virus"]))


@given(st.lists(_IMAGE, max_size=40))
def test_each_kind_has_the_share_of_its_positive_images_and_wilsons_interval(
    images: list[tuple[int, bool, str]],
) -> None:
    labels = np.array([label for label, _, _ in images], dtype=np.int64)
    decisions = np.array([decision for _, decision, _ in images], dtype=np.bool_)
    found = sensitivity_by_kind(labels, decisions, [kind for _, _, kind in images])
    assert list(found) == sorted({kind for label, _, kind in images if label and kind})
    for kind, part in found.items():
        called = [decision for label, decision, of_kind in images if label and of_kind == kind]
        assert part.images == len(called)
        assert part.sensitivity.value == pytest.approx(np.mean(called))
        theirs = proportion_confint(sum(called), len(called), method="wilson")
        assert (part.sensitivity.low, part.sensitivity.high) == pytest.approx(theirs, abs=1e-9)


def test_kinds_of_all_positives_add_up_to_the_sensitivity() -> None:
    random = np.random.default_rng(0)
    labels, decisions = random.integers(0, 2, 200), random.random(200) < 0.6
    found = sensitivity_by_kind(labels, decisions, np.where(random.random(200) < 0.4, "virus", "bacteria").tolist())
    hits = sum(part.images * part.sensitivity.value for part in found.values())
    assert hits / labels.sum() == pytest.approx(confusion(labels, decisions).sensitivity.value)


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="not of the same images"):
        sensitivity_by_kind(np.array([1, 0]), np.array([True, False]), ["virus"])
