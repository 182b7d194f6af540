"""What is different between what a unit test expects and what there is."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from service.domain.series import LabelPairs
from service.query.promql.vectors import written
from service.rules.go_format import float_text, quoted

#: Lines of a difference that are shown.
_LINES_MAX = 50

AlertText = tuple[dict[str, str], dict[str, str]]


@dataclass(frozen=True, slots=True)
class Closeness:
    """When two values are the same: exactly, by one step of a float (`fuzzy`), or within a share.

    NaN is the same as NaN. `tolerance` is a share of the larger of the two.
    """

    tolerance: float | None = None
    fuzzy: bool = False

    def same(self, one: float, other: float) -> bool:
        """Whether they count as the same."""
        if one == other or (math.isnan(one) and math.isnan(other)):
            return True
        if self.fuzzy and other in (
            math.nextafter(one, -math.inf),
            math.nextafter(one, math.inf),
        ):
            return True
        if self.tolerance is None or not (math.isfinite(one) and math.isfinite(other)):
            return False
        return abs(one - other) <= self.tolerance * max(abs(one), abs(other))


def samples_difference(
    expected: Iterable[tuple[LabelPairs, float]],
    found: Iterable[tuple[LabelPairs, float]],
    closeness: Closeness,
) -> str:
    """What is missing, too much or has another value; nothing if all is as expected."""
    lines: list[str] = []
    rest: dict[LabelPairs, list[float]] = {}
    for labels, value in found:
        rest.setdefault(labels, []).append(value)
    for labels, value in sorted(expected, key=lambda sample: sample[0]):
        values = rest.get(labels)
        if not values:
            lines.append(f"missing {_sample(labels, value)}")
            continue
        got = values.pop(0)
        if not closeness.same(value, got):
            lines.append(f"expected {_sample(labels, value)}, got {float_text(got)}")
    for labels, values in sorted(rest.items()):
        lines += [f"unexpected {_sample(labels, value)}" for value in values]
    return _shown(lines)


def _sample(labels: LabelPairs, value: float) -> str:
    return f"{written(labels)} {float_text(value)}"


def alerts_difference(expected: Iterable[AlertText], found: Iterable[AlertText]) -> str:
    """What alerts are missing, too many or say something else; nothing if all is as expected."""
    lines: list[str] = []
    rest = sorted(found, key=_order)
    missing: list[AlertText] = []
    for alert in sorted(expected, key=_order):
        if alert in rest:
            rest.remove(alert)
        else:
            missing.append(alert)
    for labels, annotations in missing:
        other = next((one for one in rest if one[0] == labels), None)
        if other is None:
            lines.append(f"missing {_mapping(labels)} annotations {_mapping(annotations)}")
            continue
        rest.remove(other)
        lines.append(
            f"alert {_mapping(labels)}: expected annotations {_mapping(annotations)}, "
            f"got {_mapping(other[1])}"
        )
    lines += [f"unexpected {_mapping(a)} annotations {_mapping(b)}" for a, b in rest]
    return _shown(lines)


def _order(alert: AlertText) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    return sorted(alert[0].items()), sorted(alert[1].items())


def _mapping(pairs: dict[str, str]) -> str:
    inner = ", ".join(f"{name}={quoted(value)}" for name, value in sorted(pairs.items()))
    return f"{{{inner}}}"


def _shown(lines: Sequence[str]) -> str:
    shown = list(lines[:_LINES_MAX])
    if len(lines) > _LINES_MAX:
        shown.append(f"and {len(lines) - _LINES_MAX:,} more")
    return "\n".join(shown)
