"""`offbeat demo`: history is back-filled, models train, six hours are played, people are told."""

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from service.demo.receiver import Received, Receiver, sentence
from service.demo.series import Story, load_story
from service.domain.clock import TimeLapse
from service.domain.errors import OffbeatError
from service.settings import load_settings, variable
from service.supervisor import Supervisor

#: The part of the story that is played live, and how much faster than the clock.
LIVE_SECONDS = 6 * 3600.0
SPEED = 480.0
#: The half-hourly series reaches back eleven weeks.
_KEPT_SECONDS = 90 * 86400
_BATCH = 5000
_TICK = 0.2
#: Models that must be there before the story goes on; the hourly series may need longer.
_TRAINING_TIMEOUT = 75.0
_ENDING_TIMEOUT = 20.0
_RESPONDER = "Mira"

Stopping = Callable[[], bool]


@dataclass
class Summary:
    """What happened, as the API and the receiver tell it."""

    url: str = ""
    links: dict[str, str] = field(default_factory=dict)
    admin_key_file: str = ""
    tenants: int = 0
    series: int = 0
    samples: int = 0
    models: int = 0
    anomalies: int = 0
    alerts: int = 0
    acknowledged: int = 0
    escalated: int = 0
    notifications: int = 0
    delivered: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def missing(self) -> list[str]:
        """What the story promises and did not happen."""
        promised = {
            "no sample was kept": self.samples > 0,
            f"only {self.models} of {self.series} series have a model": self.models >= 8,
            "no anomaly was found": self.anomalies > 0,
            "no alert fired": self.alerts > 0,
            "no alert was acknowledged": self.acknowledged > 0,
            "no alert escalated": self.escalated > 0,
            "no notification was delivered": sum(self.delivered.values()) > 0,
            "not every notification reached its receiver": (
                sum(self.delivered.values()) >= self.notifications
            ),
        }
        return [sentence for sentence, kept in promised.items() if not kept]


class _Api:
    """The public API, as an admin."""

    def __init__(self, url: str, key: str) -> None:
        self._client = httpx.Client(
            base_url=url, headers={"X-API-Key": key}, timeout=30, trust_env=False
        )

    def close(self) -> None:
        self._client.close()

    def __call__(
        self, method: str, path: str, body: object = None, *, tenant: str = "", key: str = ""
    ) -> Any:
        headers = {"X-Tenant-ID": tenant} if tenant and not key else {}
        if key:
            headers["X-API-Key"] = key
        answer = self._client.request(method, path, json=body, headers=headers)
        if answer.is_error:
            raise OffbeatError(f"{method} {path} answered {answer.status_code}: {answer.text}")
        return answer.json() if answer.content else None

    def pages(self, path: str, *, tenant: str) -> list[dict[str, Any]]:
        """All items of a list that is cut into pages."""
        items: list[dict[str, Any]] = []
        cursor = ""
        while True:
            glue = "&" if "?" in path else "?"
            page = self("GET", f"{path}{glue}cursor={cursor}" if cursor else path, tenant=tenant)
            items += page["items"]
            cursor = page.get("next") or ""
            if not cursor:
                return items


