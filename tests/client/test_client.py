"""The synchronous client against a receiver that misbehaves."""

import logging
import math
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from service.client import Client, FlushResult, Rejection
from tests.client.conftest import KEY, Receiver
from tests.support.roles import wait_until

QUICK: Any = {"flush_seconds": 0.05, "backoff_seconds": (0.01, 0.05)}


def test_what_is_recorded_arrives(receiver: Receiver) -> None:
    with Client(receiver.url + "/", KEY, labels={"host": "a"}) as client:
        before = time.time()
        client.record("plays", 3, {"region": 'eu "west" – ü'}, metric_type="counter")
        client.record("heat", 1e-300, timestamp=1700000000.123)
        client.record("heat", -0.1, timestamp=datetime(2023, 11, 14, 22, 13, 21, tzinfo=UTC))
        assert client.flush() == FlushResult(sent=3)
        assert (client.sent, client.unsent, client.dropped, client.rejected) == (3, 0, 0, 0)
    first = receiver.samples[0]
    assert abs(first.pop("timestamp") - before) < 1
    assert first == {
        "name": "plays",
        "value": 3.0,
        "metric_type": "counter",
        "labels": {"host": "a", "region": 'eu "west" – ü'},
    }
    assert [(s["value"], s["timestamp"]) for s in receiver.samples[1:]] == [
        (1e-300, 1700000000.123),
        (-0.1, 1700000001.0),
    ]
    assert receiver.headers[0]["x-api-key"] == KEY
    assert receiver.headers[0]["content-type"] == "application/json"


def test_batches_are_sent_in_the_background_when_full_and_when_time_is_over(
    receiver: Receiver,
) -> None:
    with Client(receiver.url, KEY, batch_size=10, flush_seconds=3600) as client:
        for n in range(10):
            client.record("m", n)
        receiver.wait_requests(1)
        assert [s["value"] for s in receiver.bodies[0]] == list(range(10))
    with Client(receiver.url, KEY, flush_seconds=0.02) as client:
        client.record("m", 10)
        wait_until(lambda: receiver.values("m")[-1] == 10, 10, "the interval was not kept")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("9x", 1), "metric name '9x'"),
        (("", 1), "metric name ''"),
        (("m" * 129, 1), "129 characters"),
        ((None, 1), "metric name None"),
        (("m:forecast", 1), "only models write"),
        (("m", math.nan), "finite number, not nan"),
        (("m", -math.inf), "finite number"),
        (("m", "3"), "finite number, not '3'"),
        (("m", None), "finite number"),
        (("m", 10**400), "finite number"),
        (("m", 1, {"a-b": "x"}), "label name 'a-b'"),
        (("m", 1, {"a": 3}), "label a of m is 3; labels are strings"),
        (("m", 1, {"a": ["x"]}), "strings"),
        (("m", 1, ["a"]), "must map strings to strings"),
        (("m", 1, {"__name__": "x"}), "reserved"),
        (("m", 1, {"a": "\ud800"}), "lone surrogate"),
        (("m", 1, {"a": "\0"}), "NUL"),
        (("m", 1, {"a": "ü" * 513}), "1024 bytes"),
        (("m", 1, {f"l{n}": "x" for n in range(31)}), "31 labels"),
        (("m", 1, None, 1700000000000), "Unix seconds"),
        (("m", 1, None, math.nan), "finite"),
        (("m", 1, None, datetime(2024, 1, 1)), "no zone"),
        (("m", 1, None, None, "sum"), "metric_type 'sum'"),
    ],
)
def test_what_the_server_would_refuse_is_refused_at_once(
    receiver: Receiver, arguments: Any, said: str
) -> None:
    with Client(receiver.url, KEY) as client:
        with pytest.raises(ValueError, match=said):
            client.record(*arguments)
        assert client.unsent == 0


