"""`queries`: what PromQL over HTTP costs, beside a real Prometheus on the same samples.

Both get the same bodies of remote_write and are asked in turns, each time a step later, so that no
answer is one of before. Where there is no Prometheus, ours is measured alone.
"""

import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field

import httpx

from bench import queries_data as data
from bench.bodies import PROTOCOLS
from bench.prometheus import Prometheus, installed
from bench.queries_data import Block
from bench.service import Service
from service.domain.series import series_id
from service.settings import Settings
from service.storage import keys
from service.storage.columns import Columns
from service.storage.rollups import BUCKETS, pack_rows, roll_up

TENANT = "bench"
#: How long samples are kept here: what is older is read from roll-ups.
_RETENTION_S = 86_400.0
#: Answers to a query are the same if numbers differ by less, relatively.
_CLOSE = 1e-9
_POINTS = 211
#: How long a request to record is made again.
_PATIENCE_S = 60.0

Answer = Mapping[str, tuple[tuple[float, float], ...]]


@dataclass(frozen=True)
class Shape:
    """A query: at `points` times, `step_s` apart."""

    what: str
    expr: str
    points: int = _POINTS
    step_s: int = data.STEP_S


SHAPES = (
    Shape("avg by (mode)", "avg by (mode) (load)"),
    Shape("at one time", "avg by (mode) (load)", points=1),
    Shape("rate", 'rate(cpu_seconds_total{mode="idle"}[5m])'),
    Shape("sum by, of rate", "sum by (mode) (rate(cpu_seconds_total[5m]))"),
    Shape("join", "avg by (role) (load * on (instance) group_left (role) machine_info)"),
    Shape("quantile", "quantile by (mode) (0.9, load)"),
    Shape("topk", "topk(5, load)"),
    Shape(
        "histogram_quantile",
        "histogram_quantile(0.99, sum by (le, route) (rate(request_seconds_bucket[5m])))",
    ),
    # No step of a window lies at its edge, which is all that Prometheus 2 has otherwise.
    Shape("subquery", "max_over_time(avg by (mode) (load)[595s:30s])"),
    Shape("max_over_time of 1 h", "max by (mode) (max_over_time(load[1h]))"),
    Shape("regular expression", 'count(load{instance=~".*[37]:9100", mode!~"idle|user"} > 50)'),
    Shape("30 days", "avg by (mode) (avg_over_time(level[1h]))", data.DAYS * 24 - 24, 3600),
)


@dataclass
class Row:
    """What a query takes; `theirs` is None without a Prometheus."""

    what: str
    expr: str
    series: int
    points: int
    ours: "Cost"
    theirs: "Cost | None" = None

    @property
    def ratio(self) -> float | None:
        """How many times as long ours takes."""
        return None if self.theirs is None else self.ours.ms / self.theirs.ms

    @property
    def cpu_ratio(self) -> float | None:
        """How many times as much CPU time; None if Prometheus' is too little to be seen."""
        if self.theirs is None or not self.theirs.cpu_ms:
            return None
        return self.ours.cpu_ms / self.theirs.cpu_ms


@dataclass(frozen=True)
class Cost:
    """The median of what was waited for an answer, and what it took of all cores on average."""

    ms: float
    cpu_ms: float


@dataclass
class Queries:
    """Every shape, and where the answers were not the same; `against` is Prometheus' version."""

    samples: int
    against: str | None
    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, object]:
        """As JSON."""
        rows = [
            {**asdict(row), "ratio": row.ratio, "cpu_ratio": row.cpu_ratio} for row in self.rows
        ]
        return {**asdict(self), "rows": rows}


def measure(repeats: int = 7, say: Callable[[str], None] = lambda _: None) -> Queries:
    """Record, then ask each shape so many times; `RuntimeError` if something does not start."""
    hour = 3_600_000
    end_ms = round(time.time() * 1000) // hour * hour
    now_ms = round(time.time() * 1000) // 60_000 * 60_000
    recent, levels = data.recent(now_ms), data.levels(now_ms)
    with ExitStack() as stack:
        service = Service(retention_seconds=_RETENTION_S)
        stack.callback(service.remove)
        stack.enter_context(service)
        key = service.tenant(TENANT, sample_age_seconds=_RETENTION_S)
        ours = _Target(service.url, lambda: _spent(service), {"Authorization": f"Bearer {key}"})
        say("recording")
        _record(service, ours, recent, levels, now_ms)
        theirs: _Target | None = None
        version = None
        if installed():
            prometheus = stack.enter_context(Prometheus())
            theirs, version = _Target(prometheus.url, prometheus.cpu), prometheus.version
            theirs.record([levels, *recent])
            prometheus.settle()
        found = Queries(sum(block.v.size for block in (levels, *recent)), version)
        for shape in SHAPES:
            say(shape.what)
            last_ms = end_ms if shape.step_s == hour // 1000 else now_ms
            found.rows.append(_asked(shape, last_ms, ours, theirs, repeats, found.problems))
    return found


