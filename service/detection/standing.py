"""How far each series is: which kind of model judges it, and how sure one may be of it."""

import asyncio
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from sqlalchemy import RowMapping

from service.detection.records import ModelRecords, ModelState
from service.domain.confidence import ALONE_ROWS, BESIDE_ROWS, PEERS_MIN, of_cold, of_model

#: Real seconds between two looks at SQL for new models of a tenant.
_LOOK_SECONDS = 5.0
#: Records are written a while after the moment that they name, by trainings of one batch together.
_LATE_SECONDS = 3600.0
#: Series whose records are read together.
_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of a series' model, and the confidence in what is said about it, 0 to 1."""

    state: ModelState
    confidence: float


def standing(record: RowMapping | None, rows: int, peers: int) -> Standing:
    """Of a series with this record in the table `models`, so many recent rows and trained peers."""
    if record is not None and record["version"] > 0:
        coverage = float(record["quality"].get("coverage", 0.0))
        sure = of_model(int(record["rows"]), coverage)
        return Standing(ModelState(record["state"]), sure)
    beside = peers >= PEERS_MIN and rows >= BESIDE_ROWS
    sure = of_cold(rows, peers=beside) if beside or rows >= ALONE_ROWS else 0.0
    if record is not None and record["state"] == ModelState.FAILED:
        return Standing(ModelState.FAILED, sure)
    return Standing(ModelState.PEERS if beside else ModelState.COLD, sure)


@dataclass(slots=True)
class _Known:
    """What was read of one tenant: until which training, when, and the training of each series."""

    until: float = 0.0
    looked: float = -_LOOK_SECONDS
    at: dict[str, float] = field(default_factory=dict)
    confidence: dict[int, float] = field(default_factory=dict)


class Standings:
    """The confidence of trained series by id; of the others there is not enough to alert anybody.

    Reads only what is new since its last look.
    """

    def __init__(self, records: ModelRecords) -> None:
        self._records = records
        self._known: dict[str, _Known] = {}
        self._lock = asyncio.Lock()

    async def of(self, tenant: str) -> Mapping[int, float]:
        """As it was at most some seconds ago."""
        async with self._lock:
            known = self._known.setdefault(tenant, _Known())
            if time.monotonic() - known.looked < _LOOK_SECONDS:
                return known.confidence
            since = known.until - _LATE_SECONDS
            at = dict(await self._records.trained_since(tenant, since))
            fresh = [name for name, then in at.items() if known.at.get(name) != then]
            for first in range(0, len(fresh), _AT_ONCE):  # thousands would hold up the event loop
                some = fresh[first : first + _AT_ONCE]
                for record in await self._records.told(tenant, some):
                    found = standing(record, 0, 0)
                    known.confidence[int(record["series_id"], 16)] = found.confidence
                known.at |= {name: at[name] for name in some}
            known.until = max(at.values(), default=known.until)
            known.looked = time.monotonic()
            return known.confidence

    def forget(self, tenant: str, ids: Collection[int] | None = None) -> None:
        """Some series were deleted; or, without `ids`, the tenant is judged elsewhere now."""
        if ids is None:
            self._known.pop(tenant, None)
        elif tenant in self._known:
            for i in ids:
                self._known[tenant].confidence.pop(i, None)
                self._known[tenant].at.pop(f"{i:016x}", None)
