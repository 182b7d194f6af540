"""Which series are to be trained, when, and in which order: pure decisions over their records.

A model is worth training anew when its series has grown by a share, for what a tenth more history
adds is little; at the latest after a day, since habits change. History counts from the newest
change point: a level that is new is learned again soon. Whatever happens, trainings of a series lie
`retrain_seconds` apart.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from service.detection.drift import DRIFTED
from service.detection.records import ModelRecord, ModelState
from service.domain.series import Series

_DAY = 86_400.0
#: By what share of its history a series has grown when it is trained anew.
GROWN = 0.1
#: A model is this old, in seconds, at most, if there is anything new.
OLDEST = _DAY
#: Part of each wait by which series differ, so that thousands trained together part.
_SPREAD = 0.25
#: Looks that a series may be left out of because nothing new is to be expected.
_LOOKS = 10


class Reason(IntEnum):
    """Why a series is due, the most urgent first."""

    NEW = 0  # it has no model
    LOST = 1  # its model cannot be found
    DRIFTED = 2  # what it says no longer fits
    OLD = 3  # it has grown, or a day has passed


@dataclass(frozen=True, slots=True)
class Due:
    """A series that is to be trained now, and why."""

    tenant: str
    series: Series
    record: ModelRecord | None
    reason: Reason

    @property
    def first_time(self) -> bool:
        """Whether the series has never had a model."""
        return self.record is None or self.record.version == 0


def reason_of(
    series_hex: str,
    record: ModelRecord | None,
    now: float,
    retrain_seconds: float,
    *,
    has_file: bool,
) -> Reason | None:
    """Why a series is due at `now` (Unix seconds), None if it is not.

    `has_file` tells whether its newest model can be read.
    """
    if record is None or record.trained_at is None:
        return Reason.NEW
    age = now - record.trained_at
    failures = failures_of(record)
    if failures:
        wait = failure_wait(failures, retrain_seconds)
        if age < wait:
            return None
        return Reason.NEW if record.version == 0 else Reason.OLD
    if record.version and not has_file:
        return Reason.LOST
    if record.pinned:
        return None
    if age < retrain_seconds:
        return None
    if drift_of(record) >= DRIFTED:
        return Reason.DRIFTED
    return Reason.OLD if age >= wait_of(series_hex, record, retrain_seconds) else None


def wait_of(series_hex: str, record: ModelRecord, retrain_seconds: float) -> float:
    """Seconds from a series' training to its next one, if nothing else is the matter."""
    if record.trained_from is None or record.trained_to is None:
        return retrain_seconds
    begin = max([record.trained_from, *_changes(record)])
    grown = GROWN * max(0.0, record.trained_to - begin)
    # another place in the spread each time, or unlucky neighbours would stay together
    place = (int(series_hex, 16) * 0x9E3779B97F4A7C15 + record.version * 0x632BE5AB) >> 7
    wait = min(grown, OLDEST) * (1 - _SPREAD * (place % 1024) / 1024)
    return max(wait, retrain_seconds)


def failure_wait(failures: int, retrain_seconds: float) -> float:
    """Seconds until a series is tried again that failed so often in a row: twice as long each time,
    a day at most."""
    return min(retrain_seconds * 2.0 ** min(failures - 1, 20), max(retrain_seconds, OLDEST))


def look_again(missing: int, step_ms: float, look_seconds: float) -> float:
    """Seconds for which a series that lacks so many rows needs no look.

    Ten looks at most: rows may also come all at once, as history does.
    """
    return min(missing * step_ms / 1000, look_seconds * _LOOKS)


def failures_of(record: ModelRecord) -> int:
    """How often training the series has failed in a row."""
    if record.state is not ModelState.FAILED:
        return 0
    return max(1, int(record.quality.get("failures", 1)))


def drift_of(record: ModelRecord) -> float:
    """How far what the model says has departed from what it learned; 0 if nobody has looked."""
    return record.drift or 0.0


def in_order(due: Iterable[Due]) -> list[Due]:
    """The most urgent first, then the longest ago; tenants take turns, so that one with thousands
    of new series keeps no other waiting."""
    ranked = sorted(
        due,
        key=lambda d: (
            d.reason,
            d.record.trained_at if d.record is not None and d.record.trained_at else 0.0,
            d.series.labels,
        ),
    )
    places: Counter[tuple[Reason, str]] = Counter()
    turns: list[tuple[Reason, int, Due]] = []
    for one in ranked:
        turns.append((one.reason, places[one.reason, one.tenant], one))
        places[one.reason, one.tenant] += 1
    return [one for _, _, one in sorted(turns, key=lambda turn: turn[:2])]


def _changes(record: ModelRecord) -> list[float]:
    """When the series changed, as its last training found (Unix seconds)."""
    found = record.quality.get("change_points")
    return [float(point["at"]) for point in found if "at" in point] if found else []
