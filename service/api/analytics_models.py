"""What the reading side of the API answers. Times are RFC 3339 in UTC, columns in milliseconds."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service.domain.clock import iso


def _moment(value: Any) -> Any:
    return iso(value) if isinstance(value, int | float) else value


Moment = Annotated[str, BeforeValidator(_moment)]
Severity = Annotated[str, Field(examples=["critical"])]
SeriesId = Annotated[str, Field(pattern="^[0-9a-f]{16}$", examples=["2b9d7c3f5e1a6084"])]


class _Answer(BaseModel):
    model_config = ConfigDict(from_attributes=True, extra="forbid")


class State(_Answer):
    """The tenant's state in one sentence."""

    level: str = Field(description="bad (somebody is needed), warn, good, or empty (no data yet)")
    lead: str = Field(examples=["1 alert needs you."])
    text: str


class Chart(_Answer):
    """A series around now: `v` and the expectation at `t`, the forecast at its own times."""

    series: SeriesId
    title: str
    unit: str
    now: int
    t: list[int]
    v: list[float | None]
    expected: list[float | None]
    lower: list[float | None]
    upper: list[float | None]
    anomalies: list[int] = Field(description="positions in `t` of the points that are unusual")
    forecast_t: list[int]
    forecast: list[float | None]
    forecast_lower: list[float | None]
    forecast_upper: list[float | None]
    since: int | None = Field(description="when the alert began")
    threshold: float | None = Field(description="the limit of the alert's rule")
    levels: list[int] = Field(description="when the series settled at another level")


class Reason(_Answer):
    """Where it sits, what moved with it, what comes next, who knows."""

    head: str = Field(examples=["Where", "With", "Next", "Who"])
    text: str


class Alert(_Answer):
    """An alert as it is now."""

    id: str
    rule_id: str
    rule_name: str
    state: str = Field(examples=["firing"])
    severity: Severity
    labels: dict[str, str]
    annotations: dict[str, str]
    series: str = Field(validation_alias="source", description="Id of the series judged")
    value: float | None
    expectation: str
    episode: int
    started_at: Moment
    fired_at: Moment | None
    acknowledged_at: Moment | None
    acknowledged_by: str | None

    model_config = ConfigDict(from_attributes=True, extra="ignore")


class Quiet(_Answer):
    """The silences that keep an alert quiet; who made the last of them to end, and why."""

    ids: list[str]
    until: Moment
    by: str
    comment: str


class AlertCard(_Answer):
    """An active alert with its picture and its reasons; the worst few have a chart."""

    alert: Alert
    title: str
    place: str
    chart: Chart | None
    why: list[Reason]
    quiet: Quiet | None = Field(description="Null unless it is silenced")


class Tile(_Answer):
    """A series' newest value against its expectation."""

    series: SeriesId
    label: str
    place: str
    value: float | None
    shown: str = Field(examples=["48,210"])
    note: str = Field(examples=["as expected"])
    warn: bool
    spark: str = Field(description="an SVG path of the last six hours in a box of 96 by 26")


class Finding(_Answer):
    """One thing worth knowing, with the figures that it rests on."""

    id: str
    kind: str = Field(examples=["unusual", "ahead", "silent", "changed", "new_level"])
    severity: Severity
    title: str
    text: str
    series: list[SeriesId]
    since: Moment | None
    evidence: dict[str, Any]


class Undelivered(_Answer):
    """Notifications that were given up in the last day."""

    channel: str
    count: int
    since: Moment
    error: str


class Counts(_Answer):
    """How much there is and how it does."""

    series: int
    looked_at: int = Field(description="series that were read whole for this answer")
    unusual: int
    silent: int
    models_ready: int
    models_cold: int
    models_failed: int
    newest_sample_at: Moment | None


class Usage(_Answer):
    """What is used of the tenant's limits."""

    series: int
    series_limit: int
    notifications_this_hour: int
    notifications_limit: int
    alerts_in_seven_days: int
    rules: int


