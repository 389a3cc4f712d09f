from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import distance  # noqa: TID253

from pneumo_edge.evaluation.input_check import Features, carry_over, learn
from pneumo_edge.spec import InputCheckSpec


def _learn(features: Features, patients: list[int], parts: tuple[int, ...] | None = None) -> InputCheckSpec:
    return learn(features, parts or (features.shape[1],), patients, "a test")


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 20), min_size=1, max_size=4), st.integers(2, 60))
def test_the_distance_is_the_standardized_one_of_scipy_in_the_part_where_it_is_largest(
    seed: int, parts: list[int], images: int
) -> None:
    random = np.random.default_rng(seed)
    features = sum(parts)
    values = random.normal(random.normal(0, 3, features), random.uniform(0.5, 5, features), (images, features))
    check = _learn(values, list(range(images)), tuple(parts))
    others = random.normal(0, 4, (5, features))
    # With five digits, as a spec has them.
    means, deviations = (
        np.array([float(f"{value:.5g}") for value in each])
        for each in (values.mean(axis=0), np.maximum(values.std(axis=0), 0.25))
    )

    def theirs(of: Features, part: slice, scale: Features) -> Features:
        distances = distance.cdist(of[:, part], means[np.newaxis, part], "seuclidean", V=scale[part] ** 2)[:, 0]
        return np.asarray(distances / np.sqrt(part.stop - part.start))

    slices = [slice(end - part, end) for part, end in zip(parts, np.cumsum(parts), strict=True)]
    assert check.mean == tuple(means)
    for part in slices:
        # With so few patients a part's limit is the largest distance in it.
        scale = np.maximum(values.std(axis=0), 0.25)[part] * theirs(values, part, deviations).max()
        assert check.scale[part] == pytest.approx(scale, rel=1e-4)
    each = [theirs(others, part, np.array(check.scale)) for part in slices]
    assert check.distances(others) == pytest.approx(np.max(each, axis=0))
    assert [float(check.distances(other)) for other in others] == pytest.approx(check.distances(others).tolist())


def test_new_patients_from_the_same_place_pass_and_those_from_elsewhere_do_not() -> None:
    false_alarms = []
    for seed in range(20):
        random = np.random.default_rng(seed)

        def images(patients: int, shift: float, random: np.random.Generator = random) -> Features:
            of_patient = np.repeat(random.normal(0, 0.8, (patients, 16)), 3, axis=0)
            return np.asarray(of_patient + random.normal(0, 0.6, (3 * patients, 16)) + shift)

        check = _learn(images(400, 0), np.repeat(np.arange(400), 3).tolist(), (12, 4))
        false_alarms.append(np.mean(check.distances(images(1000, 0)) > check.limit))
        assert np.mean(check.distances(images(100, 2.5)) > check.limit) > 0.95
    assert 0.005 < np.mean(false_alarms) < 0.015


def test_what_strikes_a_small_part_is_not_lost_among_the_others() -> None:
    random = np.random.default_rng(0)
    check = _learn(random.normal(0, 1, (500, 104)), list(range(500)), (100, 4))
    image = random.normal(0, 1, 104)
    image[100:] = 4
    assert check.distances(image) > check.limit
    assert np.sqrt(np.mean(image**2)) < 1.3, "as one part it would pass"


def test_a_feature_that_never_varied_does_not_make_everything_foreign() -> None:
    random = np.random.default_rng(0)
    values = np.column_stack([random.normal(0, 1, 200), np.zeros(200)])
    check = _learn(values, list(range(200)))
    assert np.isfinite(check.distances(values)).all()
    assert np.mean(check.distances(values) <= check.limit) >= 0.99
    # A step of quantization where there never was one.
    assert check.distances(np.array([0, 0.1])) < check.limit


def test_with_few_patients_all_that_was_seen_passes() -> None:
    values = np.random.default_rng(0).normal(0, 1, (30, 4))
    check = _learn(values, list(range(30)))
    assert check.limit == check.distances(values).max()


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.2]))
def test_what_a_file_makes_of_other_images_follows_from_those_that_it_saw(seed: int, rounding: float) -> None:
    random = np.random.default_rng(seed)
    slope, offset = random.uniform(0.5, 1.5, 5), random.normal(0, 3, 5)
    network, others = random.normal(0, 1, (400, 5)), random.normal(1, 2, (700, 5))
    # One feature never varies.
    network[:, 0] = others[:, 0] = 2
    known = network * slope + offset + random.normal(0, rounding, network.shape)
    carried, exact = carry_over(known, network, others), others * slope + offset
    assert (carried - exact).std(axis=0) == pytest.approx(rounding, abs=0.25 * rounding + 1e-9)
    assert carried.mean(axis=0) == pytest.approx(exact.mean(axis=0), abs=0.3 * rounding + 1e-9)


@pytest.mark.parametrize("parts", [(), (3,), (2, 0), (3, -1)])
def test_parts_that_are_not_of_all_components_are_refused(parts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="parts are"):
        InputCheckSpec((0.0, 0.0), (1.0, 1.0), parts, 1.0, 0.99, "a test")