def play(*, once: bool, port: int, as_json: bool, out: Console, stopping: Stopping) -> bool:
    """Play the story; True if all that it promises has happened."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="offbeat-demo-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        told = Console(quiet=True) if as_json else out
        return _Play(folder, port, told, stopping, stack).run(
            once, (lambda text: out.print(text, markup=False)) if as_json else None
        )


class _Play:
    def __init__(
        self, folder: Path, port: int, out: Console, stopping: Stopping, stack: ExitStack
    ) -> None:
        self.begun = time.monotonic()
        self.out, self.stopping, self.stack = out, stopping, stack
        self.story: Story = load_story()
        self.clock = TimeLapse(LIVE_SECONDS, SPEED, folder / "signal")
        self.summary = Summary(tenants=len(self.story.tenants), series=len(self.story.series))
        self.receiver = stack.enter_context(Receiver(self._heard))
        rules = folder / "alert_rules.yaml"
        rules.write_text((resources.files("service.demo") / "rules.yaml").read_text())
        self._step("starting the service")
        environment = {
            variable("time_lapse"): str(self.clock),
            variable("outgoing_allow_private"): "true",
            variable("alert_evaluation_interval"): "150",
            variable("series_lookback_seconds"): "1800",
            variable("training_interval"): "1",
            variable("training_nice"): "0",  # somebody waits for it
            variable("ml_model_retrain_frequency"): "86400",
            variable("retention_seconds"): str(_KEPT_SECONDS),
            variable("log_level"): "error",
            variable("log_format"): "text",
        }
        settings = load_settings(
            data_dir=folder,
            port=port,
            alert_rules=rules,
            redis_url="",
            redis_host="",
            database_url="",
        )
        self.service = stack.enter_context(
            Supervisor(settings, lambda line: out.print(escape(line)), environment)
        )
        key_file = folder / "admin.key"
        self.api = _Api(self.service.url, key_file.read_text().strip())
        stack.callback(self.api.close)
        self.summary.url = self.service.url
        self.summary.admin_key_file = str(key_file)

    def run(self, once: bool, print_json: Callable[[str], None] | None) -> bool:
        end = self.clock.now() + LIVE_SECONDS
        self._make_tenants()
        self._fill(end)
        self._wait_for_models()
        self._live(end)
        self._count()
        missing = self.summary.missing()
        if print_json:
            print_json(json.dumps({**asdict(self.summary), "missing": missing}))
        self._print_summary(missing)
        if once or missing:
            return not missing
        self._print_links()
        self.service.run(self.stopping)
        return True

    # the story

    def _make_tenants(self) -> None:
        self.responders: dict[str, str] = {}
        for tenant, name in self.story.tenants:
            self.api("POST", "/tenants", {"id": tenant, "name": name})
            self.api("PUT", f"/tenants/{tenant}/quota", {"sample_age_seconds": _KEPT_SECONDS})
            wanted = {"role": "responder", "name": _RESPONDER}
            made = self.api("POST", f"/tenants/{tenant}/keys", wanted)
            self.responders[tenant] = made["key"]
            for channel, kind, address in (
                ("slack", "slack", "webhook_url"),
                ("manager", "webhook", "url"),
            ):
                url = f"{self.receiver.url}/{tenant}/{channel}"
                body = {"type": kind, address: url}
                self.api("PUT", f"/alerts/channels/{channel}", body, tenant=tenant)

    def _fill(self, end: float) -> None:
        """Send the history, up to six hours before the end."""
        until = end - LIVE_SECONDS
        bodies: dict[str, list[dict[str, object]]] = {}
        for series in self.story.series:
            bodies.setdefault(series.tenant, []).extend(series.metrics(end, 0.0, until))
        total = sum(map(len, bodies.values()))
        with self._progress("back-filling two weeks of history", total) as advance:
            for tenant, metrics in bodies.items():
                for first in range(0, len(metrics), _BATCH):
                    sent = self._send(tenant, metrics[first : first + _BATCH])
                    advance(sent)

    def _send(self, tenant: str, metrics: list[dict[str, object]]) -> int:
        answer = self.api("POST", "/analytics/metrics", metrics, tenant=tenant)
        accepted = int(answer["accepted"])
        self.summary.samples += accepted
        return accepted

    def _wait_for_models(self) -> None:
        deadline = time.monotonic() + _TRAINING_TIMEOUT
        with self._progress("training the models", len(self.story.series)) as advance:
            seen = 0
            while seen < len(self.story.series) and time.monotonic() < deadline:
                if self.stopping():
                    return
                self.service.watch()
                done = sum(self._models(tenant) for tenant, _ in self.story.tenants)
                advance(done - seen)
                seen = done
                time.sleep(_TICK)
        self.summary.models = seen

    def _models(self, tenant: str) -> int:
        shown = self.api("GET", f"/analytics/dashboard/{tenant}", tenant=tenant)
        return int(shown["counts"]["models_ready"])

    def _live(self, end: float) -> None:
        """Play the last hours: send what is due, and answer one alert."""
        self._step(f"playing the last six hours, {SPEED:.0f} times as fast; people are told:")
        self.clock.start()
        sent_until = end - LIVE_SECONDS
        finished = time.monotonic() + LIVE_SECONDS / (SPEED - 1) + _ENDING_TIMEOUT
        while time.monotonic() < finished and not self.stopping():
            self.service.watch()
            now = min(self.clock.now(), end)
            for tenant, _ in self.story.tenants:
                due = [
                    m
                    for series in self.story.series
                    if series.tenant == tenant
                    for m in series.metrics(end, sent_until, now)
                ]
                if due:
                    self._send(tenant, due)
            sent_until = now
            self._acknowledge_first(self.story.tenants[0][0])
            if now >= end and self._told():
                break
            time.sleep(_TICK)

    def _acknowledge_first(self, tenant: str) -> None:
        """Mira answers the first critical alert of one tenant; nobody answers the other's."""
        if self.summary.acknowledged:
            return
        for alert in self.api("GET", f"/alerts/active/{tenant}?state=firing", tenant=tenant)[
            "items"
        ]:
            if alert["severity"] == "critical":
                self.api(
                    "PUT",
                    f"/alerts/{alert['id']}/acknowledge",
                    {"note": "on it"},
                    key=self.responders[tenant],
                )
                self.summary.acknowledged += 1
                self.out.print(
                    f"  [bold]{_RESPONDER}[/] acknowledges “{escape(alert['rule_name'])}” "
                    f"({tenant}) through the API"
                )
                return

    def _told(self) -> bool:
        """Whether every notification has gone out."""
        waiting = ("pending", "sending", "retry")
        return not any(
            self.api.pages(f"/alerts/notifications?state={state}", tenant=tenant)
            for tenant, _ in self.story.tenants
            for state in waiting
        )

    def _count(self) -> None:
        s = self.summary
        s.notifications = s.escalated = s.alerts = s.anomalies = s.models = 0
        threshold = self.service.settings.anomaly_detection_threshold
        for tenant, _ in self.story.tenants:
            sent = self.api.pages("/alerts/notifications?state=sent", tenant=tenant)
            s.notifications += len(sent)
            s.escalated += sum(n["kind"] == "escalated" for n in sent)
            s.alerts += len(self.api.pages(f"/alerts/history/{tenant}", tenant=tenant))
            s.models += self._models(tenant)
            for series in self.api.pages(
                '/analytics/series?match={__name__=~".*:anomaly_score"}', tenant=tenant
            ):
                path = f"/analytics/series/{series['id']}/samples?start=0&end={time.time()}"
                found = self.api("GET", path, tenant=tenant)
                s.anomalies += sum(v is not None and v >= threshold for v in found["v"])
            s.links[tenant] = self.api("POST", f"/dashboard/{tenant}/link", tenant=tenant)["url"]
        for delivery in self.receiver.received:
            s.delivered[delivery.path] = s.delivered.get(delivery.path, 0) + 1
        s.seconds = round(time.monotonic() - self.begun, 1)

    # what the person sees

    def _heard(self, delivery: Received) -> None:
        self.out.print(f"  [cyan]{delivery.path}[/]  {escape(sentence(delivery))}")

    def _step(self, text: str) -> None:
        self.out.print(f"[dim]{time.monotonic() - self.begun:5.1f} s[/]  {text}")

    def _print_summary(self, missing: list[str]) -> None:
        s = self.summary
        whom = ", ".join(f"{n} to {path}" for path, n in sorted(s.delivered.items()))
        self.out.print()
        for line in (
            f"samples        {s.samples:,} of {s.series} series, {s.tenants} tenants",
            f"models         {s.models}",
            f"anomalies      {s.anomalies} points",
            f"alerts         {s.alerts}: {s.acknowledged} acknowledged, {s.escalated} escalated",
            f"notifications  {s.notifications}: {whom}",
            f"time           {s.seconds:.0f} s",
        ):
            self.out.print(line, markup=False)
        for sentence_ in missing:
            self.out.print(f"[red]The story is not whole: {escape(sentence_)}.[/]")

    def _print_links(self) -> None:
        self.out.print()
        for tenant, url in self.summary.links.items():
            self.out.print(f"dashboard of {tenant}: {url}", markup=False)
        self.out.print("The links open once. Ctrl-C stops the demo.", markup=False)

    def _progress(self, text: str, total: int) -> "_Bar":
        self._step(text)
        return _Bar(self.out, total)


class _Bar:
    """A progress bar on a terminal, nothing in a pipe."""

    def __init__(self, out: Console, total: int) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            BarColumn(),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
            TimeElapsedColumn(),
            console=out,
            transient=True,
            disable=not out.is_terminal,
        )
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Callable[[int], None]:
        self._bar.start()
        return lambda n: self._bar.advance(self._task, n)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
