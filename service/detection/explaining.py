"""Why a point of a series has its score: what its model says to people who ask."""

import asyncio
from dataclasses import dataclass

from models.ensemble import Detector
from models.explanation import Explanation
from service.detection import counters
from service.detection.registry import ModelRegistry
from service.domain.errors import NotFound
from service.domain.series import Series
from service.query.source import Source
from service.storage.columns import Columns


@dataclass(frozen=True, slots=True)
class Explained:
    """What the model of a series says of one of its points.

    Of a `counter` it is the rate, in increase per second, that is seen and expected. `version` is
    the model's, which may have been trained after the point came.
    """

    why: Explanation
    counter: bool
    version: int


class Explainer:
    """Reads what a model looks back on and asks it. For the API: nothing is carried on."""

    def __init__(self, models: ModelRegistry, source: Source) -> None:
        self._models, self._source = models, source

    async def explain(self, tenant: str, series: Series, at_ms: int) -> Explained:
        """Why the newest point at or before `at_ms` has its score.

        Raises `NotFound` without a model that can be used, and without such a point.
        """
        model = await asyncio.to_thread(self._models.load, tenant, series.hex)
        if model is None:
            raise NotFound(f"series {series.hex} has no model yet that could explain a point")
        detector = model.detector
        span = (detector.context + 2) * detector.grid_.step_ms
        read = await self._source.read(tenant, [series.id], at_ms - span, at_ms)
        found = read[series.id]
        why = await asyncio.to_thread(explain, detector, found, model.counter)
        if why is None:
            raise NotFound(f"series {series.hex} has no point at that time or shortly before")
        return Explained(why, model.counter, model.version)


def explain(detector: Detector, samples: Columns, counter: bool) -> Explanation | None:
    """Why the newest of `samples` has its score; None without any."""
    seen = counters.rates(samples) if counter else samples
    return detector.explain(seen.t, seen.v) if len(seen.t) else None