@pytest.mark.parametrize(
    "options",
    [
        {"url": "offbeat.example"},
        {"url": "ftp://x"},
        {"key": ""},
        {"key": "a\nb"},
        {"flush_seconds": 0},
        {"batch_size": 0},
        {"batch_size": 5, "queue_max": 4},
        {"labels": {"a b": "c"}},
        {"backoff_seconds": (2, 1)},
    ],
)
def test_options_that_cannot_work_are_refused(options: Any) -> None:
    with pytest.raises(ValueError, match=r".{20}"):
        Client(**{"url": "http://127.0.0.1:1", "key": KEY, **options})


@pytest.mark.parametrize(
    "fault",
    ["reset", (500, {}, b"oops"), (502, {}, {}), (503, {"Retry-After": "0"}, {}), (429, {}, {})],
)
def test_a_passing_fault_loses_nothing(receiver: Receiver, fault: Any) -> None:
    receiver.plan.extend([fault, fault, fault])
    with Client(receiver.url, KEY, **QUICK) as client:
        for n in range(5):
            client.record("m", n, timestamp=1700000000 + n)
        assert client.flush(20).ok
    assert receiver.values("m") == [0, 1, 2, 3, 4]
    assert [s["timestamp"] for s in receiver.samples] == [1700000000 + n for n in range(5)]
    assert len(receiver.bodies) >= 4


def test_a_hanging_server_is_given_up_and_tried_again(receiver: Receiver) -> None:
    receiver.plan.append("hang")
    with Client(receiver.url, KEY, timeout=0.2, **QUICK) as client:
        client.record("m", 1)
        assert client.flush(20) == FlushResult(sent=1)
    assert len(receiver.bodies) == 2


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("dated", [False, True])
def test_the_server_says_when_to_come_again(receiver: Receiver, status: int, dated: bool) -> None:
    # A date has whole seconds, so two of them are one at least.
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    receiver.plan.append((status, {"Retry-After": later if dated else "1"}, {"detail": "slow"}))
    with Client(receiver.url, KEY, **QUICK) as client:
        client.record("m", 1)
        started = time.monotonic()
        early = client.flush(0.2)
        assert early.unsent == 1
        assert early.error == f"the server answered {status}: slow"
        assert client.flush(20).sent == 1  # a flush does not cut the wait short
        assert time.monotonic() - started > 0.9
    assert len(receiver.bodies) == 2


def test_refusals_are_told_with_their_reasons_and_not_sent_again(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Rejection] = []
    partly = {
        "accepted": 2,
        "rejected_count": 1,
        "rejected": [{"index": 1, "name": "m", "reason": "too old"}],
    }
    none = {"detail": "none can be kept", "errors": [{"where": "0: m", "reason": "too new"}]}
    receiver.plan.extend([(200, {}, partly), (422, {}, none), (401, {}, {"detail": "no such key"})])
    with Client(receiver.url, KEY, flush_seconds=3600, on_reject=told.extend) as client:
        for n in range(3):
            client.record("m", n, {"n": str(n)}, timestamp=1000.5)
        result = client.flush()
        refused = Rejection("m", {"n": "1"}, 1.0, 1000.5, "too old")
        assert result == FlushResult(2, 1, 0, 0, (refused,), "too old")
        assert not result.ok
        client.record("m", 3)
        client.record("m", 4)
        reasons = [r.reason for r in client.flush().rejections]
        assert reasons == ["too new", "the server answered 422: none can be kept"]
        client.record("m", 5)
        assert client.flush().error == "the server answered 401: no such key"
        assert client.flush() == FlushResult()
        assert (client.sent, client.rejected) == (2, 4)
    assert [r.value for r in told] == [1, 3, 4, 5]
    assert len(receiver.bodies) == 3
    warnings = [r.getMessage() for r in caplog.records if r.name == "offbeat.client"]
    assert len(warnings) == 1, "once a minute"
    assert "too old" in warnings[0]
    assert KEY not in caplog.text


