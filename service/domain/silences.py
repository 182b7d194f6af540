"""Silences: times in which alerts that match tell nobody, and from which models learn nothing.

    pending ──(starts_at)──▶ active ──(ends_at)──▶ expired

A maintenance is a silence that says what it is for: somebody works on what it names. Both do the
same. A matcher compares a label of the alert: those of its series with `__name__`, the rule's own,
`alertname` and `severity`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from service.domain.alerts import Alert
from service.domain.clock import iso
from service.domain.errors import Conflict, Unprocessable
from service.domain.series import Matcher, MatchType

MATCHERS_MAX = 100
COMMENT_MAX = 2000
#: How long a silence may last, and how far ahead it may begin.
LONGEST_SECONDS = AHEAD_SECONDS = 366 * 86_400.0
#: Of a longer silence models leave out so much from its beginning: what comes after is the new
#: normal, or nothing would ever be learned of what is silenced for good.
NOT_LEARNED_SECONDS = 7 * 86_400.0

ALERT_NAME, SEVERITY = "alertname", "severity"

#: Whether every matcher accepts the labels. Regular expressions are not the standard library's.
Accepts = Callable[[Sequence[Matcher], Mapping[str, str]], bool]


class SilenceKind(StrEnum):
    """What it is for."""

    SILENCE = "silence"
    MAINTENANCE = "maintenance"


class SilenceState(StrEnum):
    """Where a silence is in its life."""

    PENDING = "pending"
    ACTIVE = "active"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Draft:
    """What somebody asks for. Times are Unix seconds; without `starts_at` it begins at once."""

    matchers: tuple[Matcher, ...]
    ends_at: float
    comment: str
    kind: SilenceKind = SilenceKind.SILENCE
    starts_at: float | None = None


@dataclass(frozen=True, slots=True)
class Silence:
    """One silence of a tenant. It holds from `starts_at` to before `ends_at` (Unix seconds)."""

    id: str
    tenant: str
    kind: SilenceKind
    matchers: tuple[Matcher, ...]
    starts_at: float
    ends_at: float
    created_by: str
    comment: str
    created_at: float
    updated_at: float

    def state(self, now: float) -> SilenceState:
        """Where it is at `now`."""
        if now >= self.ends_at:
            return SilenceState.EXPIRED
        return SilenceState.PENDING if now < self.starts_at else SilenceState.ACTIVE

    @property
    def names_alerts(self) -> bool:
        """Whether it speaks of what only alerts have: which series it is about, its alerts say."""
        return any(m.name in (ALERT_NAME, SEVERITY) for m in self.matchers)

    @property
    def not_learned(self) -> tuple[float, float]:
        """From when to when models learn nothing of what it is about."""
        return self.starts_at, min(self.ends_at, self.starts_at + NOT_LEARNED_SECONDS)


@dataclass(frozen=True, slots=True)
class Quiet:
    """Why an alert tells nobody now: the silences that hold for it, the last to end first."""

    silences: tuple[Silence, ...]

    @property
    def until(self) -> float:
        """When the last of them ends, Unix seconds."""
        return self.silences[0].ends_at

    @property
    def ids(self) -> list[str]:
        """Which they are."""
        return [silence.id for silence in self.silences]

    @property
    def text(self) -> str:
        """`silenced by responder:Mira until 2026-11-21T20:00:00Z: moving the database`."""
        last = self.silences[0]
        return f"silenced by {last.created_by} until {iso(last.ends_at)}: {last.comment}"

    @property
    def by(self) -> str:
        """Who made the last one."""
        return self.silences[0].created_by

    @property
    def comment(self) -> str:
        """Why."""
        return self.silences[0].comment

    @property
    def detail(self) -> dict[str, object]:
        """As a timeline keeps it."""
        last = self.silences[0]
        return {
            "reason": "silenced",
            "silences": self.ids,
            "until": last.ends_at,
            "by": last.created_by,
            "comment": last.comment,
        }


def alert_labels(alert: Alert) -> dict[str, str]:
    """What the matchers of silences see of an alert."""
    return {**alert.labels, SEVERITY: str(alert.severity)}


def matching(alert: Alert) -> tuple[Matcher, ...]:
    """What accepts this alert and those of the same rule and series alone."""
    return tuple(
        Matcher(name, MatchType.EQUAL, value) for name, value in alert.labels.items() if value
    )


def quiet(
    silences: Iterable[Silence], labels: Mapping[str, str], now: float, accepts: Accepts
) -> Quiet | None:
    """The silences that hold at `now` for an alert with those labels; None if it may be told."""
    found = [
        silence
        for silence in silences
        if silence.state(now) is SilenceState.ACTIVE and accepts(silence.matchers, labels)
    ]
    if not found:
        return None
    return Quiet(tuple(sorted(found, key=lambda silence: (-silence.ends_at, silence.id))))


class Edit(StrEnum):
    """How a change of a silence is made."""

    NOTHING = "nothing"
    UPDATE = "update"
    REPLACE = "replace"  # it ends, and another one begins


def edit(before: Silence, wanted: Draft, now: float) -> Edit:
    """How `before` becomes what is wanted; `Conflict` for one that has ended.

    What has been silenced stays told: an active silence that is to match something else, or to
    have begun at another time, ends, and a new one takes its place. Its end, kind and comment
    change in place, and all of one that has not begun.
    """
    state = before.state(now)
    if state is SilenceState.EXPIRED:
        raise Conflict(f"the silence ended at {iso(before.ends_at)}; make a new one")
    starts_at = before.starts_at if wanted.starts_at is None else wanted.starts_at
    same = before.matchers == wanted.matchers and before.starts_at == starts_at
    if state is SilenceState.ACTIVE and not same:
        return Edit.REPLACE
    rest = (before.ends_at, before.kind, before.comment)
    if same and rest == (wanted.ends_at, wanted.kind, wanted.comment):
        return Edit.NOTHING
    return Edit.UPDATE


def check(wanted: Draft, now: float, accepts: Accepts) -> None:
    """`Unprocessable` that names the field if there can be no such silence."""
    starts_at = now if wanted.starts_at is None else wanted.starts_at
    if wanted.ends_at <= starts_at:
        raise Unprocessable(
            f"it would end at {iso(wanted.ends_at)}, before it begins at {iso(starts_at)}",
            where="ends_at",
        )
    if wanted.ends_at <= now:
        raise Unprocessable(f"{iso(wanted.ends_at)} has passed", where="ends_at")
    if wanted.ends_at - starts_at > LONGEST_SECONDS:
        raise Unprocessable("a silence lasts 366 days at most", where="ends_at")
    if starts_at - now > AHEAD_SECONDS:
        raise Unprocessable("a silence begins within 366 days", where="starts_at")
    if not wanted.comment.strip():
        raise Unprocessable("say why: the people whom it keeps quiet read it", where="comment")
    if not wanted.matchers:
        raise Unprocessable("name at least one label", where="matchers")
    if len(wanted.matchers) > MATCHERS_MAX:
        raise Unprocessable(
            f"{len(wanted.matchers)} matchers; {MATCHERS_MAX} are possible", where="matchers"
        )
    if accepts(wanted.matchers, {}):
        raise Unprocessable(
            "every matcher accepts alerts without its label, so that nearly everything would be "
            "silenced; let one demand a value",
            where="matchers",
        )
