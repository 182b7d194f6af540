"""Every Redis key, with its lifetime. All keys of a shard share one hash tag, for Redis Cluster.

{s3}:log                       one entry a request; trimmed behind the position
{s3}:position                  id of the last log entry that the chunks contain; kept
{s3}:lease                     the worker that owns the shard; expires unless renewed
{s3}:epoch                     grows with each change of owner; kept
{s3}:tenants                   tenants with series in the shard; kept until deleted
{s3}:series:<tenant>           registry: series id → labels and type; kept until deleted
{s3}:derived:<tenant>          the same for the series that models write
{s3}:…-version:<tenant>        grows with each new series of either registry
{s3}:generation:<tenant>       grows when series of the tenant are deleted; kept
{s3}:new-series:<tenant>       series that may be added now; expires when it is a minute's worth
{s3}:rates:<tenant>            what is left of samples/s and requests/s; expires when both are full
{s3}:usage:<tenant>:<day>      samples, requests and refusals of a day; expires after 40 days
{s3}:chunk:<tenant>:<id>:<n>   samples of bucket n; expires with the retention
{s3}:unsealed                  chunks that are not sealed, by when they are due; kept
{s3}:rollup:<tenant>:<id>:<p>  five-minute rows of 28 buckets; expires with the roll-ups' retention
offbeat:workers                workers by the time of their last sign of life; kept
offbeat:layout                  shard count and bucket length that the data was stored with
offbeat:leader                  the scheduler that leads; expires unless renewed
{offbeat:leader}:epoch          grows with each change of leader; kept
{offbeat:leader}:job:<name>     newest slot of a job, and whether it is done; expires after 30 days
{offbeat:leader}:log            the newest thousand slots that were begun or done; kept
offbeat:lags                    how long points wait in each worker; expires unless told again
offbeat:training                where training stands; expires unless told again
offbeat:ticket:<id>             a login ticket that was used; expires after the ticket
offbeat:rule-errors:<tenant>    rules whose last evaluation failed, and why; expires unless renewed
offbeat:wake:<topic>            pub/sub: look at SQL, files or the registry now, not later
"""

import zlib

LAYOUT = "offbeat:layout"
LEADER = "offbeat:leader"
#: What the leader writes with its lease lies where the lease does: the same hash tag.
LEADER_EPOCH = "{offbeat:leader}:epoch"
JOB_LOG = "{offbeat:leader}:log"
LAGS = "offbeat:lags"
TRAINING = "offbeat:training"
WORKERS = "offbeat:workers"


def job(name: str, seconds: float) -> str:
    """Hash: a job's newest slot, who took it and whether it is done; slots last `seconds`."""
    return f"{{offbeat:leader}}:job:{name}:{seconds:g}"


def shard_of(tenant: str, shards: int) -> int:
    """The shard that a tenant's series live in."""
    return zlib.crc32(tenant.encode()) % shards


def log(shard: int) -> str:
    """Stream of requests, one entry each."""
    return f"{{s{shard}}}:log"


def position(shard: int) -> str:
    """Id of the last applied log entry."""
    return f"{{s{shard}}}:position"


def lease(shard: int) -> str:
    """Owner of the shard; expires."""
    return f"{{s{shard}}}:lease"


def epoch(shard: int) -> str:
    """Grows with each change of owner."""
    return f"{{s{shard}}}:epoch"


def shard_tenants(shard: int) -> str:
    """Set of the tenants that have series in the shard."""
    return f"{{s{shard}}}:tenants"


def registry(shard: int, tenant: str, *, derived: bool) -> str:
    """Hash: 8-byte series id → type and labels."""
    return f"{{s{shard}}}:{'derived' if derived else 'series'}:{tenant}"


def registry_version(shard: int, tenant: str, *, derived: bool) -> str:
    """Counter that grows with each new series."""
    return f"{{s{shard}}}:{'derived' if derived else 'series'}-version:{tenant}"


def generation(shard: int, tenant: str) -> str:
    """Counter that grows when series of the tenant are deleted."""
    return f"{{s{shard}}}:generation:{tenant}"


def new_series(shard: int, tenant: str) -> str:
    """Two doubles: series that may still be added, and when that was (microseconds); expires."""
    return f"{{s{shard}}}:new-series:{tenant}"


def rates(shard: int, tenant: str) -> str:
    """Three doubles: samples and requests that may still come, and when that was (ms)."""
    return f"{{s{shard}}}:rates:{tenant}"


def usage(shard: int, tenant: str, day: str) -> str:
    """Hash of a day (YYYYMMDD, UTC): `samples`, `requests`, `refused` (requests); expires."""
    return f"{{s{shard}}}:usage:{tenant}:{day}"


def chunk(shard: int, tenant: str, series: int, bucket: int) -> str:
    """Sealed blocks, then 16-byte records (i8 milliseconds, f8 value) in order of arrival."""
    return chunk_prefix(shard) + chunk_member(tenant, series, bucket)


def chunk_prefix(shard: int) -> str:
    """What the name of every chunk of a shard begins with."""
    return f"{{s{shard}}}:chunk:"


def chunk_member(tenant: str, series: int, bucket: int | str) -> str:
    """A chunk in the shard's set of unsealed ones; what it begins with if the bucket is empty."""
    return f"{tenant}:{series:016x}:{bucket}"


def unsealed(shard: int) -> str:
    """Sorted set: `chunk_member` by the milliseconds from which it may be sealed."""
    return f"{{s{shard}}}:unsealed"


def rollup_pattern(shard: int, tenant: str) -> str:
    """Glob of all roll-ups of a tenant."""
    return f"{{s{shard}}}:rollup:{tenant}:*"


def rollup(shard: int, tenant: str, series: int, period: int) -> str:
    """Hash: bucket number → sealed block of min, max, sum and count by five minutes."""
    return f"{{s{shard}}}:rollup:{tenant}:{series:016x}:{period}"


def wake(topic: str) -> str:
    """Pub/sub channel; topics: outbox, rules, models, timers."""
    return f"offbeat:wake:{topic}"


def chunk_pattern(shard: int, tenant: str) -> str:
    """Glob of all chunks of a tenant."""
    return f"{{s{shard}}}:chunk:{tenant}:*"


def ticket(ticket_id: str) -> str:
    """Marks a login ticket as used; expires after the ticket itself."""
    return f"offbeat:ticket:{ticket_id}"


def rule_errors(tenant: str) -> str:
    """Hash: rule id → why its last evaluation failed; expires."""
    return f"offbeat:rule-errors:{tenant}"
