"""What the service says about itself: its log, and every Prometheus metric it has.

With `PROMETHEUS_MULTIPROC_DIR` set, several processes share their metrics through that folder.
"""

import logging
import re
import sys
import time
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from typing import Any

import structlog
from prometheus_client import Counter, Gauge, Histogram

Event = MutableMapping[str, Any]

#: Seconds after which an interruption that goes on is said again.
_SAID_AGAIN = 30.0

_HIDDEN = "[hidden]"
_SECRET_NAME = re.compile(
    r"password|secret|token|authorization|cookie|credential|api_?key|private_?key", re.I
)
# API keys keep their id, which is no secret and tells which one it was.
_SECRET_TEXT = (
    (re.compile(r"\bob_([0-9a-z]{8})_[0-9A-Za-z]{8,}(?:_[0-9A-Za-z]+)?"), r"ob_\1_" + _HIDDEN),
    (re.compile(r"(\w://[^/\s:@]*):[^@/\s]+@"), r"\1:" + _HIDDEN + "@"),
    (re.compile(r"(hooks\.slack\.com/\w+/)[\w/-]+"), r"\1" + _HIDDEN),
    (re.compile(r"\bwhsec_[\w+/=-]+"), "whsec_" + _HIDDEN),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*"), _HIDDEN),
    (re.compile(r"\bBearer\s+[^\s'\",]+", re.I), "Bearer " + _HIDDEN),
)
# Most text has nothing to hide; this says so faster than the patterns one by one.
_SUSPICIOUS = re.compile(r"ob_|://|hooks\.|whsec_|eyJ|bearer", re.I)


class Interruption:
    """Says what of an interruption is news, so that an hour without a store is few lines.

    News are its beginning, another reason for it, every half minute of it, and its end.
    """

    def __init__(self) -> None:
        self._began: float | None = None
        self._said = 0.0
        self._reason = ""

    def is_news(self, reason: str) -> bool:
        """Whether this failure is to be said."""
        now = time.monotonic()
        if self._began is None:
            self._began = now
        elif reason == self._reason and now - self._said < _SAID_AGAIN:
            return False
        self._said, self._reason = now, reason
        return True

    def over(self) -> float | None:
        """It went well: how many seconds the interruption lasted, if there was one."""
        if self._began is None:
            return None
        seconds, self._began = time.monotonic() - self._began, None
        return round(seconds, 1)