def test_an_answer_of_something_else_is_no_success(receiver: Receiver) -> None:
    receiver.plan.extend([(200, {}, b"<html>log in</html>"), (302, {"Location": "/"}, b"")])
    with Client(receiver.url, KEY) as client:
        client.record("m", 1)
        assert "is url right?" in str(client.flush().error)
        client.record("m", 1)
        assert client.flush().rejected == 1


def test_a_batch_that_is_too_large_is_cut_in_two(receiver: Receiver) -> None:
    large = (413, {}, {"detail": "too large"})
    receiver.plan.extend([large, large])
    with Client(receiver.url, KEY, flush_seconds=3600) as client:
        for n in range(100):
            client.record("m", n)
        assert client.flush(20) == FlushResult(sent=100)
        assert receiver.values("m") == list(range(100))
        assert [len(body) for body in receiver.bodies[:3]] == [100, 50, 25]
        receiver.forever = large
        client.record("m", 1)
        assert client.flush(20).rejected == 1


def test_a_full_queue_drops_the_oldest_and_tells(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[int, str]] = []
    receiver.forever = (503, {}, {"detail": "down"})

    def on_drop(count: int, reason: str) -> None:
        told.append((count, reason))
        raise RuntimeError("a callback's own fault stays its own")

    with Client(receiver.url, KEY, batch_size=10, queue_max=50, on_drop=on_drop, **QUICK) as client:
        for n in range(200):
            client.record("m", n, timestamp=1700000000 + n)
        receiver.wait_requests(3)
        result = client.flush(0.1)
        assert result.unsent + result.dropped == 200
        assert result.unsent <= 60
        assert result.error == "the server answered 503: down"
        receiver.forever = None
        last = client.flush(20)
        assert last.unsent == 0
        assert client.sent + client.dropped == 200
        assert client.dropped >= 140
    kept = receiver.values("m")
    assert kept == list(range(200 - len(kept), 200)), "the newest, in order"
    assert sum(count for count, _ in told) == client.dropped
    assert {reason for _, reason in told} == {"the queue was full"}
    warnings = [r for r in caplog.records if "were lost: the queue was full" in r.getMessage()]
    assert len(warnings) == 1
    assert warnings[0].levelno == logging.WARNING


def test_close_tells_what_failed() -> None:
    told: list[tuple[int, str]] = []
    client = Client(
        "http://127.0.0.1:1", KEY, on_drop=lambda n, why: told.append((n, why)), **QUICK
    )
    for n in range(7):
        client.record("m", n)
    started = time.monotonic()
    result = client.close(0.3)
    assert time.monotonic() - started < 5
    assert result.unsent == 7
    assert "ConnectError" in str(result.error)
    client.record("m", 8)  # never raises
    again = client.close(0.1)
    assert again.dropped == 1
    assert again.unsent == 7
    assert client.dropped == 1
    reason = f"not sent when the client closed: {result.error}"
    assert told == [(7, reason), (1, "the client is closed")]


def test_close_ends_while_the_server_hangs(receiver: Receiver) -> None:
    receiver.forever = "hang"
    client = Client(receiver.url, KEY, **QUICK)
    client.record("m", 1)
    receiver.wait_requests(1)
    result = client.close(0.1)
    assert (result.unsent, result.error) == (1, "no answer came in time")
    receiver.released.set()


def test_threads_record_at_once_and_nothing_is_lost(receiver: Receiver) -> None:
    with Client(receiver.url, KEY, flush_seconds=0.01, batch_size=100) as client:
        counter = client.counter("hits_total")

        def work(thread: int) -> None:
            for n in range(2000):
                client.record("m", n, {"thread": str(thread)})
                counter.inc()

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.flush(20).ok
    for n in range(8):
        assert receiver.values("m", thread=str(n)) == list(range(2000))
    assert receiver.values("hits_total")[-1] == 16000


