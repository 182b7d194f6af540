"""The one sentence of state that stands before anything else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.domain.alerts import Alert, AlertState
from service.domain.silences import Quiet
from service.insights import reasons, records, words
from service.insights.look import Look
from service.insights.reading import Watched


@dataclass(frozen=True, slots=True)
class State:
    """One sentence of state: `lead` is its strong beginning.

    `level` is bad (somebody is needed), warn, good, or empty (no data was ever sent).
    """

    level: str
    lead: str
    text: str


def state_of(
    look: Look,
    titles: Mapping[str, str],
    undelivered: Sequence[records.Undelivered],
    silent: Sequence[Watched],
    hushed: Mapping[str, Quiet] | None = None,
) -> State:
    """The sentence of state. `hushed` are the silenced alerts, by id: they need nobody."""
    hushed = hushed or {}
    if not look.base:
        return State("empty", "No data yet.", "Send metrics to /analytics/metrics to begin.")
    firing = [a for a in look.alerts if a.state is AlertState.FIRING]
    open_ = [a for a in firing if a.acknowledged_at is None]
    waiting = [a for a in open_ if a.id not in hushed]
    told = reasons.covered(look)
    unusual = [i for i, run in look.runs.items() if not run.ended and i not in told]
    quiet = [w for w in silent if w.series.id not in told]
    rest = []
    if unusual:
        rest.append(f"{words.count(len(unusual), 'series is', 'series are')} unusual")
    if quiet:
        rest.append(f"{words.count(len(quiet), 'series is', 'series are')} silent")
    if undelivered:
        number = sum(u.count for u in undelivered)
        rest.append(f"{words.count(number, 'notification')} could not be delivered")
    others = words.upper_first(words.listing(rest)) + "." if rest else ""
    if waiting:
        worst = reasons.sentence(look, waiting[0], titles[waiting[0].id])
        if not others and len(firing) == 1:
            others = "Everything else is normal."
        lead = words.count(len(waiting), "alert needs", "alerts need")
        return State("bad", f"{lead} you.", f"{worst} {others}".strip())
    if firing:
        return _looked_after(firing, open_, hushed, look.now, others)
    if rest:
        return State("warn", "Nothing needs you.", others)
    return State("good", "All is normal.", _calm(look))


def _looked_after(
    firing: Sequence[Alert],
    silenced: Sequence[Alert],
    hushed: Mapping[str, Quiet],
    now: float,
    others: str,
) -> State:
    """Each is acknowledged or silenced."""
    said = []
    taken = {words.person(a.acknowledged_by) for a in firing if a.acknowledged_at is not None}
    if taken:
        said.append(f"Acknowledged by {words.listing(sorted(taken))}.")
    if silenced:
        names = words.listing(sorted({words.person(hushed[a.id].by) for a in silenced}))
        rest = words.span(min(hushed[a.id].until for a in silenced) - now)
        number = "" if len(silenced) == len(firing) else f"{len(silenced)} of them "
        said.append(words.upper_first(f"{number}silenced by {names}, for another {rest}."))
    verb = "being looked after" if taken else "silenced"
    if not taken:
        said = [said[0].replace("Silenced by", "By")]
    lead = f"{words.count(len(firing), 'alert is', 'alerts are')} {verb}."
    return State("warn", lead, " ".join([*said, others or "Everything else is normal."]))


def _calm(look: Look) -> str:
    learned = look.models.counts.get("ready", 0)
    total = words.count(len(look.base), "series is", "series are")
    if learned >= len(look.base):
        return f"{words.upper_first(total)} as expected."
    if learned:
        return (
            f"{words.upper_first(total)} watched, {learned:,} of them with a learned expectation."
        )
    return f"{words.upper_first(total)} watched; what is normal for them is still being learned."
