"""What the benchmark sends is what it says it sends, and its slow decoders read the same."""

from collections.abc import Callable

import numpy as np
import pytest

from bench import slow
from bench.bodies import PROTOCOLS, Bodies, series_of
from service.ingest import json, line_protocol, otlp, remote_write
from service.ingest.answer import Answer
from service.ingest.decoded import Decoded
from service.ingest.line_protocol import NANOSECONDS

SERIES, PER_REQUEST = 600, 200

FAST: dict[str, Callable[[bytes], Decoded]] = {
    "json": lambda body: json.decode(body, "acme", Answer()),
    "remote_write": lambda body: remote_write.decode(remote_write.inflate(body), Answer()),
    "otlp": lambda body: otlp.decode_protobuf(body, Answer()),
    "line_protocol": lambda body: line_protocol.decode(body, NANOSECONDS, Answer())[0],
}
SLOW: dict[str, Callable[[bytes], Decoded]] = {
    "json": lambda body: slow.json(body, "acme", Answer()),
    "remote_write": lambda body: slow.remote(body, Answer()),
    "otlp": lambda body: slow.otel(body, Answer()),
    "line_protocol": lambda body: slow.lines(body, NANOSECONDS, Answer())[0],
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("decoders", [FAST, SLOW], ids=["fast", "slow"])
def test_a_body_holds_its_series_values_and_the_time_it_was_stamped_with(
    protocol: str, decoders: dict[str, Callable[[bytes], Decoded]]
) -> None:
    bodies = Bodies(protocol, "requests", SERIES, PER_REQUEST, b"POST / HTTP/1.1\r\n")
    assert len(bodies.groups) == 3
    for t_ms in (1_700_000_000_000, 1_800_000_123_456):
        for variant in (0, 5):
            body = bodies.bodies[1][variant]
            body.stamp(bodies.stamp(t_ms))
            head, _, content = bytes(body.request).partition(b"\r\n\r\n")
            assert head.endswith(b"Content-Length: %d" % len(content))
            decoded = decoders[protocol](content)
            numbers = bodies.groups[1]
            assert [decoded.series(row) for row in range(PER_REQUEST)] == [
                series_of("requests", number) for number in numbers
            ]
            assert decoded.t_ms.tolist() == [t_ms] * PER_REQUEST
            expected = bodies.ticks[variant, numbers.start : numbers.stop] / 1000
            np.testing.assert_array_equal(decoded.values, expected)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_body_of_one_sample(protocol: str) -> None:
    bodies = Bodies(protocol, "requests", 3, 1, b"")
    body = bodies.bodies[2][1]
    body.stamp(bodies.stamp(1_700_000_000_001))
    decoded = FAST[protocol](bytes(body.request).partition(b"\r\n\r\n")[2])
    assert decoded.series(0) == series_of("requests", 2)
    assert (decoded.t_ms.tolist(), decoded.values.tolist()) == (
        [1_700_000_000_001],
        [bodies.ticks[1, 2] / 1000],
    )