class Training(_Answer):
    """Where the training of the tenant's series stands."""

    state: str = Field(description="idle, running or paused", examples=["running"])
    why: str = Field(description="why it is paused, else empty")
    place: str = Field(description="where it runs", examples=["3 processes"])
    since: Moment | None = Field(description="when the run began")
    waiting: int = Field(description="series that are due and not done")
    running: int
    done: int = Field(description="series trained in this run, those that failed included")
    failed: int
    first_waiting: int = Field(description="of those that wait, series that have no model yet")
    first_done: int = Field(description="series that got their first model in this run")
    per_minute: float = Field(description="series done a minute, of all tenants; 0: not known yet")
    seconds_left: float | None = Field(description="until the tenant's last series is done")


class Overview(_Answer):
    """Everything that the overview page shows."""

    tenant: str
    at: Moment
    state: State
    alerts: list[AlertCard]
    tiles: list[Tile]
    findings: list[Finding]
    ahead: list[Finding]
    undelivered: list[Undelivered]
    counts: Counts
    usage: Usage
    learning: Training
    learning_words: str = Field(description="the same in words, while new series learn")


class Insights(_Answer):
    """Findings, the most important first."""

    tenant: str
    at: Moment
    findings: list[Finding]


class SeriesItem(_Answer):
    """One series; `last_*` are null if it has been silent for a day."""

    id: SeriesId
    name: str
    labels: dict[str, str]
    metric_type: str
    last_value: float | None
    last_at: Moment | None
    model_state: str = Field(
        description="cold: judged by itself, peers: beside series of its name, ready: by its own "
        "model, failed; none for what models wrote"
    )
    confidence: float = Field(
        description="0 to 1; below 0.5 what is said of it is shown and alerts nobody"
    )


class SeriesPage(_Answer):
    """A page of series."""

    items: list[SeriesItem]
    next: str | None = Field(description="Hand it in as `cursor` for the next page")


class Model(_Answer):
    """What is known of a series' model. `quality` is what training measured on held-out data."""

    state: str
    version: int
    trained_at: Moment | None
    trained_from: Moment | None
    trained_to: Moment | None
    rows: int
    seconds: float = Field(description="CPU time of the training")
    quality: dict[str, Any]
    drift: float | None = Field(description="0 fits as it did, 1 not at all; null if not known")
    pinned: bool = Field(description="no training replaces it")
    error: str | None


class ChangePoint(_Answer):
    """Since `at` a series runs at `to` instead of `from`; of kind `spread` it varies so much."""

    at: Moment
    kind: str = Field(description="`level` or `spread` (a deviation)", examples=["level"])
    was: float = Field(alias="from", description="without the daily pattern; of a counter its rate")
    to: float
    strength: float = Field(description="in deviations of the steps that the series makes anyway")


class SeriesCard(SeriesItem):
    """One series with its model; `model` is null before the first training."""

    model: Model | None
    change_points: list[ChangePoint] = Field(
        description="as the last training found them, oldest first; the newest 20"
    )


class Samples(_Answer):
    """Columns; what is no finite number is null."""

    series: SeriesId
    t: list[int] = Field(description="milliseconds, ascending")
    v: list[float | None]
    truncated: bool = Field(description="there were more; these are the newest")


class Rows(_Answer):
    """Samples summed up by steps, which are counted from the epoch; empty steps are left out."""

    series: SeriesId
    resolution: str = Field(
        description="`5m` if any of it comes from five-minute roll-ups, else `raw`",
        examples=["5m"],
    )
    step: int = Field(description="milliseconds")
    t: list[int] = Field(description="milliseconds at which the step begins, ascending")
    min: list[float | None]
    max: list[float | None]
    mean: list[float | None]
    count: list[int] = Field(description="samples that are a number")


class Link(_Answer):
    """A link that logs in once, within ten minutes."""

    url: str
