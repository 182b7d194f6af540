"""The training of one series, as a process of the pool does it: arrays in, arrays out."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.base import Arrays, Flags
from models.ensemble import Detector, Scores
from models.features import FEATURES
from models.forecast.series import Forecast, SeriesForecaster
from models.members import LABELS
from models.steps import settled_at
from service.detection import counters
from service.detection.changes import changes
from service.detection.registry import model_arrays
from service.storage.columns import Columns, Times, Values

#: From and to in milliseconds, both included.
Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How far forecasts look ahead, in steps; whether the values count up; the seed.

    `left_out` are the times that nothing is to be learned from.
    """

    horizon: int = 24
    counter: bool = False
    seed: int = 0
    left_out: Spans = ()


@dataclass(frozen=True, slots=True)
class Trained:
    """One series' model and what it says about its own history.

    `rows` are those that were learned from, `holdout` scores of the history, out of sample;
    `seconds` is CPU time.
    """

    arrays: Arrays
    features: tuple[str, ...]
    quality: dict[str, Any]
    rows: int
    from_ms: int
    to_ms: int
    holdout: Scores
    forecast: Forecast
    seconds: float


def train_series(t_ms: Times, values: Values, options: FitOptions) -> Trained:
    """Fit detector and forecaster on ascending timestamps (n,) and values (n,).

    What came at another step than now is left out, once the new one has lasted (`models.steps`).
    Raises ValueError with too few rows.
    """
    begun = time.process_time()
    begin = settled_at(t_ms)
    samples = Columns(t_ms[begin:], values[begin:])
    learned = counters.rates(samples) if options.counter else samples
    kept = trusted(learned.t, options.left_out)
    detector = Detector(options.seed).fit(*learned, kept)
    forecaster = SeriesForecaster(options.horizon)
    forecaster.fit(learned.t, np.where(kept, learned.v, np.nan))
    forecast = forecaster.predict(learned.t, detector.cleaned(*learned))
    holdout = detector.holdout_
    if options.counter:
        holdout = counters.totals(samples, holdout)
        forecast = counters.total_forecast(samples, forecast)
    quality = {
        **detector.quality_,
        "forecaster": forecaster.chosen_,
        "forecast_error": forecaster.error_,
        "forecast_errors": forecaster.errors_,
        "forecast_weights": forecaster.weights_,
        "forecast_fell_back": forecast.fell_back,
        "forecast_coverage": forecaster.coverage_,
        "members": list(LABELS),
        "change_points": changes(learned),
    }
    finite = samples.t[np.isfinite(samples.v)]
    return Trained(
        arrays=model_arrays(detector, forecaster),
        features=tuple(FEATURES),
        quality=quality,
        rows=int(trusted(finite, options.left_out).sum()),
        from_ms=int(finite[0]),
        to_ms=int(finite[-1]),
        holdout=holdout,
        forecast=forecast,
        seconds=time.process_time() - begun,
    )


def trusted(t_ms: Times, left_out: Spans) -> Flags:
    """Which of ascending timestamps (n,) lie in no span."""
    kept = np.ones(len(t_ms), np.bool_)
    for begin, end in left_out:
        kept[np.searchsorted(t_ms, begin) : np.searchsorted(t_ms, end, side="right")] = False
    return kept
