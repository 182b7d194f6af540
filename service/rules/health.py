"""Which rules could not be judged the last time, shared between the worker and the API.

It is a hint for people, kept in Redis for an hour after its last renewal: a store that is down
costs the hint and nothing else.
"""

from collections.abc import Iterable, Mapping

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.domain.errors import Unavailable
from service.rules.evaluator import Judgement
from service.storage import keys
from service.storage.redis import ask

log = structlog.get_logger(__name__)

_KEPT_SECONDS = 3600
_LONGEST = 500


class RuleHealth:
    """Last errors by tenant and rule id."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._had: set[str] = set()

    async def report(self, tenant: str, errors: Mapping[str, str]) -> None:
        """What failed in an evaluation of all rules of a tenant, by rule id; often nothing."""
        if not errors and tenant not in self._had:
            return
        key = keys.rule_errors(tenant)
        try:
            await ask(self._redis, "DEL", key)
            if errors:
                fields = [part for id, why in errors.items() for part in (id, why[:_LONGEST])]
                await ask(self._redis, "HSET", key, *fields)
                await ask(self._redis, "EXPIRE", key, _KEPT_SECONDS)
        except (Unavailable, RedisError) as error:
            log.warning("rule errors not kept", tenant=tenant, error=str(error))
            return
        self._had.discard(tenant)
        if errors:
            self._had.add(tenant)

    async def errors(self, tenant: str) -> dict[str, str]:
        """Why rules failed, by rule id; empty where all is well or nobody can tell."""
        try:
            found: dict[bytes, bytes] = await ask(self._redis, "HGETALL", keys.rule_errors(tenant))
        except (Unavailable, RedisError) as error:
            log.warning("rule errors not known", tenant=tenant, error=str(error))
            return {}
        return {id.decode(): why.decode() for id, why in found.items()}


def short(judgements: Iterable[Judgement]) -> str:
    """Of which series a rule sees less than it asks for; empty where there are none."""
    found = [judgement for judgement in judgements if judgement.note]
    if not found:
        return ""
    who = "1 series is" if len(found) == 1 else f"{len(found):,} series are"
    first = found[0]
    return f"{who} seen less far than the rule looks: {first.series}: {first.note}"


def held(judgements: Iterable[Judgement]) -> str:
    """Which series meet a rule and alert nobody, and why; empty where there are none."""
    found = [judgement for judgement in judgements if judgement.held]
    if not found:
        return ""
    first = found[0]
    one = len(found) == 1
    who = (
        "1 series is unlike its past and opens"
        if one
        else (f"{len(found):,} series are unlike their past and open")
    )
    return f"{who} no alert: {first.series}: {first.held}"
