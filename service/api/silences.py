"""Silences and maintenance: times in which alerts that match tell nobody."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from service.api.deps import allow, tenant_of, wiring
from service.domain.clock import iso
from service.domain.durations import parse_duration
from service.domain.errors import InvalidInput, Unprocessable
from service.domain.series import Matcher, MatchType
from service.domain.silences import (
    COMMENT_MAX,
    MATCHERS_MAX,
    Draft,
    Silence,
    SilenceKind,
    SilenceState,
)
from service.domain.tenants import Permission, Principal
from service.wiring import Wiring

router = APIRouter(prefix="/silences", tags=["silences"])

Reader = Annotated[Principal, Depends(allow(Permission.READ))]
Responder = Annotated[Principal, Depends(allow(Permission.RESPOND))]
SilenceId = Annotated[UUID, Path(description="32 hexadecimal digits")]

_TYPES = {
    (False, True): MatchType.EQUAL,
    (False, False): MatchType.NOT_EQUAL,
    (True, True): MatchType.REGEX,
    (True, False): MatchType.NOT_REGEX,
}
_BY_TYPE = {kind: flags for flags, kind in _TYPES.items()}
_LAST = 253_402_300_799.0  # the end of the year 9999


class MatcherBody(BaseModel):
    """One condition on a label of the alert, as Alertmanager has it."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(
        pattern=r"^[a-zA-Z_][a-zA-Z0-9_]{0,127}$",
        description="A label of the series, `__name__`, one of the rule's, `alertname`, `severity`",
        examples=["region"],
    )
    value: str = Field(
        max_length=1024,
        description="What the label is to be; an absent label counts as empty",
        examples=["eu-.*"],
    )
    is_regex: bool = Field(False, description="A regular expression (RE2) for the whole value")
    is_equal: bool = Field(True, description="false: the label must not match")


class SilenceBody(BaseModel):
    """What is wanted. Times are ISO 8601 with a zone, or Unix seconds."""

    model_config = ConfigDict(extra="forbid")

    matchers: list[MatcherBody] = Field(
        min_length=1, max_length=MATCHERS_MAX, description="All of them must match"
    )
    starts_at: AwareDatetime | None = Field(None, description="Without it, now")
    ends_at: AwareDatetime | None = Field(None, description="This, or `duration`")
    duration: str | None = Field(
        None,
        max_length=32,
        description="How long, from `starts_at`, or from now where that is absent",
        examples=["2h"],
    )
    comment: str = Field(max_length=COMMENT_MAX, examples=["Moving the database"])
    kind: SilenceKind = SilenceKind.SILENCE

    def draft(self, now: float) -> Draft:
        """What it asks for at `now`; `Unprocessable`."""
        starts_at = None if self.starts_at is None else _seconds(self.starts_at, "starts_at")
        if (self.ends_at is None) == (self.duration is None):
            raise Unprocessable("say when it ends: ends_at or duration", where="ends_at")
        if self.ends_at is not None:
            ends_at = _seconds(self.ends_at, "ends_at")
        else:
            try:
                ends_at = (now if starts_at is None else starts_at) + parse_duration(self.duration)
            except InvalidInput as error:
                raise Unprocessable(str(error), where="duration") from error
        matchers = []
        for number, m in enumerate(self.matchers):
            if not _storable(m.value):
                raise Unprocessable(
                    "the value holds a NUL character or half a surrogate pair",
                    where=f"matchers.{number}.value",
                )
            matchers.append(Matcher(m.name, _TYPES[m.is_regex, m.is_equal], m.value))
        comment = self.comment.strip()
        if not all(c.isprintable() or c in "\n\t" for c in comment):
            raise Unprocessable("comment has characters that cannot be printed", where="comment")
        return Draft(tuple(matchers), ends_at, comment, self.kind, starts_at)


class SilenceAnswer(BaseModel):
    """One silence. Times are ISO 8601, UTC."""

    id: str
    kind: SilenceKind
    state: SilenceState
    matchers: list[MatcherBody]
    starts_at: str | None
    ends_at: str | None
    created_by: str
    comment: str
    created_at: str | None
    updated_at: str | None


