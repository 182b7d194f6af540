"""Alert budgets as people write them: `2/week`, `1/day`, `5 per month`."""

import re
from decimal import Decimal

from service.domain.errors import InvalidInput

_WEEK = 7 * 86_400.0
_PERIODS = {"hour": 3600.0, "day": 86_400.0, "week": _WEEK, "month": _WEEK * 52 / 12}
_BUDGET = re.compile(r"(\d+(?:\.\d+)?)\s*(?:/|per)\s*(hour|day|week|month)", re.IGNORECASE)
#: More is no budget: an alert a minute.
_MOST = 7 * 24 * 60.0


def parse_budget(value: object) -> float:
    """Alerts a week; `InvalidInput` if `value` says nothing of the kind."""
    found = _BUDGET.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise InvalidInput(f"an alert budget is text like 2/week or 1/day, not {_short(value)}")
    a_week = float(found[1]) * (_WEEK / _PERIODS[found[2].lower()])
    if not 0 < a_week <= _MOST:
        reason = f"an alert budget is above 0 and at most one a minute, not {_short(value)}"
        raise InvalidInput(reason)
    return a_week


def format_budget(alerts_a_week: float) -> str:
    """The text of a budget in the period that needs the fewest digits; it is read back the same."""
    texts = [f"{Decimal(repr(alerts_a_week)):f}/week"]  # a float's own text may have an exponent
    for period, seconds in _PERIODS.items():
        number = round(alerts_a_week * seconds / _WEEK, 9)
        text = f"{Decimal(f'{number:.12g}'):f}/{period}"
        if number and parse_budget(text) == alerts_a_week:
            texts.append(text)
    # of two that are as short, the week's
    return min(texts, key=lambda text: (len(text.partition("/")[0]), not text.endswith("week")))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
