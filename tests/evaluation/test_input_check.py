from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import distance  # noqa: TID253

from pneumo_edge.evaluation.input_check import Familiar, Features, learn
from pneumo_edge.spec import InputCheckSpec


def _as_spec(familiar: Familiar) -> InputCheckSpec:
    return InputCheckSpec(tuple(familiar.mean.tolist()), tuple(familiar.scale.tolist()), familiar.limit, 0.99, "a test")


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(2, 60))
def test_the_distance_is_the_standardized_one_of_scipy_and_the_device_has_the_same(
    seed: int, features: int, images: int
) -> None:
    random = np.random.default_rng(seed)
    values = random.normal(random.normal(0, 3, features), random.uniform(0.5, 5, features), (images, features))
    familiar = learn(values, range(images))
    others = random.normal(0, 4, (5, features))
    variances = np.maximum(values.std(axis=0), 1e-3) ** 2
    theirs = distance.cdist(others, values.mean(axis=0)[np.newaxis], "seuclidean", V=variances)[:, 0]
    assert familiar.distances(others) == pytest.approx(theirs / np.sqrt(features))
    on_device = [_as_spec(familiar).distance(each.tolist()) for each in others]
    assert on_device == pytest.approx(familiar.distances(others).tolist())


@given(st.integers(0, 2**32 - 1))
def test_new_patients_from_the_same_place_pass_and_those_from_elsewhere_do_not(seed: int) -> None:
    random = np.random.default_rng(seed)

    def images(patients: int, shift: float) -> Features:
        of_patient = np.repeat(random.normal(0, 0.8, (patients, 16)), 3, axis=0)
        return np.asarray(of_patient + random.normal(0, 0.6, (3 * patients, 16)) + shift)

    familiar = learn(images(400, 0), np.repeat(np.arange(400), 3).tolist())
    assert np.mean(familiar.distances(images(1000, 0)) > familiar.limit) < 0.03
    assert np.mean(familiar.distances(images(100, 2.5)) > familiar.limit) > 0.95


def test_a_feature_that_never_varied_does_not_make_everything_foreign() -> None:
    random = np.random.default_rng(0)
    values = np.column_stack([random.normal(0, 1, 200), np.zeros(200)])
    familiar = learn(values, range(200))
    assert np.isfinite(familiar.distances(values)).all()
    assert np.mean(familiar.distances(values) <= familiar.limit) >= 0.99


def test_with_few_patients_all_that_was_seen_passes() -> None:
    values = np.random.default_rng(0).normal(0, 1, (30, 4))
    familiar = learn(values, range(30))
    assert familiar.limit == familiar.distances(values).max()
