"""adapters.deviations: the closed forms against simulation of the same equations."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from adapters.deviations import Smoothing, Theta, smoothing_deviation, theta_deviation

Array = npt.NDArray[np.float64]
PATHS, STEPS = 40_000, 10


def paths_of_smoothing(model: Smoothing, level: float, slope: float, season: Array, multiply: bool) -> Array:
    """Draw (steps, paths) from the state-space equations of an exponential smoothing model."""
    rng = np.random.default_rng(0)
    levels, slopes = np.full(PATHS, level), np.full(PATHS, slope)
    seasons = np.repeat(season[:, None], PATHS, axis=1)
    drawn = np.empty((STEPS, PATHS))
    for h in range(STEPS):
        now = h % model.period
        base = levels + model.damping * slopes
        mean = base * seasons[now] if multiply else base + seasons[now]
        noise = rng.normal(size=PATHS) * np.sqrt(model.variance)
        error = mean * noise if model.multiplicative_error else noise
        drawn[h] = mean + error
        shock = base * noise if multiply else error
        levels = base + model.level * shock
        slopes = model.damping * slopes + model.trend * shock
        seasons[now] += model.seasonal * (seasons[now] * noise if multiply else error)
    return drawn


@pytest.mark.parametrize("damping", [1.0, 0.9])
@pytest.mark.parametrize(
    ("multiplicative_error", "multiply", "variance"), [(False, False, 4.0), (True, False, 0.003), (True, True, 0.003)]
)
def test_smoothing_spreads_as_its_simulated_paths(
    multiplicative_error: bool, multiply: bool, variance: float, damping: float
) -> None:
    model = Smoothing(
        level=0.4,
        trend=0.05,
        seasonal=0.2,
        damping=damping,
        period=4,
        multiplicative_error=multiplicative_error,
        variance=variance,
    )
    season = np.array([1.2, 0.9, 1.1, 0.8]) if multiply else np.array([3.0, -2, 1, -2])
    repeated = np.resize(season, STEPS)
    trend = 50 + 0.7 * np.cumsum(damping ** np.arange(1, STEPS + 1))
    mean = trend * repeated if multiply else trend + repeated
    factors = repeated if multiply else np.ones(STEPS)

    deviation = smoothing_deviation(model, mean, factors)

    simulated = paths_of_smoothing(model, 50, 0.7, season, multiply).std(axis=1)
    np.testing.assert_allclose(deviation, simulated, rtol=0.02)


def paths_of_theta(model: Theta, level: float, mean: float, slope: float) -> Array:
    """Draw (steps, paths) from the dynamic theta model, whose line is fitted again at each step."""
    rng = np.random.default_rng(1)
    levels, means, slopes = np.full(PATHS, level), np.full(PATHS, mean), np.full(PATHS, slope)
    drawn = np.empty((STEPS, PATHS))
    for h in range(STEPS):
        t = model.observations + 1 + h
        decay = (1 - model.level) ** (t - 1)
        line = (means - t / 2 * slopes) * decay + (1 - decay * (1 - model.level)) / model.level * slopes
        values = levels + (1 - 1 / model.theta) * line + rng.normal(size=PATHS) * np.sqrt(model.variance)
        levels = model.level * values + (1 - model.level) * levels
        slopes = ((t - 2) * slopes + 6 / t * (values - means)) / (t + 1)
        means = ((t - 1) * means + values) / t
        drawn[h] = values
    return drawn


@pytest.mark.parametrize(("level", "theta", "observations"), [(0.3, 5.0, 20), (0.1, 50.0, 40), (0.8, 2.0, 15)])
def test_dynamic_theta_spreads_as_its_simulated_paths(level: float, theta: float, observations: int) -> None:
    model = Theta(level=level, theta=theta, dynamic=True, observations=observations, variance=2.0)

    simulated = paths_of_theta(model, 3.0, 2.0, 0.3).std(axis=1)

    np.testing.assert_allclose(theta_deviation(model, STEPS), simulated, rtol=0.02)


def test_a_fixed_theta_line_spreads_as_simple_smoothing() -> None:
    theta = Theta(level=0.3, theta=2.0, dynamic=False, observations=20, variance=2.0)
    smoothing = Smoothing(
        level=0.3, trend=0.0, seasonal=0.0, damping=1.0, period=1, multiplicative_error=False, variance=2.0
    )

    expected = smoothing_deviation(smoothing, np.zeros(STEPS), np.ones(STEPS))

    np.testing.assert_allclose(theta_deviation(theta, STEPS), expected)
