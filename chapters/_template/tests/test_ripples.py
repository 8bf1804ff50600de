import numpy as np
import pytest
from one_step_trap.core.stats import Interval
from one_step_trap.errors import BookError
from one_step_trap.ripples import decay


def test_half_life_by_hand():
    assert decay.half_life(np.array([1, 0.5, 0.25])) == pytest.approx(1)


def test_without_noise_the_half_life_is_that_of_the_formula():
    measured = decay.heights(0.9, 20, 0.0, np.random.default_rng(0))
    assert decay.half_life(measured) == pytest.approx(
        np.log(2) / -np.log(0.9)
    )


def test_the_interval_covers_the_truth_and_the_seed_decides():
    lives = decay.half_lives(0.9, 200, np.random.default_rng(1))
    assert np.array_equal(
        lives, decay.half_lives(0.9, 200, np.random.default_rng(1))
    )
    mean = decay.mean_half_life(lives, np.random.default_rng(2))
    assert isinstance(mean, Interval)
    assert mean.low < np.log(2) / -np.log(0.9) < mean.high


def test_bad_input():
    with pytest.raises(BookError, match="rng must be a"):
        decay.half_lives(0.9, 10, 0)
