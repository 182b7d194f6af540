"""The training of one series, as a process of the pool does it: arrays in, arrays out."""

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.base import Arrays
from models.ensemble import Detector, Scores
from models.features import FEATURES
from models.forecast.series import Forecast, SeriesForecaster
from models.members import LABELS
from models.steps import settled_at
from service.detection import counters
from service.detection.changes import changes
from service.detection.gate import FIRST, Gate, Labels, judge
from service.detection.registry import model_arrays
from service.detection.spans import Spans, trusted
from service.detection.thorough import share
from service.storage.columns import Columns, Times, Values


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How far forecasts look ahead, in steps; whether the values count up; the seed.

    `thorough` asks forecasters that take long, too. `left_out` are the times that nothing is to be
    learned from. `before` is the model in use (`model_arrays`), if there is one, that the new one
    is compared with; `refusals` how often in a row it has stayed, and `labels` what people said
    since.
    """

    horizon: int = 24
    counter: bool = False
    seed: int = 0
    thorough: bool = False
    left_out: Spans = ()
    before: Arrays | None = None
    refusals: int = 0
    labels: Labels = field(default_factory=Labels)


@dataclass(frozen=True, slots=True)
class Trained:
    """One series' model and what it says about its own history.

    `rows` are those that were learned from, `holdout` scores of the history, out of sample; `gate`
    says whether it is to be used; `seconds` is CPU time.
    """

    arrays: Arrays
    features: tuple[str, ...]
    quality: dict[str, Any]
    rows: int
    from_ms: int
    to_ms: int
    holdout: Scores
    forecast: Forecast
    gate: Gate
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
    forecaster = SeriesForecaster(options.horizon, dear=options.thorough)
    forecaster.fit(learned.t, np.where(kept, learned.v, np.nan))
    forecast = forecaster.predict(learned.t, detector.cleaned(*learned))
    gate = FIRST
    if options.before is not None:
        gate = judge(
            options.before, detector, forecaster, learned, kept, options.labels, options.refusals
        )
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
        "gate": gate.plain(),
    }
    if options.thorough:
        quality["thorough"] = share(forecaster.weights_)
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
        gate=gate,
        seconds=time.process_time() - begun,
    )
