"""Made-up series for tests and trials: what normal looks like, and things that are not.

`FAMILIES` are kinds of operations metrics with labelled anomalies. Each is a function of a seed;
`clean=True` gives the same series before anything went wrong, equal to it bit for bit wherever
there is no label. What is drawn is meant to be as untidy as the real thing: levels, rhythms, noise
and what goes wrong differ between seeds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from models.base import Array, Flags, Integers

START_MS = 1_700_000_000_000
STEP_MS = 300_000
#: Anomalies begin after this share of a series: a detector has to learn first.
SETTLED = 0.15
#: Rows between two anomalies.
APART = 50
#: Families draw from streams of their own.
_STREAM = 7_301


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


@dataclass(frozen=True, slots=True)
class Labelled:
    """A series with what is wrong in it: times, values and labels (n,), and its step.

    `kinds` names the anomalies, in order of time.
    """

    t_ms: Integers
    values: Array
    labels: Flags
    step_ms: int
    kinds: tuple[str, ...] = ()


class Family(Protocol):
    """A kind of metric: one series for each seed."""

    def __call__(self, seed: int, *, clean: bool = False) -> Labelled:
        """The series of this seed; `clean`: without anomalies."""
        ...


class _Scene(NamedTuple):
    """A series before it is measured, and how it is: `measure` turns levels into readings."""

    level: Array
    day: int
    measure: Callable[[Array, np.random.Generator], Array]


#: What goes wrong in rows `a` to `b`: their new readings.
_Mishap = Callable[[_Scene, Array, int, int, np.random.Generator], Array]


def _exact(level: Array, rng: np.random.Generator) -> Array:
    return level


def _counted(level: Array, rng: np.random.Generator) -> Array:
    return np.asarray(rng.poisson(level), np.float64)


def _percent(level: Array, rng: np.random.Generator) -> Array:
    return np.clip(level, 0.0, 100.0)


def _times(low: float, high: float) -> _Mishap:
    """The level times one factor."""

    def mishap(s: _Scene, y: Array, a: int, b: int, rng: np.random.Generator) -> Array:
        return s.measure(s.level[a:b] * rng.uniform(low, high), rng)

    return mishap


def _plus(low: float, high: float, *, ramp: bool = False, both: bool = False) -> _Mishap:
    """The level plus something, at once or little by little; up, or in both directions."""

    def mishap(s: _Scene, y: Array, a: int, b: int, rng: np.random.Generator) -> Array:
        size = rng.uniform(low, high) * (rng.choice((-1.0, 1.0)) if both else 1.0)
        return s.measure(s.level[a:b] + size * (np.linspace(0.0, 1.0, b - a) if ramp else 1.0), rng)

    return mishap


def _worse(low: float, high: float) -> _Mishap:
    """The level times a factor that grows from one."""

    def mishap(s: _Scene, y: Array, a: int, b: int, rng: np.random.Generator) -> Array:
        growth = np.linspace(1.0, rng.uniform(low, high), b - a)
        return s.measure(s.level[a:b] * growth, rng)

    return mishap


def _restless(size: float, *, upwards: bool = False) -> _Mishap:
    """Every row times a factor of its own."""

    def mishap(s: _Scene, y: Array, a: int, b: int, rng: np.random.Generator) -> Array:
        shocks = size * rng.normal(size=b - a)
        return s.measure(s.level[a:b] * np.exp(np.abs(shocks) if upwards else shocks), rng)

    return mishap


def _stuck(jitter: float = 0.0) -> _Mishap:
    """The last reading again and again."""

    def mishap(s: _Scene, y: Array, a: int, b: int, rng: np.random.Generator) -> Array:
        return np.asarray(y[a - 1] + jitter * rng.normal(size=b - a))

    return mishap


def _wrong_time(s: _Scene, y: Array, a: int, b: int, rng: np.random.Generator) -> Array:
    """What would be normal half a day earlier."""
    back = s.day // 2
    return s.measure(s.level[a - back : b - back], rng)


def _pinned(low: float, high: float, spread: float) -> _Mishap:
    """About one value, whatever the level."""

    def mishap(s: _Scene, y: Array, a: int, b: int, rng: np.random.Generator) -> Array:
        return s.measure(rng.uniform(low, high) + spread * rng.normal(size=b - a), rng)

    return mishap


def web(seed: int, *, clean: bool = False) -> Labelled:
    """Requests in five minutes, four weeks: day and week, noise in proportion, small counts."""
    rng, wrong = _streams("web", seed)
    t = np.arange(28 * 288)
    week = np.where(t // 288 % 7 >= 5, rng.uniform(0.5, 0.95), 1.0)
    noise = rng.uniform(0.03, 0.1) * autocorrelated(len(t), rng, 0.7)
    trend = rng.uniform(-0.1, 0.2) * t / len(t)
    size = 10 ** rng.uniform(1.0, 5.0)
    level = size * week * np.exp(_rhythm(t, 288, rng, 0.6, 0.25) + noise + trend)
    scene = _Scene(level, 288, _counted if size < 1000.0 else _exact)
    mishaps = {
        "outage": _times(0.0, 0.3),
        "surge": _times(1.6, 3.0),
        "stuck": _stuck(),
        "wrong time of day": _wrong_time,
        "restless": _restless(0.4),
    }
    return _played(scene, mishaps, 6, (6, 72), STEP_MS, rng, None if clean else wrong)


def latency(seed: int, *, clean: bool = False) -> Labelled:
    """Latency every five minutes, four weeks: a heavy upper tail, little rhythm."""
    rng, wrong = _streams("latency", seed)
    t = np.arange(28 * 288)
    noise = rng.uniform(0.06, 0.15) * autocorrelated(len(t), rng, 0.8)
    tail = rng.gamma(0.5, rng.uniform(0.1, 0.25), len(t))
    level = 10 ** rng.uniform(0.0, 3.0) * np.exp(_rhythm(t, 288, rng, 0.15, 0.0) + noise + tail)
    mishaps = {
        "level": _times(1.6, 3.0),
        "ramp": _worse(2.0, 4.0),
        "bursts": _restless(0.9, upwards=True),
        "drop": _times(0.3, 0.6),
    }
    scene = _Scene(level, 288, _exact)
    return _played(scene, mishaps, 6, (6, 72), STEP_MS, rng, None if clean else wrong)


def machine(seed: int, *, clean: bool = False) -> Labelled:
    """Per cent of a machine every minute, one week: saw teeth, periodic jobs, a mild day."""
    rng, wrong = _streams("machine", seed)
    t = np.arange(7 * 1440)
    teeth, hourly = int(rng.integers(30, 240)), int(rng.integers(2, 10))
    saw = (t % teeth) / teeth * rng.uniform(5.0, 25.0) * (rng.random() < 0.6)
    job = ((t + 7) % 60 < hourly) * rng.uniform(5.0, 30.0) * (rng.random() < 0.7)
    noise = rng.uniform(0.5, 3.0) * autocorrelated(len(t), rng, 0.5)
    level = rng.uniform(12.0, 35.0) + saw + job + 20.0 * _rhythm(t, 1440, rng, 0.4, 0.0) + noise
    mishaps = {
        "saturated": _pinned(92.0, 99.0, 0.5),
        "leak": _plus(15.0, 40.0, ramp=True),
        "dead": _pinned(0.0, 3.0, 0.0),
        "stuck": _stuck(0.1),
        "offset": _plus(8.0, 20.0, both=True),
    }
    scene = _Scene(level, 1440, _percent)
    return _played(scene, mishaps, 5, (10, 240), 60_000, rng, None if clean else wrong)


def errors(seed: int, *, clean: bool = False) -> Labelled:
    """Errors in five minutes, four weeks: mostly none."""
    rng, wrong = _streams("errors", seed)
    t = np.arange(28 * 288)
    level = rng.uniform(0.02, 0.5) * (1.0 + _rhythm(t, 288, rng, 0.5, 0.0))
    scene = _Scene(level, 288, _counted)

    def more(s: _Scene, y: Array, a: int, b: int, rng: np.random.Generator) -> Array:
        return s.measure(s.level[a:b] * rng.uniform(8.0, 30.0) + 0.5, rng)

    return _played(scene, {"errors": more}, 5, (3, 48), STEP_MS, rng, None if clean else wrong)


def business(seed: int, *, clean: bool = False) -> Labelled:
    """A figure of the business every hour, sixteen weeks: day, week, growth."""
    rng, wrong = _streams("business", seed)
    t = np.arange(16 * 168)
    week = 1.0 + 0.3 * np.sin(2 * np.pi * t / 168 + rng.uniform(0.0, 2 * np.pi))
    growth = 1.0 + rng.uniform(-0.1, 0.5) * t / len(t)
    noise = rng.uniform(0.05, 0.1) * autocorrelated(len(t), rng, 0.4)
    level = 10 ** rng.uniform(1.0, 4.0) * week * growth
    level = level * np.exp(_rhythm(t, 24, rng, 0.8, 0.2) + noise)
    mishaps = {"dip": _times(0.2, 0.65), "surge": _times(1.4, 2.2), "zero": _times(0.0, 0.02)}
    scene = _Scene(level, 24, _exact)
    return _played(scene, mishaps, 5, (2, 30), 3_600_000, rng, None if clean else wrong)


#: Kinds of operations metrics by name.
FAMILIES: Mapping[str, Family] = {
    "web": web,
    "latency": latency,
    "machine": machine,
    "errors": errors,
    "business": business,
}


def _streams(family: str, seed: int) -> tuple[np.random.Generator, np.random.Generator]:
    """Randomness of the series, and of what goes wrong: one does not depend on the other."""
    name = int.from_bytes(family.encode(), "big")
    own = np.random.SeedSequence([_STREAM, name, seed])
    normal, wrong = (np.random.default_rng(stream) for stream in own.spawn(2))
    return normal, wrong


def _rhythm(t: Integers, day: int, rng: np.random.Generator, first: float, second: float) -> Array:
    """A day with its first harmonic, each with a phase of its own: (n,), mean 0."""
    phase = 2 * np.pi * t / day
    turned = rng.uniform(0.0, 2 * np.pi, 2)
    return np.asarray(first * np.sin(phase + turned[0]) + second * np.sin(2 * phase + turned[1]))


def _played(
    scene: _Scene,
    mishaps: Mapping[str, _Mishap],
    count: int,
    lengths: tuple[int, int],
    step_ms: int,
    rng: np.random.Generator,
    wrong: np.random.Generator | None,
) -> Labelled:
    """Readings of the scene, with `count` mishaps in them; none if there is no `wrong`.

    Each is between two `lengths` of rows, as often short as long.
    """
    values = scene.measure(scene.level, rng)
    n = len(values)
    labels = np.zeros(n, np.bool_)
    t_ms = times(n, step_ms)
    if wrong is None:
        return Labelled(t_ms, values, labels, step_ms)
    order = [str(kind) for kind in wrong.permutation(list(mishaps))]
    kinds: dict[int, str] = {}
    while len(kinds) < count:
        rows = round(float(np.exp(wrong.uniform(*np.log(lengths)))))
        a = int(wrong.integers(int(SETTLED * n), n - rows))
        if labels[max(0, a - APART) : a + rows + APART].any():
            continue
        kinds[a] = order[len(kinds) % len(order)]
        values[a : a + rows] = mishaps[kinds[a]](scene, values.copy(), a, a + rows, wrong)
        labels[a : a + rows] = True
    return Labelled(t_ms, values, labels, step_ms, tuple(kinds[a] for a in sorted(kinds)))
