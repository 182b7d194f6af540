"""Scores new points with the models at hand. Synchronous: the worker calls it in a thread."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import structlog

from models.ensemble import Scores
from models.forecast.series import MEMORY
from service.detection import counters
from service.detection.carrying import Banks, Known, Next, Work
from service.detection.derived import Samples, forecast_samples, score_samples
from service.detection.records import ModelState
from service.detection.registry import ModelRegistry, SeriesModel
from service.domain.series import Series, parse_series_id
from service.storage.columns import Columns

#: How a model judges the newest rows: tenant, series, model, context, the rows it sees, how many.
_Judge = Callable[[str, Series, SeriesModel, Columns, Columns, int], Scores]

log = structlog.get_logger(__name__)


#: The forecast of a dense stream is renewed after so long, or after half of its horizon.
_FORECAST_SECONDS = 120.0
#: Newest rows that a forecast is made from: what a forecaster looks back on, and some to spare.
_FORECAST_ROWS = MEMORY + MEMORY // 8


@dataclass(frozen=True, slots=True)
class ScoringState:
    """Where a series stands for the scorer: `cold` without a usable model, `failed` with the reason
    if the last call went wrong, else `ready`."""

    state: ModelState
    version: int = 0
    trained_at: float | None = None
    error: str | None = None


class Scored(NamedTuple):
    """Samples about new points, by series, and the series that wait for another call."""

    found: list[tuple[Series, Samples]]
    waiting: list[Series]


class Scorer:
    """Turns new points into samples of derived series.

    Forecasts are renewed after `forecast_every` new points: each renewal writes three series over
    the whole horizon, so renewing at every point would store many times what came in. Of a dense
    stream that is still the most of what is stored; there they are renewed after two minutes, or
    when half of what they told is over.
    """

    def __init__(
        self, models: ModelRegistry, forecast_every: int = 6, carried: int = 20_000
    ) -> None:
        self._models = models
        self._banks = Banks(models, carried)
        self._lock = threading.Lock()
        self._dropped: deque[tuple[str, int | None]] = deque()
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
        alone = partial(self._score, tenant, series, context, from_ms, self._alone)
        return self._guarded(tenant, series, alone)

    def score_all(self, tenant: str, work: Iterable[Work], spare_seconds: float = np.inf) -> Scored:
        """What `score` says of each of many series of a tenant, each once, in one call.

        Much less work for series that go on where they were left; after `spare_seconds` with others
        the rest of those waits for another call, and so do forecasts after as many. Series without
        samples are left out.
        """
        found: list[tuple[Series, Samples]] = []

        def take(series: Series, work: Callable[[], Samples]) -> None:
            if samples := self._guarded(tenant, series, work):
                found.append((series, samples))

        def anew(series: Series, context: Columns, from_ms: int) -> None:
            judge = self._banks.add
            take(series, partial(self._score, tenant, series, context, from_ms, judge))

        with self._lock:
            while self._dropped:
                self._banks.forget(*self._dropped.popleft())
            carried: list[Next] = []
            others: list[Work] = []
            for series, context, from_ms in work:
                following = self._banks.ready(tenant, series, context, from_ms)
                if following is None:
                    others.append((series, context, from_ms))
                else:
                    carried.append(following)
            lost: list[Next] = []
            try:
                told = list(self._banks.step(tenant, carried, lost.append)) if carried else []
            except Exception:
                log.exception("scoring together failed", tenant=tenant)
                self._banks.forget(tenant)
                told, lost = [], carried
            until = time.monotonic() + spare_seconds
            for one, scores in told:
                take(one.series, partial(self._told, tenant, one, scores, until))
            others += [(one.series, one.context, int(one.context.t[-one.new - 1])) for one in lost]
            waiting: list[Series] = []
            until = time.monotonic() + spare_seconds
            for series, context, from_ms in others:
                if time.monotonic() < until:
                    anew(series, context, from_ms)
                else:
                    waiting.append(series)
        return Scored(found, waiting)

    def _guarded(self, tenant: str, series: Series, work: Callable[[], Samples]) -> Samples:
        """What `work` finds; nothing, and a line in the log, if it fails."""
        try:
            found = work()
            self._errors.pop((tenant, series.id), None)
            return found
        except Exception as error:
            self.failures += 1
            self._errors[tenant, series.id] = str(error) or type(error).__name__
            log.exception("scoring failed", tenant=tenant, series=series.hex)
            return []

    def _told(self, tenant: str, one: Next, scores: Scores, until: float) -> Samples:
        samples = score_samples(one.series, scores)
        if time.monotonic() >= until:
            return samples  # a forecast that is due stays due
        return samples + self._forecast(tenant, one.series, one.known, one.context)

    @staticmethod
    def _alone(
        _tenant: str,
        _series: Series,
        model: SeriesModel,
        _context: Columns,
        seen: Columns,
        n_new: int,
    ) -> Scores:
        return model.detector.score(seen.t, seen.v, n_new)

    def _score(
        self, tenant: str, series: Series, context: Columns, from_ms: int, judge: _Judge
    ) -> Samples:
        if series.is_derived:
            return []
        model = self._models.load(tenant, series.hex)
        if model is None:
            return []
        # what the first training has judged out of sample is not judged again in sample
        from_ms = max(from_ms, model.judged_until_ms)
        seen = counters.rates(context) if model.counter else context
        n_new = len(seen.t) - int(np.searchsorted(seen.t, from_ms, side="right"))
        if not n_new:
            return []
        scores = judge(tenant, series, model, context, seen, n_new)
        if model.counter:
            scores = counters.totals(context, scores)
        known = Known.of(model)
        return score_samples(series, scores) + self._forecast(tenant, series, known, context)

    def _forecast(self, tenant: str, series: Series, model: Known, context: Columns) -> Samples:
        name = (tenant, series.id)
        version, newest = self._forecast_from.get(name, (0, 0))
        if version != model.version:
            newest = model.trained_to_ms  # training has written one
        since = len(context.t) - int(np.searchsorted(context.t, newest, side="right"))
        if since < self._renewed_after(model):
            self._forecast_from[name] = (model.version, newest)
            return []
        self._forecast_from[name] = (model.version, int(context.t[-1]))
        near = Columns(context.t[-_FORECAST_ROWS:], context.v[-_FORECAST_ROWS:])
        seen = counters.rates(near) if model.counter else near
        values = seen.v if model.cleaner is None else model.cleaner.cleaned(seen.t, seen.v)
        forecast = model.forecaster.predict(seen.t, values)
        if model.counter:
            forecast = counters.total_forecast(context, forecast)
        return forecast_samples(series, forecast)

    def _renewed_after(self, model: Known) -> int:
        """Points after which a forecast is renewed."""
        forecaster = model.forecaster
        dense = math.ceil(_FORECAST_SECONDS * 1000 / forecaster.grid_.step_ms)
        return max(self._forecast_every, min(dense, forecaster.horizon // 2))

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
        number = parse_series_id(series_hex)
        if number is not None:
            self.forget(tenant, number)

    def forget(self, tenant: str, series: int | None = None) -> None:
        """Drop what is carried on of a series, or of all of a tenant."""
        self._dropped.append((tenant, series))  # when scoring is next at it: nobody waits
