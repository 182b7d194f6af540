"""Parameters of Prometheus' API: of the URL, of a form in the body, or of both."""

import re
from datetime import datetime
from urllib.parse import parse_qsl

from fastapi import Request

from service.domain.durations import duration_ms
from service.domain.errors import InvalidInput
from service.domain.series import Selector
from service.query.promql.expressions import Expr, Select
from service.query.promql.parse import TEXT_MAX, parse

_FORM = "application/x-www-form-urlencoded"
_FIELDS_MAX = 1000
#: Selectors of `match[]`: for each of them all series are looked at.
_SELECTORS_MAX = 100
_TIME_MAX = 1e11

#: What clients send for the beginning and the end of time.
_ENDS = {
    "-292273086-05-16T16:47:06Z": -_TIME_MAX,
    "292277025-08-18T07:12:54.999999999Z": _TIME_MAX,
}


def wrong(name: str, reason: str) -> InvalidInput:
    """What is said of a parameter that cannot be used."""
    return InvalidInput(f'invalid parameter "{name}": {reason}', where=name)


class Form:
    """The parameters of one request. Errors are `InvalidInput`, in Prometheus' words."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs

    def text(self, name: str) -> str:
        """The first of that name; those of the body come first. Empty if there is none."""
        return next((value for key, value in self._pairs if key == name), "")

    def every(self, name: str) -> list[str]:
        """All of that name."""
        return [value for key, value in self._pairs if key == name]

    def time_ms(self, name: str, default: int | None = None) -> int:
        """Milliseconds of a time, which is Unix seconds or RFC 3339."""
        text = self.text(name)
        if not text and default is not None:
            return default
        seconds = _seconds(text)
        if seconds is None:
            raise wrong(name, f'cannot parse "{text[:64]}" to a valid timestamp')
        return round(seconds * 1000)

    def duration_ms(self, name: str) -> int | None:
        """Milliseconds of seconds or text such as `5m`; None if there is none."""
        text = self.text(name)
        if not text:
            return None
        try:
            return _milliseconds(text)
        except InvalidInput as error:
            raise wrong(name, f'cannot parse "{text[:64]}" to a valid duration') from error

    def limit(self, name: str = "limit") -> int | None:
        """How many at most; None for no bound."""
        text = self.text(name)
        if not text:
            return None
        if not re.fullmatch(r"\d{1,12}", text):
            raise wrong(name, f'"{text[:64]}" is not a number of things to show')
        return int(text) or None

    def expression(self) -> Expr:
        """What is asked."""
        try:
            return parse(self.text("query"))
        except InvalidInput as error:
            raise wrong("query", str(error)) from error

    def selectors(self) -> list[Selector]:
        """Those of `match[]`, together no longer than an expression."""
        texts = self.every("match[]")
        if len(texts) > _SELECTORS_MAX or sum(map(len, texts)) > TEXT_MAX:
            raise wrong(
                "match[]",
                f"{_SELECTORS_MAX} selectors are possible, of {TEXT_MAX:,} characters together",
            )
        return [_selector(text) for text in texts]


async def form_of(request: Request) -> Form:
    """The request's parameters."""
    raw = b""
    if request.method == "POST":
        kind = request.headers.get("content-type", _FORM).partition(";")[0].strip().lower()
        raw = await request.body() if kind in (_FORM, "") else b""
    pairs: list[tuple[str, str]] = []
    for encoded in (raw, request.scope["query_string"]):
        try:
            pairs += parse_qsl(
                encoded.decode(),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=_FIELDS_MAX,
            )
        except ValueError as error:  # also what is not UTF-8
            raise InvalidInput(f"the parameters cannot be read: {error}") from error
    return Form(pairs)


def _selector(text: str) -> Selector:
    try:
        found = parse(text)
    except InvalidInput as error:
        raise wrong("match[]", str(error)) from error
    if not isinstance(found, Select) or found.offset_ms or found.at is not None:
        raise wrong("match[]", f"{text[:80]!r} is no selector of series")
    return found.selector


def _seconds(text: str) -> float | None:
    if text in _ENDS:
        return _ENDS[text]
    try:
        found = float(text)
    except ValueError:
        try:
            # A plus sign that was not escaped arrives as a space.
            moment = datetime.fromisoformat(re.sub(r" (\d\d:\d\d)$", r"+\1", text))
        except ValueError:
            return None
        if moment.tzinfo is None:
            return None
        found = moment.timestamp()
    return found if -_TIME_MAX <= found <= _TIME_MAX else None


def _milliseconds(text: str) -> int:
    try:
        seconds = float(text)
    except ValueError:
        return duration_ms(text)
    if not -_TIME_MAX <= seconds <= _TIME_MAX:
        raise InvalidInput("duration out of range")
    return round(seconds * 1000)