class _Target:
    """A server that takes remote_write and PromQL."""

    def __init__(
        self, url: str, cpu: Callable[[], float], headers: Mapping[str, str] | None = None
    ) -> None:
        self._url = url
        self._cpu = cpu
        self.ms: list[float] = []
        self.cpu_ms: list[float] = []
        self._client = httpx.Client(
            headers={**(headers or {}), "Accept-Encoding": "identity"}, timeout=120, trust_env=False
        )

    def record(self, blocks: Sequence[Block]) -> None:
        """All samples of the blocks, in order of time."""
        protocol = PROTOCOLS["remote_write"]
        headers = dict(line.split(": ", 1) for line in protocol.headers)
        for body in data.requests(blocks):
            deadline = time.monotonic() + _PATIENCE_S
            while True:
                answer = self._client.post(self._url + protocol.path, content=body, headers=headers)
                if answer.status_code // 100 == 2:
                    break
                # A busy store is one to ask again, as every sender does.
                if answer.status_code != 503 or time.monotonic() > deadline:
                    raise RuntimeError(f"samples were refused: {answer.status_code} {answer.text}")
                time.sleep(float(answer.headers.get("Retry-After", 1)))

    def begin(self) -> None:
        """Forget what was measured."""
        self.ms, self.cpu_ms = [], []

    @property
    def cost(self) -> Cost:
        """What was measured since."""
        return Cost(statistics.median(self.ms), statistics.mean(self.cpu_ms))

    def ask(self, shape: Shape, end_ms: int) -> Answer:
        """The answer; what it takes is measured."""
        end, span = end_ms / 1000, (shape.points - 1) * shape.step_s
        params: dict[str, str | float] = {"query": shape.expr}
        path = "query"
        if shape.points == 1:
            params["time"] = end
        else:
            path = "query_range"
            params |= {"start": end - span, "end": end, "step": shape.step_s}
        spent, begun = self._cpu(), time.perf_counter()
        answer = self._client.get(f"{self._url}/api/v1/{path}", params=params)
        self.ms.append(1000 * (time.perf_counter() - begun))
        self.cpu_ms.append(1000 * (self._cpu() - spent))
        if answer.status_code != 200:
            raise RuntimeError(f"{shape.expr}: {answer.status_code} {answer.text}")
        return _read(answer.content)


def _spent(service: Service) -> float:
    cpu = service.read().cpu
    return cpu["api"] + cpu["store"]


def _record(
    service: Service, ours: _Target, recent: list[Block], levels: Block, now_ms: int
) -> None:
    """Samples through the API; levels of days before the last as the roll-ups that they become."""
    settings = Settings()
    bucket_ms = round(settings.chunk_seconds * 1000)
    kept_from = now_ms - round(_RETENTION_S * 1000)
    raw_from = (kept_from // bucket_ms + 1) * bucket_ms
    ours.record([levels.since(raw_from), *recent])
    service.drain()
    shard = keys.shard_of(TENANT, settings.log_shards)
    pipe = service.redis.pipeline(transaction=False)
    for labels, values in zip(levels.labels, levels.v, strict=True):
        columns = Columns(levels.t, values)
        for bucket in range(int(levels.t[0]) // bucket_ms, raw_from // bucket_ms):
            part = columns.between(bucket * bucket_ms, (bucket + 1) * bucket_ms - 1)
            name = keys.rollup(shard, TENANT, series_id(labels), bucket // BUCKETS)
            pipe.hset(name, str(bucket), pack_rows(roll_up(part)))
    pipe.execute()


def _asked(
    shape: Shape,
    end_ms: int,
    ours: _Target,
    theirs: _Target | None,
    repeats: int,
    problems: list[str],
) -> Row:
    asked = [ours] if theirs is None else [ours, theirs]
    answers: list[Answer] = []
    # One more than counts: the first is for connections and what is read for the first time.
    for turn in range(repeats + 1):
        at = end_ms - (repeats - turn) * shape.step_s * 1000
        answers = [target.ask(shape, at) for target in asked]
        if len(answers) > 1 and (unlike := difference(*answers)):
            problems.append(f"{shape.expr}: {unlike}")
        if not turn:
            for target in asked:
                target.begin()
    costs = [target.cost for target in asked]
    return Row(shape.what, shape.expr, len(answers[0]), shape.points, *costs)


def _read(body: bytes) -> Answer:
    """Times and values of each series, by its labels."""
    found = {}
    for series in json.loads(body)["data"]["result"]:
        samples = series["values"] if "values" in series else [series["value"]]
        labels = json.dumps(series["metric"], sort_keys=True)
        found[labels] = tuple((float(t), float(v)) for t, v in samples)
    return found


def difference(ours: Answer, theirs: Answer) -> str:
    """What is not the same in two answers, nothing if all is."""
    if ours.keys() != theirs.keys():
        return f"{len(ours)} series, {len(theirs)} of Prometheus, not all the same"
    return next(_differences(ours, theirs), "")


def _differences(ours: Answer, theirs: Answer) -> Iterator[str]:
    for labels, samples in ours.items():
        if [t for t, _ in samples] != [t for t, _ in theirs[labels]]:
            yield f"{labels} has values at other times than of Prometheus"
        for (t, a), (_, b) in zip(samples, theirs[labels], strict=False):
            if not (math.isclose(a, b, rel_tol=_CLOSE) or (math.isnan(a) and math.isnan(b))):
                yield f"{labels} is {a!r} at {t}, {b!r} of Prometheus"
