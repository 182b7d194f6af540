"""Why an alert is there and who knows: where it sits, what moved with it, what comes next."""

from dataclasses import dataclass

import numpy as np

from service.domain.alerts import Alert
from service.domain.notifications import DeliveryState
from service.domain.series import parse_series_id
from service.domain.silences import Quiet
from service.insights import records, unusual, words
from service.insights.coming import crossing, limits, when
from service.insights.look import Look
from service.insights.reading import Watched, at_time
from service.insights.unusual import Run

_PENDING = (DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.RETRY)


@dataclass(frozen=True, slots=True)
class Reason:
    """One line of the list: `head` is Where, With, Next, What or Who."""

    head: str
    text: str


def run_of(look: Look, alert: Alert, watched: Watched) -> Run | None:
    """The unusual stretch behind an alert, else everything since it began."""
    run = look.runs.get(watched.series.id)
    if run is not None:
        return run
    since = round(alert.started_at * 1000)
    late = watched.samples.between(since, look.now_ms)
    good = np.isfinite(late.v)
    if not good.any():
        return None
    expected = watched.on_samples(watched.expected)[watched.samples.t >= since]
    expected = expected[np.isfinite(expected)]
    return Run(
        since=since,
        until=int(late.t[good][-1]),
        points=int(good.sum()),
        value=float(np.mean(late.v[good])),
        expected=float(np.mean(expected)) if len(expected) else None,
        ended=False,
    )


def limit_of(look: Look, alert: Alert, watched: Watched) -> float | None:
    """The limit of the alert's rule, where the rule compares the value with one."""
    for limit in limits(look, watched):
        if limit.rule is not None and limit.rule.id == alert.rule_id:
            return limit.threshold
    return None


def covered(look: Look) -> set[int]:
    """The series that active alerts speak of: their own, its relatives, and what moved with it."""
    found: set[int] = set()
    for alert in look.alerts:
        watched = look.watched.get(parse_series_id(alert.source) or -1)
        if watched is None or watched.series.id in found:
            continue
        name = watched.series.name
        found |= {w.series.id for w in look.family(name)}
        run = run_of(look, alert, watched)
        if run is not None:
            others = [w for w in look.watched.values() if w.series.name != name]
            for move in unusual.moved_with(watched, run, others):
                found |= {w.series.id for w in look.family(move.series.name)}
    return found


def sentence(look: Look, alert: Alert, title: str) -> str:
    """What the alert is about: “Play starts (eu-west) has been 31 % under expectation for …”."""
    lasting = words.span(look.now - alert.started_at)
    watched = look.watched.get(parse_series_id(alert.source) or -1)
    newest = watched.last if watched else None
    if watched is None or newest is None:
        return f"{title}, for {lasting}."
    run = look.runs.get(watched.series.id)
    about = words.named(watched.series)
    if run is not None and run.expected is not None:
        against = words.against(run.value, run.expected, watched.series.name)
        return f"{about} has been {against} for {lasting}."
    value = words.figure(newest[1], watched.series.name)
    expectation = f" ({alert.expectation})" if alert.expectation else ""
    return f"{about} is at {value}{expectation}, for {lasting} now."


def why(
    look: Look,
    alert: Alert,
    watched: Watched | None,
    told: list[records.Told],
    due: records.Due | None,
    quiet: Quiet | None = None,
) -> list[Reason]:
    """The reasons that there are something to say about."""
    lines = []
    if watched is not None:
        run = run_of(look, alert, watched)
        if run is not None:
            where = unusual.where(watched, run, look.family(watched.series.name))
            if where is not None:
                lines.append(Reason("Where", where.text))
            others = [w for w in look.watched.values() if w.series.name != watched.series.name]
            moves = unusual.moves_text(unusual.moved_with(watched, run, others))
            if moves:
                lines.append(Reason("With", moves))
        following = _next(look, alert, watched)
        if following:
            lines.append(Reason("Next", following))
    elif alert.expectation:
        value = "" if alert.value is None else f"{words.figure(alert.value)}, "
        lines.append(Reason("What", f"{value}{alert.expectation}"))
    lines.append(Reason("Who", who(alert, told, due, look.now, quiet)))
    return lines


def _next(look: Look, alert: Alert, watched: Watched) -> str:
    name = watched.series.name
    for limit in limits(look, watched):
        if limit.rule is None or limit.rule.id != alert.rule_id:
            continue
        coming = crossing(watched, limit.operator, limit.threshold, look.now_ms)
        if coming is not None and coming.returns:
            side = "below" if coming.upwards else "above"
            limit_said = words.figure(limit.threshold, name)
            return f"forecast to be back {side} {limit_said} {when(coming, look.now)}"
    t, v = watched.forecast.between(look.now_ms, 1 << 62)
    good = np.flatnonzero(np.isfinite(v))
    if not len(good):
        return ""
    end = int(good[-1])
    text = f"forecast {words.rough(float(v[end]), name)} "
    text += f"in {words.span(t[end] / 1000 - look.now)}"
    low, high = (at_time(c, int(t[end])) for c in (watched.forecast_lower, watched.forecast_upper))
    if low is not None and high is not None:
        text += f" ({words.rough(low, name)} to {words.rough(high, name)})"
    newest = watched.last
    return text + (f", {words.figure(newest[1], name)} now" if newest else "")


def who(
    alert: Alert,
    told: list[records.Told],
    due: records.Due | None,
    now: float,
    quiet: Quiet | None = None,
) -> str:
    """Who was told when, and who is next; or for how long nobody is."""
    parts = []
    by_state: dict[str, list[str]] = {}
    newest: dict[str, float] = {}
    for t in told:
        if t.kind in ("resolved",):
            continue
        key = _state(t)
        channels = by_state.setdefault(key, [])
        if t.channel not in channels:
            channels.append(t.channel)
        newest[key] = max(newest.get(key, 0.0), t.at)
    if "told" in by_state:
        names = words.listing(by_state["told"])
        was = "was" if len(by_state["told"]) == 1 else "were"
        parts.append(f"{names} {was} told {words.span(now - newest['told'])} ago")
    if "waiting" in by_state:
        parts.append(f"{words.listing(by_state['waiting'])} is being told")
    if "dead" in by_state:
        reason = next((t.error for t in told if t.state is DeliveryState.DEAD and t.error), "")
        text = f"{words.listing(by_state['dead'])} could not be reached"
        parts.append(f"{text}: {reason}" if reason else text)
    if "held" in by_state:
        parts.append("held back by the hourly limit, told in a summary")
    if quiet is not None:
        parts.append(f"nobody is told for another {words.span(quiet.until - now)}, it is silenced")
    elif alert.acknowledged_at is not None:
        parts.append("no further escalation, it is acknowledged")
    elif due is not None:
        channels = _due_channels(due)
        names = words.listing(channels) if channels else "the next step"
        soon = due.at - now
        parts.append(f"{names} in {words.span(soon)}" if soon >= 1 else f"{names} now")
    return "; ".join(parts) if parts else "nobody was told: the rule names no channel"


def _state(t: records.Told) -> str:
    if t.state is DeliveryState.SENT:
        return "told"
    if t.state in _PENDING:
        return "waiting"
    if t.state is DeliveryState.DEAD:
        return "dead"
    return "held" if t.state is DeliveryState.SUMMARISED else "cancelled"


def _due_channels(due: records.Due) -> list[str]:
    """The channels of the step that is due, as the escalation's timer names them."""
    channels = due.payload.get("channels")
    return [str(c) for c in channels] if isinstance(channels, list) else []
