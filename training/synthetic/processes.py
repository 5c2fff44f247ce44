"""Stochastic processes: Gaussian processes by spectral sampling, and exponential-smoothing state-space models."""

from __future__ import annotations

import numpy as np

from training.synthetic import profiles
from training.synthetic.draws import Generator, Rows, log_uniform, normal, standardise, steps
from training.synthetic.noise import noise


def _spectral(rng: Generator, count: int, length: int) -> Rows:
    """Stationary Gaussian processes of unit spread from random Fourier coefficients on a circle of twice the length.

    Kernels: squared exponential, Matern 3/2-like, power law, and a narrow band (quasi-periodic).
    """
    circle = 2 * length
    frequency = (np.arange(1, length + 1, dtype=np.float32) / circle)[None]
    kind = rng.choice(4, (count, 1), p=[0.3, 0.3, 0.25, 0.15])
    scaled = frequency * log_uniform(rng, 4, 300, (count, 1))
    exponent = rng.uniform(0.5, 3.5, (count, 1)).astype(np.float32)
    centre = 1 / log_uniform(rng, 4, 200, (count, 1))
    band = (frequency - centre) / (centre * rng.uniform(0.01, 0.3, (count, 1)))
    kernels = [
        np.exp(-0.5 * (np.pi * scaled) ** 2),
        1 / (1 + (2 * np.pi * scaled) ** 2),
        frequency ** (-exponent / 2),
        np.exp(-0.5 * np.minimum(band**2, 80)),
    ]
    size = np.select([kind == k for k in range(4)], kernels).astype(np.float32)
    wave = np.zeros((count, length + 1), dtype=np.complex64)
    wave[:, 1:] = size * (normal(rng, count, length) + 1j * normal(rng, count, length))
    return standardise(np.fft.irfft(wave, circle)[:, :length].astype(np.float32))


def gaussian(rng: Generator, count: int, length: int) -> Rows:
    """Sums and products of random kernels, most with a periodic one, and a little noise."""
    y = _spectral(rng, count, length)
    second = _spectral(rng, count, length) * log_uniform(rng, 0.2, 3, (count, 1))
    y = np.where(rng.random((count, 1)) < 0.5, y + second, y)
    usual = rng.choice([4, 7, 12, 24, 24, 48, 52, 96, 168, 288, 336, 365], count)
    period = np.where(rng.random(count) < 0.7, usual, log_uniform(rng, 3, 400, count)).astype(np.float32)
    season = profiles.season(rng, period, length)
    kind = rng.random((count, 1))
    lifted = season - season.min(axis=1, keepdims=True) * rng.random((count, 1))
    added = y + season * log_uniform(rng, 0.2, 4, (count, 1))
    y = np.where(kind < 0.5, added, np.where(kind < 0.7, y * lifted, y))
    y = y + normal(rng, count, 1) * 2 * steps(length) / length * (rng.random((count, 1)) < 0.3)
    return (y + normal(rng, count, length) * log_uniform(rng, 0.005, 0.5, (count, 1))).astype(np.float32)


def smoothing(rng: Generator, count: int, length: int) -> Rows:
    """Series that exponential smoothing with damped trend and season (Hyndman et al. 2008, A-Ad-A) would generate."""
    period = rng.choice([1, 4, 4, 5, 7, 7, 12, 12, 12, 24, 48, 52], count)
    table = np.take_along_axis(
        profiles.tables(rng, period.astype(np.float32)),
        (np.arange(52)[None] % period[:, None] * (profiles.PHASES // period)[:, None]).astype(np.intp),
        axis=1,
    )
    season = np.ascontiguousarray(table.T) * log_uniform(rng, 0.3, 8, count) * (period > 1)
    shocks = np.ascontiguousarray(noise(rng, count, length).T)
    alpha = rng.choice([0.02, 0.1, 0.3, 0.6, 0.95], count).astype(np.float32)
    beta = alpha * rng.choice([0, 0, 0.02, 0.1, 0.3], count).astype(np.float32)
    gamma = (1 - alpha) * rng.choice([0, 0.03, 0.1, 0.4], count).astype(np.float32)
    damping = rng.choice([0.8, 0.9, 0.97, 0.995], count).astype(np.float32)
    level = np.zeros(count, dtype=np.float32)
    slope = normal(rng, count) * log_uniform(rng, 0.005, 0.3, count)
    drift = normal(rng, count) * log_uniform(rng, 0.003, 0.2, count) * (rng.random(count) < 0.4)
    y = np.empty((length, count), dtype=np.float32)
    row = np.arange(count)
    for t in range(length):
        now = t % period
        y[t] = level + slope + season[now, row] + shocks[t]
        level = level + slope + drift + alpha * shocks[t]
        slope = damping * slope + beta * shocks[t]
        season[now, row] += gamma * shocks[t]
    y = standardise(y.T)
    grows = rng.random((count, 1)) < 0.4
    return np.where(grows, np.exp(y * log_uniform(rng, 0.05, 0.7, (count, 1))), y).astype(np.float32)
