"""Times written as a file writes its own."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Self

from service.offline.table import is_number

_ISO = re.compile(
    r"\d{4}-?\d\d-?\d\d(?:(?P<mark>[T ])\d\d(?P<minutes>:?\d\d)?(?P<seconds>:?\d\d)?"
    r"(?P<fraction>[.,]\d+)?\s*(?P<zone>Z|z|[+-]\d\d(?::?\d\d)?)?)?"
)


@dataclass(frozen=True, slots=True)
class StampForm:
    """Units of `unit_ms` since 1970 if `number`, else ISO 8601 with the parts of an example.

    `day`: a date alone, as long as times fall on midnight. A part that is missing from the example
    but not zero is written all the same: no time is ever rounded.
    """

    number: bool = False
    unit_ms: int = 1000
    day: bool = False
    mark: str = "T"
    minutes: bool = False
    zone: tzinfo = UTC
    suffix: str = ""

    @classmethod
    def of(cls, example: str) -> Self:
        """The form of a time that `service.offline.table.times` has read."""
        text = example.strip()
        if is_number(text):
            return cls(number=True)
        found = _ISO.fullmatch(text)
        if found is None or found["mark"] is None:
            return cls(day=found is not None)
        suffix = found["zone"] or ""
        return cls(
            mark=found["mark"],
            minutes=found["seconds"] is None and found["minutes"] is not None,
            zone=_zone(suffix),
            suffix=suffix,
        )

    def write(self, t_ms: int) -> str:
        """A time in milliseconds."""
        if self.number:
            whole, rest = divmod(t_ms, self.unit_ms)
            return repr(t_ms / self.unit_ms) if rest else str(whole)
        moment = datetime.fromtimestamp(t_ms // 1000, self.zone)
        moment += timedelta(milliseconds=t_ms % 1000)
        bare = moment.replace(tzinfo=None)
        midnight = (bare.hour, bare.minute, bare.second, bare.microsecond) == (0, 0, 0, 0)
        if self.day and midnight:
            return bare.date().isoformat()
        if bare.microsecond:
            parts = "milliseconds"
        else:
            parts = "minutes" if self.minutes and not bare.second else "seconds"
        return bare.isoformat(self.mark, parts) + self.suffix


def _zone(suffix: str) -> tzinfo:
    if suffix in ("", "Z", "z"):
        return UTC
    digits = suffix[1:].replace(":", "").ljust(4, "0")
    away = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-away if suffix[0] == "-" else away)
