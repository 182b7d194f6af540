"""The composition root: makes everything once and hands the parts to each other."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from service.alerts.engine import AlertEngine
from service.alerts.escalator import Escalator
from service.alerts.feedback import Feedback
from service.alerts.incidents import Incidents
from service.alerts.silences import Silences
from service.alerts.store import AlertStore
from service.detection.progress import Board
from service.detection.records import ModelRecords
from service.detection.standing import Standings
from service.domain.clock import Clock, SystemClock
from service.domain.errors import ConfigurationError
from service.domain.rules import Rule
from service.domain.series import Selector
from service.ingest.intake import Intake, SeriesWriter
from service.insights.findings import Findings
from service.insights.overview import Overview
from service.insights.trends import Trends
from service.notify.dispatcher import Dispatcher
from service.notify.outbox import Outbox
from service.notify.store import ChannelStore
from service.query.promql.budget import Limits
from service.query.promql.stored import Stored
from service.query.queries import Queries
from service.query.source import Source
from service.rules.health import RuleHealth
from service.rules.loader import RulesFile
from service.rules.rewriting import looked_ahead_at
from service.rules.store import RuleStore
from service.security.crypto import SecretBox, derive
from service.security.keys import KeyRing
from service.security.sessions import Sessions
from service.security.tenants import TenantStore
from service.settings import Settings
from service.storage import keys as store_keys
from service.storage.append import LogWriter
from service.storage.chunks import ChunkReader, ChunkWriter
from service.storage.deletion import Deletion, Eraser
from service.storage.lag import Lags
from service.storage.log import LogReader
from service.storage.reach import reach
from service.storage.redis import ask, connect_as_set
from service.storage.registry import SeriesRegistry
from service.storage.rollups import RollupReader
from service.storage.sealing import Sealer
from service.storage.sql.engine import Database
from service.storage.sql.migrate import migrate
from service.storage.usage import UsageBook
from service.storage.wake import WakeUps

if TYPE_CHECKING:
    from service.detection.catalogue import Catalogue
    from service.detection.cold import ColdScorer
    from service.detection.compacting import Compactor
    from service.detection.explaining import Explainer
    from service.detection.health import Health
    from service.detection.registry import ModelRegistry
    from service.detection.scoring import Scorer
    from service.detection.training import Trainer


@dataclass(frozen=True)
class Wiring:
    """Every part of the service; roles take what they need."""

    settings: Settings
    clock: Clock
    database: Database
    redis: Redis
    wake: WakeUps
    registry: SeriesRegistry
    chunks: ChunkReader
    chunk_writer: ChunkWriter
    sealer: Sealer
    deletion: Deletion
    eraser: Eraser
    log: LogReader
    source: Source
    stored: Stored
    queries: Queries
    intake: Intake
    writer: SeriesWriter
    secrets: SecretBox
    keys: KeyRing
    tenants: TenantStore
    usage: UsageBook
    sessions: Sessions
    model_key: bytes
    model_records: ModelRecords
    rules: RuleStore
    rules_file: RulesFile
    rule_health: RuleHealth
    alerts: AlertStore
    feedback: Feedback
    incidents: Incidents
    silences: Silences
    engine: AlertEngine
    escalator: Escalator
    channels: ChannelStore
    outbox: Outbox
    rules_of: Callable[[str], Awaitable[Sequence[Rule]]]
    dispatcher: Dispatcher
    insights: Findings
    trends: Trends
    dashboard: Overview
    training: Board

    # What loads scikit-learn and statsmodels is made on first use: the API starts without it.

    @cached_property
    def models(self) -> "ModelRegistry":
        """The trained models."""
        from service.detection.registry import ModelRegistry

        shards = self.settings.log_shards
        return ModelRegistry(self.settings.model_place, self.model_key, shards=shards)

    @cached_property
    def catalogue(self) -> "Catalogue":
        """Which of them are in use, as SQL says."""
        from service.detection.catalogue import Catalogue

        return Catalogue(self.model_records, self.models, self.clock)

    @cached_property
    def compactor(self) -> "Compactor":
        """Looks after the files of models; for schedulers."""
        from service.detection.compacting import Compactor

        return Compactor(self.models.packs, self.model_records, self.clock)

    @cached_property
    def health(self) -> "Health":
        """Looks how models do; for schedulers."""
        from service.detection.health import Health

        return Health(self.model_records, self.source, self.clock, self.rules_of)

    @cached_property
    def scorer(self) -> "Scorer":
        """Scores new points; for workers."""
        from service.detection.scoring import Scorer

        return Scorer(self.models)

    @cached_property
    def cold_scorer(self) -> "ColdScorer":
        """Scores new points of series without a model; for workers."""
        from service.detection.cold import ColdScorer

        return ColdScorer()

    @cached_property
    def explainer(self) -> "Explainer":
        """Says why a point has its score; for people who ask."""
        from service.detection.explaining import Explainer

        return Explainer(self.models, self.catalogue, self.source)

    @cached_property
    def standings(self) -> Standings:
        """How sure one may be of what models say; for workers."""
        return Standings(self.model_records)

    @cached_property
    def trainer(self) -> "Trainer":
        """Trains models; for schedulers."""
        from service.detection.budget import Budget
        from service.detection.dask_pool import DaskPool
        from service.detection.pool import Executor, LocalPool
        from service.detection.training import Trainer

        settings = self.settings
        budget = Budget(Lags(self.redis).longest, settings.training_lag_max)
        local = LocalPool(
            settings.parallel_workers,
            nice=settings.training_nice,
            share=settings.training_cpu_share,
            gate=budget.turn,
        )
        executor: Executor = local
        if settings.dask_scheduler_address:
            executor = DaskPool(settings.dask_scheduler_address, local, gate=budget.turn)
        return Trainer(
            settings,
            self.database,
            self.clock,
            self.models,
            self.catalogue,
            executor,
            paused=lambda: budget.why,
            series=self.source,
            reader=self.source,
            writer=self.writer,
            wake=self.wake,
            incidents=self.incidents,
            foreseen=self._foreseen,
        )

    async def _foreseen(self, tenant: str) -> list[Selector]:
        return looked_ahead_at(await self.rules_of(tenant))

    @property
    def bucket_ms(self) -> int:
        """Length of a chunk's time bucket."""
        return round(self.settings.chunk_seconds * 1000)

    @property
    def retention_ms(self) -> int:
        """How long samples are kept."""
        return round(self.settings.retention_seconds * 1000)

    async def check_layout(self) -> None:
        """`ConfigurationError` if the stored data was laid out with other settings than ours."""
        await reach(self.redis, self.settings)
        ours = f"{self.settings.log_shards} shards, chunks of {self.bucket_ms} ms".encode()
        await ask(self.redis, "SET", store_keys.LAYOUT, ours, "NX")
        stored: bytes = await ask(self.redis, "GET", store_keys.LAYOUT)
        if stored != ours:
            raise ConfigurationError(
                f"the store was laid out with {stored.decode()}, and LOG_SHARDS and CHUNK_SECONDS "
                f"say {ours.decode()}; set them back, or start with an empty store"
            )


