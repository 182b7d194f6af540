"""Every setting: environment variable, default, help. `python -m service.settings` prints the page.

A setting's variable is its name in capitals, `OFFBEAT_…` where an alias says so.
"""

import os
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.domain.clock import Clock, SystemClock, TimeLapse
from service.domain.durations import parse_duration
from service.domain.errors import ConfigurationError
from service.domain.quotas import Quota


def _own(name: str) -> AliasChoices:
    return AliasChoices(f"OFFBEAT_{name.upper()}", name)


class Settings(BaseSettings):
    """The program's configuration, validated at start. Durations take `30`, `30s`, `5m`, `1h`."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True)

    # where things are
    data_dir: Path = Field(
        Path(".offbeat"),
        validation_alias=_own("data_dir"),
        description="Folder of the embedded stores, the models and the admin key.",
    )
    host: str = Field(
        "127.0.0.1", validation_alias=_own("host"), description="Address the API listens on."
    )
    port: int = Field(
        8000,
        ge=0,
        le=65535,
        validation_alias=_own("port"),
        description="Port the API listens on; 0 takes a free one.",
    )
    api_processes: int = Field(
        max(1, min(4, (os.cpu_count() or 1) // 2)),
        ge=1,
        le=64,
        description="Processes of the API that `offbeat serve` starts; they share its port. "
        "The worker and the store want cores too.",
    )
    listen_fd: int = Field(
        -1,
        ge=-1,
        validation_alias=_own("listen_fd"),
        description="Listening socket that `offbeat serve` hands down to the API; "
        "-1: it binds its own.",
    )
    external_url: str = Field(
        "",
        description="How people reach the service, for links in notifications; "
        "by default http://HOST:PORT.",
    )
    model_store: str = Field(
        "",
        description="Folder of the trained models, or a URL that fsspec knows, e.g. "
        "`s3://bucket/models` where s3fs is installed; by default `models` in the data folder.",
    )
    alert_rules: Path = Field(
        Path("alert_rules.yaml"), description="The rules file; it may be missing."
    )

    # stores
    redis_url: str = Field(
        "",
        description="Redis to use, e.g. redis://:password@host:6379/0, rediss:// for TLS or "
        "unix:///path. Empty, and no REDIS_HOST: the embedded store.",
    )
    redis_host: str = Field(
        "",
        description="Redis host, if REDIS_URL is not set; of a cluster also several nodes, "
        "`one:6379,two:6379`.",
    )
    redis_port: int = Field(6379, ge=1, le=65535, description="Redis port, with REDIS_HOST.")
    redis_user: str = Field("", description="User name, with REDIS_HOST, if Redis has users.")
    redis_password: SecretStr = Field(SecretStr(""), description="Password, with REDIS_HOST.")
    redis_ssl: bool = Field(False, description="Use TLS, with REDIS_HOST.")
    redis_ca_file: str = Field(
        "", description="Certificates (PEM) that Redis' is trusted by, besides the system's."
    )
    redis_cert_file: str = Field(
        "", description="Our certificate (PEM), where Redis asks for one over TLS."
    )
    redis_key_file: str = Field("", description="Its key (PEM), if it is not in the same file.")
    redis_cluster: bool = Field(
        False,
        description="Redis is a cluster; REDIS_URL or REDIS_HOST names any node, or several.",
    )
    database_url: str = Field(
        "",
        description="postgresql://user:password@host/name or sqlite:///path. "
        "Empty: SQLite in the data folder.",
    )

    # keep
    log_shards: int = Field(
        4, ge=1, le=1024, description="Shards of the log. Fixed once data is stored."
    )
    log_backlog_max: int = Field(
        20_000, ge=1, description="Log entries a shard may wait for; above, ingest answers 503."
    )
    chunk_seconds: float = Field(
        21_600, ge=60, description="Length of a chunk's time bucket. Fixed once data is stored."
    )
    retention_seconds: float = Field(
        35 * 86400.0, ge=3600, description="How long samples are kept in Redis."
    )
    rollup_retention_seconds: float = Field(
        400 * 86400.0,
        ge=3600,
        description="How long five-minute roll-ups of the tenants' own series are kept.",
    )
    seal_after_seconds: float = Field(
        3600.0,
        ge=0,
        description="How long after its end a chunk is packed and rolled up; best not before "
        "late samples stop coming.",
    )
    metrics_buffer_size: int = Field(
        4096,
        ge=64,
        description="Recent samples of each series that a worker holds in memory; of what models "
        "say an eighth of that, at least 512.",
    )
    worker_lease_seconds: float = Field(
        10.0, ge=1, description="A worker that is silent for so long loses its shards."
    )

    # record
    body_max_bytes: int = Field(10 << 20, ge=1024, description="Largest request body.")
    sample_max_age_seconds: float = Field(
        3600.0, ge=0, description="Oldest sample taken, unless the tenant's quota says otherwise."
    )
    sample_max_ahead_seconds: float = Field(
        600.0, ge=0, description="How far in the future a sample may lie."
    )
    samples_per_second_max: float = Field(
        10_000.0, ge=1, description="Samples a second that a tenant may send by default."
    )
    requests_per_second_max: float = Field(
        1000.0, ge=1, description="Recording requests a second that a tenant may send by default."
    )
    series_max: int = Field(10_000, ge=1, description="Series a tenant may have by default.")
    new_series_per_minute_max: int = Field(
        1000, ge=1, description="Series a minute that a tenant may add by default."
    )

    # learn
    ml_model_retrain_frequency: float = Field(
        3600.0,
        ge=1,
        description="Shortest time between trainings of a series' model; it is trained anew when "
        "its series has grown by a tenth, has drifted, or a day has passed.",
    )
    training_interval: float = Field(
        60.0, gt=0, description="Seconds between looks for series that need training."
    )
    training_min_rows: int = Field(
        288, ge=64, description="Samples a series needs before it gets a model."
    )
    training_max_rows: int = Field(
        6048, ge=256, description="Newest samples that a model is trained on."
    )
    parallel_workers: int = Field(
        max(1, (os.cpu_count() or 2) - 1), ge=1, description="Processes that train models."
    )
    training_cpu_share: float = Field(
        0.9, gt=0, le=1, description="Part of their time that these processes train; 0.5 is half."
    )
    training_nice: int = Field(
        19,
        ge=0,
        le=19,
        description="Priority of these processes: 19 takes only what CPU others leave, 0 as much.",
    )
    training_lag_max: float = Field(
        3.0,
        gt=0,
        description="While points wait longer than this to be judged (seconds), training pauses.",
    )
    dask_scheduler_address: str = Field(
        "",
        description="Train on this Dask cluster, e.g. tcp://dask:8786 or tls://…; "
        "needs the extra `scale`. Empty: in processes beside the scheduler.",
    )
    anomaly_detection_threshold: float = Field(
        0.999, gt=0, lt=1, description="Score from which a point counts as an anomaly."
    )
    trend_forecast_horizon: int = Field(
        24, ge=1, le=1000, description="Steps of a series that its forecast looks ahead."
    )

    # judge
    alert_evaluation_interval: float = Field(
        15.0, gt=0, description="Seconds between evaluations of every rule."
    )
    alert_cooldown_period: float = Field(
        900.0, ge=0, description="A rule's default cooldown: seconds before it notifies again."
    )
    series_lookback_seconds: float = Field(
        300.0, gt=0, description="How old a series' last sample may be and still be its value."
    )
    absent_resolve_seconds: float = Field(
        3600.0, gt=0, description="A firing alert whose series is silent for so long is resolved."
    )

    rules_max: int = Field(
        500, ge=1, description="Rules a tenant may make by default, those of the file not counted."
    )
    active_alerts_max: int = Field(
        10_000, ge=1, description="Pending and firing alerts a tenant may have by default."
    )

    # ask
    query_samples_max: int = Field(
        20_000_000, ge=1, description="Samples that one PromQL query may read."
    )
    query_series_max: int = Field(
        100_000, ge=1, description="Series that one selector of a query may accept."
    )
    query_values_max: int = Field(
        10_000_000,
        ge=1,
        description="Values, series times steps, that a query may hold at a time.",
    )
    query_steps_max: int = Field(
        11_000, ge=1, description="Steps of a range query, as Prometheus has it."
    )
    query_seconds_max: float = Field(
        120.0, gt=0, description="How long a query may take, its wait for a turn counted."
    )
    queries_at_once_max: int = Field(
        8, ge=1, le=256, description="Queries that a process of the API answers at a time."
    )
    queries_at_once_per_tenant_max: int = Field(
        4, ge=1, le=256, description="Those of one tenant; others of it wait for their turn."
    )

    # tell
    max_alerts_per_hour: int = Field(
        100, ge=1, description="Notifications per tenant and hour; the rest is summarised."
    )
    slack_webhook_url: SecretStr = Field(
        SecretStr(""), description="Incoming webhook of the default channel `slack`."
    )
    smtp_host: str = Field("", description="Mail server of the default channel `email`.")
    smtp_port: int = Field(587, ge=1, le=65535, description="Its port.")
    smtp_user: str = Field("", description="User name at the mail server, if it wants one.")
    smtp_password: SecretStr = Field(SecretStr(""), description="Password at the mail server.")
    smtp_tls: str = Field(
        "starttls",
        pattern="^(starttls|tls|none)$",
        description="`starttls`, `tls` from the first byte, or `none`.",
    )
    smtp_from: str = Field("offbeat@localhost", description="Sender of mails.")
    alert_email_to: str = Field("", description="Receivers of the channel `email`, by comma.")
    alert_webhook_url: str = Field("", description="Receiver of the default channel `webhook`.")
    alert_webhook_secret: SecretStr = Field(
        SecretStr(""), description="Signs what the channel `webhook` sends (whsec_…)."
    )
    outgoing_allow_private: bool = Field(
        False,
        description="Let channels that tenants configure reach loopback and private addresses.",
    )

    # run
    secret_key: SecretStr = Field(
        SecretStr(""),
        validation_alias=_own("secret_key"),
        description="Encrypts stored secrets, signs models and sessions. "
        "Empty: made once and kept in the data folder.",
    )
    health_port: int = Field(
        0,
        ge=0,
        le=65535,
        validation_alias=_own("health_port"),
        description="Port on which worker and scheduler answer /healthz, /readyz and /metrics; "
        "0: none.",
    )
    log_level: str = Field(
        "info", pattern="^(debug|info|warning|error)$", description="What is logged."
    )
    log_format: str = Field("json", pattern="^(json|text)$", description="`json` or `text`.")
    time_lapse: str = Field(
        "",
        validation_alias=_own("time_lapse"),
        description="Runs the service on a clock that is behind and catches up at a signal: "
        "`lag:speed:signal file`. The demo uses it.",
    )

    @field_validator("*", mode="before")
    @classmethod
    def _durations(cls, value: Any, info: Any) -> Any:
        if isinstance(value, str) and cls.model_fields[info.field_name].annotation is float:
            return parse_duration(value) if value.strip()[-1:].isalpha() else value
        return value

    @property
    def embedded_redis(self) -> bool:
        """Whether no Redis is configured, so that the embedded store serves."""
        return not (self.redis_url or self.redis_host)

    @property
    def redis_socket(self) -> Path:
        """The embedded store's unix socket."""
        return self.data_dir.resolve() / "store" / "store.sock"

    @property
    def resolved_redis_url(self) -> str:
        """The URL to connect to, whichever way it was configured."""
        if self.redis_url:
            return self.redis_url
        if self.redis_host:
            secret = self.redis_password.get_secret_value()
            scheme = "rediss" if self.redis_ssl else "redis"
            user = quote(self.redis_user, safe="")
            auth = f"{user}:{quote(secret, safe='')}@" if secret else ""
            nodes = ",".join(
                self._with_port(node.strip()) for node in self.redis_host.split(",") if node.strip()
            )
            return f"{scheme}://{auth}{nodes}/0"
        return f"unix://{self.redis_socket}"

    def _with_port(self, node: str) -> str:
        if node.count(":") > 1 and not node.startswith("["):
            node = f"[{node}]"  # IPv6
        has_port = ":" in node.rpartition("]")[2]
        return node if has_port else f"{node}:{self.redis_port}"

    @property
    def resolved_database_url(self) -> str:
        """The database to use, whichever way it was configured."""
        return self.database_url or f"sqlite:///{self.data_dir.resolve() / 'offbeat.db'}"

    @property
    def model_place(self) -> Path | str:
        """Folder or URL of the trained models."""
        return self.model_store or self.data_dir.resolve() / "models"

    @property
    def public_url(self) -> str:
        """How people reach the service, without a slash at the end."""
        return (self.external_url or f"http://{self.host}:{self.port}").rstrip("/")

    @property
    def shipped_quota(self) -> Quota:
        """The limits of a tenant that has none of its own."""
        return Quota(
            samples_per_second=self.samples_per_second_max,
            requests_per_second=self.requests_per_second_max,
            series=self.series_max,
            new_series_per_minute=self.new_series_per_minute_max,
            rules=self.rules_max,
            active_alerts=self.active_alerts_max,
            sample_age_seconds=self.sample_max_age_seconds,
        )

    def clock(self) -> Clock:
        """The machine's clock, or the time lapse that is set."""
        return TimeLapse.parse(self.time_lapse) if self.time_lapse else SystemClock()

    def secret(self) -> bytes:
        """The key of everything encrypted or signed; made and kept (0600) on first use."""
        configured = self.secret_key.get_secret_value()
        if configured:
            if len(configured) < 32:
                raise ConfigurationError("OFFBEAT_SECRET_KEY: use at least 32 characters")
            return configured.encode()
        path = self.data_dir / "secret.key"
        self.data_dir.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            return path.read_bytes()
        with os.fdopen(handle, "wb") as file:
            key = secrets.token_hex(32).encode()
            file.write(key)
        return key


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment; `ConfigurationError` names the variable that is wrong."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        lines = [
            f"{str(item['loc'][0]).upper()}: {item['msg']} (it is {item['input']!r})"
            for item in error.errors()
        ]
        raise ConfigurationError("\n".join(lines)) from error


def variable(name: str) -> str:
    """The environment variable of a setting."""
    alias = Settings.model_fields[name].validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else name.upper()


#: Defaults that depend on the machine, as the page tells them.
_BY_CORES = {"parallel_workers": "cores − 1", "api_processes": "half the cores, 1 to 4"}


def configuration_page() -> str:
    """docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        "Environment variables, read and validated at start. Generated by `make docs` from",
        "`service/settings.py`. Durations take seconds or text such as `90s`, `5m`, `1h`.",
        "",
        "| variable | default | what it does |",
        "|---|---|---|",
    ]
    for name, item in Settings.model_fields.items():
        default = item.default
        if isinstance(default, SecretStr):
            default = default.get_secret_value()
        default = _BY_CORES.get(name, default)
        shown = f"`{default}`" if str(default) else ""
        about = (item.description or "").replace("|", "\\|")
        lines.append(f"| `{variable(name)}` | {shown} | {about} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(configuration_page(), end="")  # noqa: T201
