"""What models say, as samples of derived series."""

import numpy as np

from models.ensemble import Scores
from models.forecast.series import Forecast
from service.domain.series import (
    ALERT,
    EXPECTED,
    EXPECTED_LOWER,
    EXPECTED_UPPER,
    FORECAST,
    FORECAST_LOWER,
    FORECAST_UPPER,
    SCORE,
    Series,
)
from service.storage.columns import Columns

Samples = list[tuple[Series, Columns]]


def score_samples(series: Series, scores: Scores) -> Samples:
    """Score first, then expectation and band; the alert stream where it speaks."""
    if not len(scores.t_ms):
        return []
    speaks = scores.alert > 0
    alerts = Columns(scores.t_ms[speaks], scores.alert[speaks])
    return [
        (series.derived(suffix), Columns(scores.t_ms, np.ascontiguousarray(values)))
        for suffix, values in (
            (SCORE, scores.score),
            (EXPECTED, scores.expected),
            (EXPECTED_LOWER, scores.lower),
            (EXPECTED_UPPER, scores.upper),
        )
    ] + ([(series.derived(ALERT), alerts)] if len(alerts.t) else [])


def forecast_samples(series: Series, forecast: Forecast) -> Samples:
    """Forecast and its interval; all of it lies in the future."""
    return [
        (series.derived(suffix), Columns(forecast.t_ms, np.ascontiguousarray(values)))
        for suffix, values in (
            (FORECAST, forecast.value),
            (FORECAST_LOWER, forecast.lower),
            (FORECAST_UPPER, forecast.upper),
        )
    ]