@asynccontextmanager
async def wired(
    settings: Settings, clock: Clock | None = None, *, patience: float = 5.0
) -> AsyncIterator[Wiring]:
    """All parts, connected; closed at the end. Nothing is sent to a store before it is used.

    `clock` is for tests; otherwise the settings choose it. An answer of Redis that takes longer
    than `patience` seconds is given up.
    """
    async with AsyncExitStack() as stack:
        # People log in by their own clock, also where the service runs on a time lapse.
        people = clock or SystemClock()
        clock = clock or settings.clock()
        database = Database(settings.resolved_database_url)
        stack.push_async_callback(database.close)
        redis = connect_as_set(settings, patience)
        stack.push_async_callback(redis.aclose)
        key = settings.secret()
        bucket_ms = round(settings.chunk_seconds * 1000)
        retention_ms = round(settings.retention_seconds * 1000)
        rollup_retention_ms = round(settings.rollup_retention_seconds * 1000)
        wake = WakeUps(redis)
        registry = SeriesRegistry(redis, settings.log_shards)
        chunks = ChunkReader(redis, settings.log_shards, bucket_ms)
        source = Source(registry, chunks, RollupReader(redis, settings.log_shards))
        stored = Stored(
            source,
            clock,
            bucket_ms=bucket_ms,
            retention_ms=retention_ms,
            rollup_retention_ms=rollup_retention_ms,
        )
        queries = Queries(
            stored,
            Limits(
                samples=settings.query_samples_max,
                series=settings.query_series_max,
                points=settings.query_values_max,
                seconds=settings.query_seconds_max,
            ),
            at_once=settings.queries_at_once_max,
            each=settings.queries_at_once_per_tenant_max,
        )
        stack.callback(queries.close)
        log_writer = LogWriter(redis, settings.log_shards, settings.log_backlog_max, clock)
        intake = Intake(registry, log_writer, clock)
        writer = SeriesWriter(registry, log_writer)

        deletion = Deletion(redis, settings.log_shards)

        usage = UsageBook(redis, database, clock, settings.log_shards)

        async def forget(tenant: str) -> None:
            await usage.forget(tenant)
            await deletion.tenant(tenant)
            # The worker erases too, what was in the log then; there may be none at work.
            await chunks.forget(tenant)

        secrets = SecretBox(derive(key, "secrets"))
        tenants = TenantStore(database, clock, forget, settings)
        rules = RuleStore(database, clock, settings.alert_cooldown_period, tenants.quota)
        rules_file = RulesFile(settings.alert_rules, settings.alert_cooldown_period, clock)
        channels = ChannelStore(database, clock, secrets, settings)
        stack.push_async_callback(channels.close)
        outbox = Outbox(database, clock)

        async def rules_of(tenant: str) -> list[Rule]:
            await rules_file.reload_if_changed()
            return await rules.all_for(tenant, rules_file.book)

        async def default_channels(tenant: str) -> list[str]:
            return [view.name for view in await channels.list(tenant)]

        training = Board(redis)
        trends = Trends(source, clock, settings.rollup_retention_seconds)
        insights = Findings(source, database, clock, settings, rules_of, tenants.quota, trends)
        yield Wiring(
            settings=settings,
            clock=clock,
            database=database,
            redis=redis,
            wake=wake,
            registry=registry,
            chunks=chunks,
            deletion=deletion,
            eraser=Eraser(redis, chunks, bucket_ms, retention_ms, rollup_retention_ms),
            chunk_writer=ChunkWriter(
                redis, bucket_ms, retention_ms, round(settings.seal_after_seconds * 1000), clock
            ),
            sealer=Sealer(redis, bucket_ms, rollup_retention_ms),
            log=LogReader(redis),
            source=source,
            stored=stored,
            queries=queries,
            intake=intake,
            writer=writer,
            secrets=secrets,
            keys=KeyRing(database, clock),
            tenants=tenants,
            usage=usage,
            sessions=Sessions(key, people, redis),
            model_key=derive(key, "models"),
            model_records=ModelRecords(database),
            rules=rules,
            rules_file=rules_file,
            rule_health=RuleHealth(redis),
            alerts=AlertStore(database),
            feedback=Feedback(database, clock),
            incidents=Incidents(database, clock, rules_of),
            silences=Silences(database, clock, settings.retention_seconds),
            engine=AlertEngine(
                database, clock, wake, settings, default_channels, quota=tenants.quota
            ),
            escalator=Escalator(database, clock, settings),
            channels=channels,
            outbox=outbox,
            rules_of=rules_of,
            dispatcher=Dispatcher(outbox, channels, clock, wake, public_url=settings.public_url),
            insights=insights,
            trends=trends,
            dashboard=Overview(source, database, clock, settings, insights, training, queries),
            training=training,
        )


async def prepare(settings: Settings, *, with_redis: bool = True) -> str | None:
    """Migrate the database, check the store, make the admin key; the key if it is new."""
    async with wired(settings) as parts:
        await migrate(parts.database)
        if with_redis:
            await parts.check_layout()
        return await parts.keys.ensure_admin_key(settings.data_dir)
