"""Bounds for samples: what keeps to a bound as a whole passes in nearly every sample, what does not is found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumo_edge.converters.chance import ONE_IN, most_changed, most_mean


@given(st.integers(1, 2000), st.data())
def test_the_number_is_that_of_the_hypergeometric_distribution(of: int, data: st.DataObject) -> None:
    images, share = data.draw(st.integers(1, of)), data.draw(st.sampled_from([0.0, 0.005, 0.02, 0.1, 0.5]))
    most = most_changed(images, of, share)
    changed = max(int(share * of + 1e-9), 1) if share else 0
    if images == of:
        assert most == changed
        return
    stats = pytest.importorskip("scipy.stats")
    drawn = stats.hypergeom(of, changed, images)
    assert drawn.sf(most) < 1 / ONE_IN + 1e-9, "more are too many"
    assert most == 0 or drawn.sf(most - 1) >= 1 / ONE_IN - 1e-9, "so many are not"


def test_two_of_65_pass_where_two_of_100_do_and_the_whole_is_held_strictly() -> None:
    assert most_changed(65, 523, 0.02) >= 2
    assert most_changed(100, 523, 0.02) < 10
    assert most_changed(523, 523, 0.02) == 10
    assert most_changed(65, 523, 0.0) == 0
    assert most_changed(10, 10, 0.02) == 1


@given(st.integers(2, 60), st.integers(0, 1000))
def test_the_mean_of_a_whole_is_held_strictly_and_that_of_a_sample_by_its_error(images: int, seed: int) -> None:
    sample = np.random.default_rng(seed).random(images)
    assert most_mean(sample, images, 0.05) == 0.05
    assert 0.05 < most_mean(sample, 10 * images, 0.05) < 0.05 + 2.4 * sample.std() / np.sqrt(images)
    assert most_mean(np.full(images, 0.3), 10 * images, 0.05) == pytest.approx(0.05)
