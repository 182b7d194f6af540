"""What reading routes are asked with: times and series ids, as text."""

import re
from datetime import datetime

from service.domain.errors import InvalidInput, NotFound
from service.domain.series import parse_series_id


def seconds(text: str, where: str) -> float:
    """Unix seconds of what is that, or ISO 8601 with a zone; `InvalidInput` names `where`."""
    try:
        value = float(text)
    except ValueError:
        value = _from_iso(text, where)
    if not -1e11 < value < 1e11:  # also refuses nan
        raise InvalidInput(f"{text[:64]!r} is no time that we keep", where=where)
    return value


def series_number(text: str) -> int:
    """The series id behind 16 hexadecimal digits; `NotFound` for anything else."""
    found = parse_series_id(text)
    if found is None:
        raise NotFound(f"there is no series {text[:32]!r}: an id has 16 hexadecimal digits")
    return found


def _from_iso(text: str, where: str) -> float:
    # A plus sign that was not escaped arrives as a space.
    text = re.sub(r" (\d\d:\d\d)$", r"+\1", text.strip())
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(
            f"{text[:64]!r} is neither Unix seconds nor ISO 8601", where=where
        ) from error
    if moment.tzinfo is None:
        raise InvalidInput(f"{text[:64]!r} has no time zone; end it with Z", where=where)
    return moment.timestamp()
