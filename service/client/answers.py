"""What an answer of the server means for the batch that was sent, and how long to wait."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

import msgspec

#: No server makes us wait longer than this.
_WAIT_MAX = 3600.0


@dataclass(frozen=True, slots=True)
class Taken:
    """The server has the batch but for `refused` samples; `reasons` by index in the batch."""

    refused: int = 0
    reasons: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refused:
    """The whole batch is refused for good."""

    reason: str
    reasons: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TooMuch:
    """The body is too large; send fewer samples at once."""

    reason: str


@dataclass(frozen=True, slots=True)
class Later:
    """Send the same again; `seconds` is what the server asks for."""

    reason: str
    seconds: float | None = None


Verdict = Taken | Refused | TooMuch | Later


class _Item(msgspec.Struct):
    index: int = -1
    where: str = ""
    reason: str = ""


class _Accepted(msgspec.Struct):
    accepted: int
    rejected_count: int = 0
    rejected: list[_Item] = []


class _Problem(msgspec.Struct):
    detail: str = ""
    errors: list[_Item] = []


_accepted = msgspec.json.Decoder(_Accepted)
_problem = msgspec.json.Decoder(_Problem)


def judge(status: int, headers: Mapping[str, str], content: bytes, now: float) -> Verdict:
    """What to do after an answer; `now` is Unix seconds, for dates in Retry-After."""
    if 200 <= status < 300:
        try:
            answer = _accepted.decode(content)
        except (msgspec.MsgspecError, ValueError):
            return Refused(f"the server answered {status}, but not as Offbeat does; is url right?")
        return Taken(answer.rejected_count, {i.index: i.reason for i in answer.rejected})
    said = _said(content)
    reason = f"the server answered {status}" + (f": {said.detail[:500]}" if said.detail else "")
    if status == 429 or status >= 500:
        wait = retry_after(headers.get("retry-after", ""), now) if status in (429, 503) else None
        return Later(reason, wait)
    if status == 413:
        return TooMuch(reason)
    reasons = {}
    for item in said.errors:
        index = item.where.partition(":")[0]
        if index.isdecimal():
            reasons[int(index[:9])] = item.reason
    return Refused(reason, reasons)


def _said(content: bytes) -> _Problem:
    try:
        return _problem.decode(content)
    except (msgspec.MsgspecError, ValueError):
        return _Problem(content[:200].decode("utf-8", "replace").strip())


def retry_after(text: str, now: float) -> float | None:
    """Seconds of a Retry-After header, given as seconds or as a date; None if it says nothing."""
    text = text.strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return min(max(seconds, 0.0), _WAIT_MAX) if math.isfinite(seconds) else None


class Backoff:
    """Waits that double from `first` to `most` seconds, each cut by up to half at random."""

    def __init__(self, first: float, most: float) -> None:
        self._first, self._most = first, most
        self._tries = 0
        # Spreads the retries of many programs; no secret depends on it.
        self._random = random.Random()  # noqa: S311

    def next(self) -> float:
        """Seconds to wait after one more failure."""
        wait = min(self._first * 2.0 ** min(self._tries, 30), self._most)
        self._tries += 1
        return wait * self._random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Start anew after a success; a forked child must not draw its parent's numbers."""
        self._tries = 0
        self._random.seed()