def configure_logging(level: str = "info", format: str = "json", role: str = "serve") -> None:
    """Send structlog and the standard library's loggers to stderr, one line an event.

    `format` is `json` (ts, level, event, role, then the rest) or `text`. Keys, passwords and
    tokens are hidden wherever they turn up.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.StackInfoRenderer(),
        _add_role(role),
    ]
    if format == "json":
        rendering: list[Any] = [
            structlog.processors.format_exc_info,
            hide_secrets,
            _ts_first,
            structlog.processors.JSONRenderer(ensure_ascii=True, default=str),
        ]
    else:
        rendering = [
            structlog.processors.format_exc_info,
            hide_secrets,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), timestamp_key="ts", pad_event_to=32
            ),
        ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        # At start it repeats what the program says itself.
        logger.setLevel(max(logging.WARNING, root.level))
    # Our own middleware writes the access log; these say nothing new, at length.
    logging.getLogger("uvicorn.access").disabled = True
    for name in ("httpx", "httpcore", "apscheduler", "sqlalchemy.engine", "asyncio"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def hide_secrets(_logger: Any, _method: str, event: Event) -> Event:
    """A structlog processor that hides keys, passwords and tokens by name and by look."""
    for name, value in event.items():
        event[name] = _hidden(name, value, depth=0)
    return event


def _hidden(name: str, value: Any, depth: int) -> Any:
    if value and isinstance(value, str | bytes) and _names_secret(name):
        return _HIDDEN
    if isinstance(value, str):
        if not _SUSPICIOUS.search(value):
            return value
        for pattern, replacement in _SECRET_TEXT:
            value = pattern.sub(replacement, value)
        return value
    if depth < 4 and isinstance(value, Mapping):
        return {key: _hidden(str(key), item, depth + 1) for key, item in value.items()}
    if depth < 4 and isinstance(value, list | tuple):
        return [_hidden(name, item, depth + 1) for item in value]
    return value


@lru_cache(1024)
def _names_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def _add_role(role: str) -> Any:
    def add(_logger: Any, _method: str, event: Event) -> Event:
        event.setdefault("role", role)
        return event

    return add


def _ts_first(_logger: Any, _method: str, event: Event) -> Event:
    front = {name: event.pop(name) for name in ("ts", "level", "event", "role") if name in event}
    return {**front, **event}


_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_SLOW = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)

# HTTP
REQUESTS = Counter(
    "offbeat_http_requests", "HTTP requests answered.", ["method", "route", "status"]
)
REQUEST_SECONDS = Histogram(
    "offbeat_http_request_seconds", "Time to answer a request.", ["method", "route"], buckets=_FAST
)

# record
SAMPLES_ACCEPTED = Counter("offbeat_samples_accepted", "Samples acknowledged.")
SAMPLES_REJECTED = Counter("offbeat_samples_rejected", "Samples refused; the answer says why.")

# keep
LOG_BACKLOG = Gauge(
    "offbeat_log_backlog_entries",
    "Log entries that the shard's worker has not applied.",
    ["shard"],
    multiprocess_mode="livemostrecent",
)
SAMPLES_STORED = Counter("offbeat_samples_stored", "Samples applied to chunks.")
WORKER_LATE = Gauge(
    "offbeat_worker_late_seconds",
    "Longest time of the last minute that what was due in a worker waited for its event loop.",
    multiprocess_mode="livemax",
)
CHUNKS_SEALED = Counter("offbeat_chunks_sealed", "Chunks packed and rolled up.")
CHUNKS_DAMAGED = Counter("offbeat_chunks_damaged", "Chunks found unreadable and left out.")

# learn
POINTS_SCORED = Counter("offbeat_points_scored", "Points that models scored.")
SCORING_SECONDS = Histogram("offbeat_scoring_seconds", "Time to score a batch.", buckets=_FAST)
MODELS_TRAINED = Counter("offbeat_models_trained", "Models trained.")
MODELS_FAILED = Counter("offbeat_models_failed", "Trainings that failed.")
TRAINING_SECONDS = Histogram("offbeat_training_seconds", "Time to train a model.", buckets=_SLOW)
MODEL_AGE = Gauge(
    "offbeat_model_age_seconds",
    "Age of the oldest model in use.",
    multiprocess_mode="livemostrecent",
)

# judge
RULES_EVALUATED = Counter("offbeat_rules_evaluated", "Evaluations of a rule.")
JUDGING_SECONDS = Histogram(
    "offbeat_judging_seconds", "Time to judge all rules of a tenant.", buckets=_FAST
)
RULE_ERRORS = Counter("offbeat_rule_errors", "Evaluations of a rule that failed.")
RULES_FILE_OK = Gauge(
    "offbeat_rules_file_ok",
    "1 while the newest rules file is in force, 0 while an older one has to serve.",
    multiprocess_mode="livemin",
)
ALERT_TRANSITIONS = Counter("offbeat_alert_transitions", "Changes of an alert's state.", ["state"])
ALERTS_HELD = Counter(
    "offbeat_alerts_held",
    "Alerts that did not begin since their tenant has as many as it may, counted each evaluation.",
)

# tell
NOTIFICATIONS = Counter(
    "offbeat_notifications",
    "What became of a notification, by type of channel.",
    ["channel", "outcome"],
)
OUTBOX_PENDING = Gauge(
    "offbeat_outbox_pending", "Notifications waiting to go out.", multiprocess_mode="livemostrecent"
)
TIMERS_FIRED = Counter(
    "offbeat_timers_fired", "Timers that came due and were acted upon.", ["kind"]
)
DELIVERY_SECONDS = Histogram(
    "offbeat_delivery_seconds", "Time to hand a notification over.", ["channel"], buckets=_FAST
)
BREAKERS_OPENED = Counter(
    "offbeat_channel_rests", "Times a channel was left to rest after failures.", ["channel"]
)