def test_instruments_are_recorded_once_an_interval(receiver: Receiver) -> None:
    with Client(receiver.url, KEY, flush_seconds=3600) as client:
        plays = client.counter("plays_total", {"region": "eu"})
        for _ in range(1000):
            client.counter("plays_total", {"region": "eu"}).inc()
        plays.inc(2.5)
        client.gauge("depth").set(7)
        client.gauge("depth").dec(3)
        size = client.summary("size")
        for value in (1, 5, 3):
            size.observe(value)
        assert client.flush().sent == 5
        assert client.flush().sent == 0, "nothing changed"
        size.observe(2)
        client.flush()
        with client.timer("load_seconds", {"of": "x"}) as timer:
            pass
        assert client.flush().sent == 1
        with pytest.raises(ValueError, match="cannot go down"):
            plays.inc(-1)
        with pytest.raises(ValueError, match="finite"):
            client.gauge("depth").set(math.nan)
    assert receiver.values("plays_total", region="eu") == [1002.5]
    assert receiver.values("depth") == [4]
    assert receiver.values("size_count") == [3, 4]
    assert receiver.values("size_sum") == [9, 11]
    assert receiver.values("size_max") == [5, 2]
    assert receiver.values("load_seconds") == [timer.seconds]
    assert {s["name"]: s["metric_type"] for s in receiver.samples} == {
        "plays_total": "counter",
        "depth": "gauge",
        "size_count": "counter",
        "size_sum": "counter",
        "size_max": "gauge",
        "load_seconds": "gauge",
    }


def test_a_forked_child_starts_anew(receiver: Receiver) -> None:
    program = """
import os, sys
from service.client import Client
client = Client(sys.argv[1], "key", labels=lambda: {"pid": str(os.getpid())}, flush_seconds=3600)
counter = client.counter("forks_total")
counter.inc(5)
client.record("warm_up", 1)
assert client.flush().ok
client.record("before", 1)
child = os.fork()
if child == 0:
    assert client.unsent == 0
    client.record("inside", 1)
    counter.inc()
    client.counter("forks_total").inc()
    result = client.close(10)
    os._exit(0 if result.ok and result.sent == 2 else 1)
_, status = os.waitpid(child, 0)
client.record("after", 1)
result = client.close(10)
assert result.ok and result.sent == 2, result
print(os.getpid(), child)
sys.exit(os.waitstatus_to_exitcode(status))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, receiver.url],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    parent, child = done.stdout.split()
    assert receiver.values("before") == [1], "once, by the parent"
    assert receiver.values("before", pid=parent) == [1]
    assert receiver.values("inside", pid=child) == [1]
    assert receiver.values("forks_total", pid=parent) == [5]
    assert receiver.values("forks_total", pid=child) == [2]


def test_the_end_of_the_program_sends_the_rest(receiver: Receiver) -> None:
    program = """
import sys
from service.client import Client
client = Client(sys.argv[1], "key", flush_seconds=3600)
client.record("last_words", 42)
client.counter("words_total").inc()
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, receiver.url],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert receiver.values("last_words") == [42]
    assert receiver.values("words_total") == [1]


def test_the_end_of_the_program_waits_for_nobody(receiver: Receiver) -> None:
    receiver.forever = "hang"
    program = """
import sys
from service.client import Client
client = Client(sys.argv[1], "key", exit_seconds=0.3)
client.record("last_words", 42)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program, receiver.url], stderr=subprocess.PIPE, text=True
    )
    try:
        _, errors = process.communicate(timeout=20)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
    assert process.returncode == 0
    assert errors.strip() == (
        "offbeat: 1 samples were lost: not sent when the client closed: no answer came in time"
    )


def test_the_package_needs_little() -> None:
    """A tenant's program installs it: httpx, msgspec, the standard library, and the domain."""
    program = """
import sys
import service.client
tops = {name.split(".")[0] for name in sys.modules}
print(sorted(tops & {"numpy", "redis", "sqlalchemy", "fastapi", "pydantic", "structlog",
                     "starlette", "prometheus_client"}))
print(sorted(n for n in sys.modules if n.startswith("service.")
             and not n.startswith(("service.client", "service.domain"))))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n[]\n", done.stdout + done.stderr
