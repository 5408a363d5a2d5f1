"""When one way is taken for better than another."""

import numpy as np

from recsys_spark.validation.tried import gains, surely_less


def test_less_is_sure_from_two_standard_errors_of_the_difference_on() -> None:
    rng = np.random.default_rng(2)
    best = rng.random(400)
    noise = rng.normal(size=400)
    noise = (noise - noise.mean()) / noise.std()  # differences of mean 0 and deviation 1: an error of 1 / 20
    assert surely_less(best, best + 0.101 + noise)
    assert not surely_less(best, best + 0.099 + noise)
    assert not surely_less(best, best)
    assert gains(0.051 + noise)
    assert not gains(0.049 + noise)
    assert not gains(np.zeros(9))
