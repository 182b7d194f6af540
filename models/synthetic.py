"""Made-up series for tests and trials: what normal looks like, and things that are not."""

import numpy as np

from models.base import Array, Integers

START_MS = 1_700_000_000_000
STEP_MS = 300_000


def times(rows: int, step_ms: int = STEP_MS, start_ms: int = START_MS) -> Integers:
    """Regular timestamps (rows,) in milliseconds."""
    return start_ms + np.arange(rows, dtype=np.int64) * step_ms


def daily(rows: int, seed: int = 0, period: int = 288, noise: float = 1.0) -> Array:
    """A day's rhythm with its first harmonic, autocorrelated noise on top: (rows,)."""
    rng = np.random.default_rng(seed)
    phase = 2 * np.pi * np.arange(rows) / period
    rhythm = 50.0 + 10.0 * np.sin(phase) + 4.0 * np.cos(2 * phase)
    return np.asarray(rhythm + noise * autocorrelated(rows, rng))


def autocorrelated(rows: int, rng: np.random.Generator, weight: float = 0.6) -> Array:
    """Noise that remembers: AR(1) with unit variance, (rows,)."""
    shocks = rng.normal(size=rows) * np.sqrt(1.0 - weight**2)
    noise = np.empty(rows)
    last = rng.normal()
    for row, shock in enumerate(shocks):
        last = weight * last + shock
        noise[row] = last
    return noise


def noise(rows: int, seed: int = 0) -> Array:
    """Independent normal values around 100, deviation 5: (rows,)."""
    return np.asarray(np.random.default_rng(seed).normal(100.0, 5.0, rows))


def bursts(rows: int, seed: int = 0, rate: float = 0.02) -> Array:
    """A sparse counter: mostly 0, now and then a few: (rows,)."""
    rng = np.random.default_rng(seed)
    return np.asarray((rng.random(rows) < rate) * rng.poisson(3.0, rows), np.float64)


def with_spike(values: Array, at: int, size: float) -> Array:
    """The values with one point moved by `size`."""
    changed = values.copy()
    changed[at] += size
    return changed


def with_shift(values: Array, at: int, size: float) -> Array:
    """The values with everything from `at` on moved by `size`."""
    changed = values.copy()
    changed[at:] += size
    return changed


def with_flatline(values: Array, at: int) -> Array:
    """The values stuck at what they were at `at`."""
    changed = values.copy()
    changed[at:] = changed[at]
    return changed
