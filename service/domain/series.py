"""A series is a metric name with labels; its id is a hash of both, the same on every machine."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

NAME = "__name__"

#: What models say about a series `m` is written as the series `m` + one of these.
SCORE = ":anomaly_score"
ALERT = ":alert_score"
EXPECTED = ":expected"
EXPECTED_LOWER = ":expected_lower"
EXPECTED_UPPER = ":expected_upper"
FORECAST = ":forecast"
FORECAST_LOWER = ":forecast_lower"
FORECAST_UPPER = ":forecast_upper"
DERIVED = (
    SCORE,
    ALERT,
    EXPECTED,
    EXPECTED_LOWER,
    EXPECTED_UPPER,
    FORECAST,
    FORECAST_LOWER,
    FORECAST_UPPER,
)

LabelPairs = tuple[tuple[str, str], ...]


def label_value(labels: LabelPairs, name: str) -> str:
    """The value of a label, empty if absent."""
    return next((value for key, value in labels if key == name), "")


class MetricType(StrEnum):
    """What the sender says the numbers are."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"
    SUMMARY = "summary"


def canonical(name: str, labels: Mapping[str, str] | Iterable[tuple[str, str]]) -> LabelPairs:
    """Name and labels as sorted pairs, the name under `__name__`, empty values left out."""
    pairs = labels.items() if isinstance(labels, Mapping) else labels
    return tuple(sorted([(NAME, name), *((k, v) for k, v in pairs if v and k != NAME)]))


def series_id(pairs: LabelPairs) -> int:
    """63-bit id of canonical label pairs.

    A hash needs no coordination between replicas. A million series of one tenant share an id with
    a probability of 5e-8; the registry refuses the second of two that do.
    """
    raw = b"\xff".join(part.encode() for pair in pairs for part in pair)
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "big") >> 1


@dataclass(frozen=True, slots=True)
class Series:
    """One series of a tenant. `labels` are canonical pairs with the name under `__name__`."""

    id: int
    labels: LabelPairs
    metric_type: MetricType = MetricType.GAUGE

    @classmethod
    def of(
        cls,
        name: str,
        labels: Mapping[str, str] | None = None,
        metric_type: MetricType = MetricType.GAUGE,
    ) -> "Series":
        """The series of that name and those labels."""
        pairs = canonical(name, labels or {})
        return cls(series_id(pairs), pairs, metric_type)

    @property
    def name(self) -> str:
        """The metric's name."""
        return self.label(NAME)

    @property
    def hex(self) -> str:
        """The id as it stands in URLs and artifacts: 16 hexadecimal digits."""
        return f"{self.id:016x}"

    def label(self, name: str) -> str:
        """The value of a label, empty if absent."""
        return label_value(self.labels, name)

    @property
    def tags(self) -> dict[str, str]:
        """The labels without the name."""
        return {key: value for key, value in self.labels if key != NAME}

    def derived(self, suffix: str) -> "Series":
        """The series in which models write about this one."""
        return _derived(self, suffix)

    @property
    def base(self) -> "Series":
        """The series that models write about in this one; itself if they do not."""
        name = self.name
        suffix = next((suffix for suffix in DERIVED if name.endswith(suffix)), "")
        return Series.of(name.removesuffix(suffix), self.tags) if suffix else self

    @property
    def is_derived(self) -> bool:
        """Whether models wrote it."""
        return self.name.endswith(DERIVED)

    def __str__(self) -> str:
        tags = ",".join(f'{k}="{v}"' for k, v in self.tags.items())
        return f"{self.name}{{{tags}}}" if tags else self.name


@lru_cache(maxsize=200_000)
def _derived(series: Series, suffix: str) -> Series:
    """Remembered: each is asked for at every point, and its id is a hash of its labels.

    All labels but the name are those of the series itself, not copies: there are seven to each.
    """
    pairs = tuple((NAME, pair[1] + suffix) if pair[0] == NAME else pair for pair in series.labels)
    return Series(series_id(pairs), pairs)


def parse_series_id(text: str) -> int | None:
    """The id of 16 hexadecimal digits, None if `text` is none."""
    if len(text) != 16 or not all(c in "0123456789abcdef" for c in text):
        return None
    return int(text, 16)


class MatchType(StrEnum):
    """How a matcher compares."""

    EQUAL = "="
    NOT_EQUAL = "!="
    REGEX = "=~"
    NOT_REGEX = "!~"


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on a label. An absent label counts as empty; expressions are anchored."""

    name: str
    type: MatchType
    value: str

    def __str__(self) -> str:
        escaped = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.name}{self.type}"{escaped}"'


@dataclass(frozen=True, slots=True)
class Selector:
    """Series by name and matchers. Build with `service.query.selector.parse_selector`."""

    matchers: tuple[Matcher, ...]
    text: str = field(default="", compare=False)

    @property
    def name(self) -> str | None:
        """The metric's name where it is fixed."""
        for m in self.matchers:
            if m.name == NAME and m.type is MatchType.EQUAL:
                return m.value
        return None

    def derived(self, suffix: str) -> "Selector":
        """The series in which models write about those that it accepts."""
        matchers = tuple(
            m
            if m.name != NAME
            else Matcher(NAME, m.type, m.value + suffix)
            if m.type in (MatchType.EQUAL, MatchType.NOT_EQUAL)
            else Matcher(NAME, m.type, f"(?:{m.value}){suffix}")
            for m in self.matchers
        )
        if any(m.name == NAME and m.type in (MatchType.EQUAL, MatchType.REGEX) for m in matchers):
            return Selector(matchers)
        return Selector((*matchers, Matcher(NAME, MatchType.REGEX, f".+{suffix}")))


#: No series has no name.
NO_SERIES = Selector((Matcher(NAME, MatchType.EQUAL, ""),))
