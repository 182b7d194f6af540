"""Every table. Times are Unix seconds in Python and timestamps with time zone in SQL."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)


class UnixTime(TypeDecorator[float]):
    """Unix seconds (float) in Python, a UTC timestamp in SQL (naive on SQLite)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> Any:
        """Seconds to a timestamp."""
        if value is None:
            return None
        moment = datetime.fromtimestamp(value, UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: Any, dialect: Dialect) -> float | None:
        """A timestamp to seconds."""
        if value is None:
            return None
        return float((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp())


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

tenants = Table(
    "tenants",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("created_at", UnixTime, nullable=False),
    # limits of its own; null: the shipped default
    Column("sample_age_seconds", Float),
    Column("series", Integer),
    Column("samples_per_second", Float),
    Column("requests_per_second", Float),
    Column("new_series_per_minute", Integer),
    Column("rules", Integer),
    Column("active_alerts", Integer),
)

usage = Table(
    "usage",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("day", Date, primary_key=True),  # UTC
    Column("samples", BigInteger, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("refused", BigInteger, nullable=False),  # requests over the quota
    Column("series", Integer, nullable=False),  # the most that were seen that day
    Column("notifications", Integer, nullable=False),  # sent that day
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(64), nullable=False, index=True),  # "-": of the platform
    Column("name", String(200), nullable=False),
    Column("role", String(16), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),  # SHA-256 of the secret part
    Column("created_at", UnixTime, nullable=False),
    Column("revoked_at", UnixTime),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", UnixTime, nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("actor", String(240), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(240), nullable=False),
    Column("detail", JSON, nullable=False),
    Index("ix_audit_tenant_id", "tenant", "id"),
)

rules = Table(
    "rules",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("name", String(200), nullable=False),
    Column("body", JSON, nullable=False),  # the simple form, as it was sent
    Column("enabled", Boolean, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", UnixTime, nullable=False),
    Column("updated_at", UnixTime, nullable=False),
    UniqueConstraint("tenant", "name", name="uq_rules_tenant_name"),
)

alerts = Table(
    "alerts",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("rule_id", String(240), nullable=False),
    Column("rule_name", String(200), nullable=False),
    Column("fingerprint", String(32), nullable=False),
    Column("episode", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("labels", JSON, nullable=False),
    Column("annotations", JSON, nullable=False),
    Column("value", Float),
    Column("source", String(16), nullable=False),
    Column("expectation", Text, nullable=False),
    Column("started_at", UnixTime, nullable=False),
    Column("fired_at", UnixTime),
    Column("resolved_at", UnixTime),
    Column("acknowledged_at", UnixTime),
    Column("acknowledged_by", String(240)),
    Column("last_seen_at", UnixTime),
    Column("version", Integer, nullable=False),
    UniqueConstraint("tenant", "rule_id", "fingerprint", "episode", name="uq_alerts_episode"),
    Index("ix_alerts_tenant_state", "tenant", "state"),
)

alert_events = Table(
    "alert_events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("tenant", String(64), nullable=False),
    Column("alert_id", String(32), nullable=False, index=True),
    Column("at", UnixTime, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("actor", String(240), nullable=False),
    Column("detail", JSON, nullable=False),
)

alert_feedback = Table(
    "alert_feedback",
    metadata,
    Column("tenant", String(64), nullable=False),
    Column("alert_id", String(32), primary_key=True),
    Column("actor", String(240), primary_key=True),  # whose later verdict replaces the former
    Column("rule_id", String(240), nullable=False),
    Column("fingerprint", String(32), nullable=False),
    Column("verdict", String(16), nullable=False),  # useful | noise | expected
    Column("note", Text, nullable=False),
    Column("at", UnixTime, nullable=False),
    Index("ix_alert_feedback_tenant_at", "tenant", "at"),
)

silences = Table(
    "silences",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("kind", String(16), nullable=False),  # silence | maintenance
    Column("matchers", JSON, nullable=False),  # [name, operator, value] each
    Column("starts_at", UnixTime, nullable=False),
    Column("ends_at", UnixTime, nullable=False),
    Column("created_by", String(240), nullable=False),
    Column("comment", Text, nullable=False),
    Column("created_at", UnixTime, nullable=False),
    Column("updated_at", UnixTime, nullable=False),
    Index("ix_silences_tenant_ends_at", "tenant", "ends_at"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", String(32), primary_key=True),  # domain.notifications.notification_id
    Column("tenant", String(64), nullable=False),
    Column("alert_id", String(32), index=True),
    Column("kind", String(16), nullable=False),
    Column("step", Integer, nullable=False),
    Column("channel", String(64), nullable=False),
    Column("payload", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_at", UnixTime, nullable=False),
    Column("due_at", UnixTime, nullable=False),
    Column("lease_until", UnixTime),
    Column("sent_at", UnixTime, index=True),
    Column("last_error", Text),
    Index("ix_outbox_state_due", "state", "due_at"),
    Index("ix_outbox_tenant_created", "tenant", "created_at"),
)

timers = Table(
    "timers",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("kind", String(16), nullable=False),  # escalate | cooldown | silence | summary
    Column("alert_id", String(32), index=True),
    Column("due_at", UnixTime, nullable=False, index=True),
    Column("payload", JSON, nullable=False),  # an escalation's snapshot of its policy
)

channels = Table(
    "channels",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("type", String(16), nullable=False),  # slack | email | webhook
    Column("config", Text, nullable=False),  # JSON, encrypted
    Column("created_at", UnixTime, nullable=False),
    Column("updated_at", UnixTime, nullable=False),
)

models = Table(
    "models",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("series_id", String(16), primary_key=True),
    Column("state", String(16), nullable=False),  # cold | ready | failed
    Column("version", Integer, nullable=False),
    Column("trained_at", UnixTime),
    Column("trained_from", UnixTime),
    Column("trained_to", UnixTime),
    Column("rows", Integer, nullable=False),
    Column("seconds", Float, nullable=False),  # CPU time of the training
    Column("quality", JSON, nullable=False),
    Column("error", Text),
)
