"""Names and labels as the rules from OpenTelemetry to Prometheus have them."""

import pytest

from service.ingest.otlp_names import label_name, labels_of, metric_name, number_text
from service.ingest.otlp_points import Kind

G, C, U, D, H = Kind.GAUGE, Kind.COUNTER, Kind.UP_DOWN, Kind.DELTA, Kind.HISTOGRAM

NAMES = [
    ("queue.depth", "", G, "queue_depth"),
    ("system.memory.usage", "By", U, "system_memory_usage_bytes"),
    ("system.network.io", "By", C, "system_network_io_bytes_total"),
    ("http.server.request.duration", "s", H, "http_server_request_duration_seconds"),
    ("http.server.requests", "{request}", C, "http_server_requests_total"),
    ("requests_total", "", C, "requests_total"),
    ("total.requests", "", C, "requests_total"),
    ("requests", "1", C, "requests_total"),
    ("requests", "", D, "requests"),
    ("requests_total", "", D, "requests_total"),
    ("cpu.utilization", "1", G, "cpu_utilization_ratio"),
    ("hit.ratio", "1", G, "hit_ratio"),
    ("hit.ratio", "1", U, "hit_ratio"),
    ("disk", "%", G, "disk_percent"),
    ("job.duration.seconds", "s", G, "job_duration_seconds"),
    ("speed", "m/s", G, "speed_meters_per_second"),
    ("speed", "km/h", G, "speed_km_per_hour"),
    ("rate", "1/s", G, "rate_per_second"),
    ("rate", "{packet}/s", G, "rate_per_second"),
    ("io", "By/s", C, "io_bytes_per_second_total"),
    ("dough", "foo*bar", G, "dough_foo_bar"),
    ("a..b--c", "", G, "a_b_c"),
    ("_private_", "", G, "private"),
    ("ns:a.b", "", G, "ns:a_b"),
    ("5xx.errors", "", C, "_5xx_errors_total"),
    ("größe", "", G, "gr_e"),
    ("…", "", G, ""),
    ("", "s", G, ""),
]


@pytest.mark.parametrize(("name", "unit", "kind", "expected"), NAMES)
def test_names(name: str, unit: str, kind: Kind, expected: str) -> None:
    assert metric_name(name, unit, kind) == expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("http.method", "http_method"),
        ("k8s/pod-name", "k8s_pod_name"),
        ("1st", "key_1st"),
        ("_x", "_x"),
        ("a__b", "a__b"),
        ("ö", "_"),
    ],
)
def test_label_names(key: str, expected: str) -> None:
    assert label_name(key) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5.0, "5"),
        (0.25, "0.25"),
        (-0.5, "-0.5"),
        (1e6, "1000000"),
        (1e16, "1e+16"),
        (1e-7, "1e-07"),
        (float("inf"), "+Inf"),
        (float("-inf"), "-Inf"),
        (float("nan"), "NaN"),
    ],
)
def test_numbers_in_labels(value: float, expected: str) -> None:
    assert number_text(value) == expected


LABELS = [
    ([], [("a.b", "2"), ("a_b", "1")], {"a_b": "2;1"}),
    ([], [("a_b", "1"), ("a.b", "2")], {"a_b": "2;1"}),  # whatever the sender's order
    ([("k", "r")], [("k", "p")], {"k": "r;p"}),
    ([("k", "x")], [("k", "x")], {"k": "x"}),
    ([("k", "x")], [("k", "")], {"k": "x"}),
    ([("service.name", "s")], [], {"job": "s"}),
    ([("service.namespace", "n")], [], {"service_namespace": "n"}),
    ([("service.name", "s"), ("service.namespace", "n")], [], {"job": "n/s"}),
    ([("service.instance.id", "i")], [], {"instance": "i"}),
    ([("service.name", "s")], [("job", "nightly")], {"job": "s", "exported_job": "nightly"}),
    ([], [("job", "nightly")], {"job": "nightly"}),
]


@pytest.mark.parametrize(("resource", "own", "expected"), LABELS)
def test_labels(
    resource: list[tuple[str, str]], own: list[tuple[str, str]], expected: dict[str, str]
) -> None:
    assert labels_of(resource, "", "", [], own, None) == expected


def test_what_is_ours_is_not_overwritten() -> None:
    labels = labels_of([], "lib", "1", [("x.y", "2")], [("le", "9")], ("le", "0.5"))
    assert labels == {
        "otel_scope_name": "lib",
        "otel_scope_version": "1",
        "otel_scope_x_y": "2",
        "le": "0.5",
        "exported_le": "9",
    }
