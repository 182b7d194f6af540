"""The client for programs that record: `Client`, `AsyncClient` and an ASGI middleware.

It needs httpx, msgspec and the standard library; of the service it uses nothing but the domain's
names. `docs/client.md` tells what it promises.
"""

from service.client.asynchronous import AsyncClient
from service.client.client import Client
from service.client.instruments import Counter, Gauge, Summary
from service.client.middleware import MetricsMiddleware
from service.client.results import FlushResult, Rejection

__all__ = [
    "AsyncClient",
    "Client",
    "Counter",
    "FlushResult",
    "Gauge",
    "MetricsMiddleware",
    "Rejection",
    "Summary",
]
