"""Slow and obvious decoders of each protocol: what the fast ones are compared with.

They share nothing with `service.ingest`: bodies are read with `json`, with protobuf's own classes
or one character at a time, and rules of names and labels are spelt out again. Each is a function
from a body to what is kept of it and which items are not, and raises `Refused` if none is.
"""

from tests.support.slow_decoders import (
    gzip_body,
    json_metrics,
    line_protocol,
    otlp,
    otlp_json,
    remote_write,
    snappy_body,
)
from tests.support.slow_decoders.result import NOW, Labels, Read, Refused, Row, bits_of

__all__ = [
    "NOW",
    "Labels",
    "Read",
    "Refused",
    "Row",
    "bits_of",
    "gzip_body",
    "json_metrics",
    "line_protocol",
    "otlp",
    "otlp_json",
    "remote_write",
    "snappy_body",
]
