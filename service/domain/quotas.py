"""What a tenant may use."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields, replace

from service.domain.tenants import Tenant

#: A bucket holds so many seconds of its rate: 10,000 samples/s allow a burst of 200,000.
BURST_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Quota:
    """The limits in force for a tenant.

    Rates refill continuously and allow bursts of `BURST_SECONDS`; the others bound a number.
    """

    samples_per_second: float
    requests_per_second: float
    series: int
    new_series_per_minute: int
    rules: int
    active_alerts: int
    sample_age_seconds: float


NAMES = tuple(field.name for field in fields(Quota))

#: Gives the limits in force for a tenant.
QuotaOf = Callable[[str], Awaitable[Quota]]


def in_force(tenant: Tenant, shipped: Quota, retention_seconds: float) -> Quota:
    """A tenant's own limits, the shipped ones where it has none.

    No sample older than the retention is taken: it would be acknowledged and gone.
    """
    own = {name: value for name in NAMES if (value := getattr(tenant, name)) is not None}
    quota = replace(shipped, **own)
    return replace(quota, sample_age_seconds=min(quota.sample_age_seconds, retention_seconds))
