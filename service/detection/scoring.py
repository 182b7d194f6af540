"""Scores new points with the models at hand. Synchronous: the worker calls it in a thread."""

from dataclasses import dataclass

import numpy as np
import structlog

from models.explanation import Explanation
from service.detection import counters
from service.detection.derived import Samples, forecast_samples, score_samples
from service.detection.records import ModelState
from service.detection.registry import ModelRegistry, SeriesModel
from service.domain.series import Series
from service.storage.columns import Columns

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ScoringState:
    """Where a series stands for the scorer: `cold` without a usable model, `failed` with the reason
    if the last call went wrong, else `ready`."""

    state: ModelState
    version: int = 0
    trained_at: float | None = None
    error: str | None = None


class Scorer:
    """Turns new points into samples of derived series.

    Forecasts are renewed after `forecast_every` new points: each renewal writes three series over
    the whole horizon, so renewing at every point would store many times what came in.
    """

    def __init__(self, models: ModelRegistry, forecast_every: int = 6) -> None:
        self._models = models
        self._forecast_every = forecast_every
        self._forecast_from: dict[tuple[str, int], tuple[int, int]] = {}
        self._errors: dict[tuple[str, int], str] = {}
        #: Calls that failed since the start.
        self.failures = 0

    def trained(self, tenant: str) -> frozenset[int]:
        """Ids of the series that have a model; of the others nothing can be said."""
        return self._models.trained(tenant)

    def score(self, tenant: str, series: Series, context: Columns, from_ms: int) -> Samples:
        """Samples about the points of `context` with t > `from_ms`: score first, then the rest.

        Empty without a model or new points. What goes wrong is logged and counted, never raised.
        """
        if series.is_derived:
            return []
        try:
            model = self._models.load(tenant, series.hex)
            if model is None:
                return []
            found = self._score(tenant, series, model, context, from_ms)
            self._errors.pop((tenant, series.id), None)
            return found
        except Exception as error:
            self.failures += 1
            self._errors[tenant, series.id] = str(error) or type(error).__name__
            log.exception("scoring failed", tenant=tenant, series=series.hex)
            return []

    def _score(
        self, tenant: str, series: Series, model: SeriesModel, context: Columns, from_ms: int
    ) -> Samples:
        # what the first training has judged out of sample is not judged again in sample
        from_ms = max(from_ms, model.judged_until_ms)
        seen = counters.rates(context) if model.counter else context
        n_new = len(seen.t) - int(np.searchsorted(seen.t, from_ms, side="right"))
        if not n_new:
            return []
        scores = model.detector.score(seen.t, seen.v, n_new)
        if model.counter:
            scores = counters.totals(context, scores)
        return score_samples(series, scores) + self._forecast(tenant, series, model, context)

    def _forecast(
        self, tenant: str, series: Series, model: SeriesModel, context: Columns
    ) -> Samples:
        name = (tenant, series.id)
        trained_to = int(model.manifest["trained_to_ms"])
        version, newest = self._forecast_from.get(name, (0, 0))
        if version != model.version:
            newest = trained_to  # training has written one
        since = len(context.t) - int(np.searchsorted(context.t, newest, side="right"))
        if since < self._forecast_every:
            self._forecast_from[name] = (model.version, newest)
            return []
        self._forecast_from[name] = (model.version, int(context.t[-1]))
        seen = counters.rates(context) if model.counter else context
        forecast = model.forecaster.predict(seen.t, model.detector.cleaned(seen.t, seen.v))
        if model.counter:
            forecast = counters.total_forecast(context, forecast)
        return forecast_samples(series, forecast)

    def explain(self, tenant: str, series: Series, context: Columns) -> Explanation | None:
        """Why the newest point has its score; None without a model or points.

        Of a counter it is the rate, in increase per second, that is explained.
        """
        model = self._models.load(tenant, series.hex)
        if model is None:
            return None
        seen = counters.rates(context) if model.counter else context
        return model.detector.explain(seen.t, seen.v) if len(seen.t) else None

    def state(self, tenant: str, series: Series) -> ScoringState:
        """Whether there is a model, which one, and whether it works."""
        model = self._models.load(tenant, series.hex)
        if model is None:
            return ScoringState(ModelState.COLD)
        error = self._errors.get((tenant, series.id))
        return ScoringState(
            ModelState.FAILED if error else ModelState.READY,
            model.version,
            float(model.manifest["trained_at"]),
            error,
        )

    def refresh(self, tenant: str, series_hex: str) -> None:
        """A new model may be there: forget the one in memory."""
        self._models.forget(tenant, series_hex)