class SilencePage(BaseModel):
    """Some silences, newest first."""

    items: list[SilenceAnswer]
    next: str | None = Field(description="Hand it in as `cursor` for the next page")


@router.post("", status_code=201, summary="Silence alerts, or announce a maintenance")
async def create(request: Request, principal: Responder, body: SilenceBody) -> SilenceAnswer:
    """In force when this answers. Alerts that match are judged and shown, and tell nobody."""
    tenant, parts = tenant_of(principal), wiring(request)
    wanted = body.draft(parts.clock.now())
    return _shown(parts, await parts.silences.create(tenant, wanted, principal.actor))


@router.get("", summary="List silences")
async def listing(
    request: Request,
    principal: Reader,
    state: Annotated[SilenceState | None, Query(description="Only those in this state")] = None,
    cursor: Annotated[str | None, Query(description="From the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> SilencePage:
    """Newest first, those that have ended included for as long as they are kept."""
    tenant, parts = tenant_of(principal), wiring(request)
    found, more = await parts.silences.list(tenant, state, cursor, limit)
    return SilencePage(items=[_shown(parts, silence) for silence in found], next=more)


@router.get("/{silence_id:uuid}", summary="Show a silence")
async def show(request: Request, principal: Reader, silence_id: SilenceId) -> SilenceAnswer:
    """What it matches, from when to when, who made it and why."""
    tenant, parts = tenant_of(principal), wiring(request)
    return _shown(parts, await parts.silences.get(tenant, silence_id.hex))


@router.put("/{silence_id:uuid}", summary="Change a silence")
async def change(
    request: Request, principal: Responder, silence_id: SilenceId, body: SilenceBody
) -> SilenceAnswer:
    """End, kind and comment change in place, and everything of one that has not begun.

    An active one that is to match something else, or to have begun at another time, ends, and the
    answer is the new one in its place, with another id. 409 for one that has ended.
    """
    tenant, parts = tenant_of(principal), wiring(request)
    wanted = body.draft(parts.clock.now())
    after = await parts.silences.update(tenant, silence_id.hex, wanted, principal.actor)
    await _rouse(parts)
    return _shown(parts, after)


@router.delete("/{silence_id:uuid}", summary="End a silence")
async def expire(request: Request, principal: Responder, silence_id: SilenceId) -> SilenceAnswer:
    """It ends now and is kept for a while; what it kept back and still fires is told at once."""
    tenant, parts = tenant_of(principal), wiring(request)
    after = await parts.silences.expire(tenant, silence_id.hex, principal.actor)
    await _rouse(parts)
    return _shown(parts, after)


async def _rouse(parts: Wiring) -> None:
    """Let timers and outbox look now at what waits for the end of a silence."""
    await parts.wake.publish("timers")
    await parts.wake.publish("outbox")


def _storable(value: str) -> bool:
    return not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value)


def _seconds(moment: datetime, where: str) -> float:
    seconds = moment.timestamp()
    if not 0 <= seconds <= _LAST:
        raise Unprocessable("no time that we keep", where=where)
    return seconds


def _shown(parts: Wiring, silence: Silence) -> SilenceAnswer:
    return SilenceAnswer(
        id=silence.id,
        kind=silence.kind,
        state=silence.state(parts.clock.now()),
        matchers=[_matcher(matcher) for matcher in silence.matchers],
        starts_at=iso(silence.starts_at),
        ends_at=iso(silence.ends_at),
        created_by=silence.created_by,
        comment=silence.comment,
        created_at=iso(silence.created_at),
        updated_at=iso(silence.updated_at),
    )


def _matcher(matcher: Matcher) -> MatcherBody:
    is_regex, is_equal = _BY_TYPE[matcher.type]
    return MatcherBody(name=matcher.name, value=matcher.value, is_regex=is_regex, is_equal=is_equal)
