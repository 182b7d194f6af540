"""The ASGI application: the API with its pages."""

from fastapi import FastAPI
from starlette.types import ASGIApp

from service import __version__
from service.api import (
    alerts,
    analytics,
    audit,
    channels,
    entities,
    explanation,
    forecast,
    health,
    keys,
    line_protocol,
    metrics,
    middleware,
    models,
    notifications,
    otlp,
    problems,
    promql,
    promql_route,
    promql_rules,
    reference,
    remote_write,
    rules,
    series,
    silences,
    tenants,
    trend,
)
from service.api.direct import Direct
from service.dashboard import routes as pages
from service.wiring import Wiring

_ABOUT = """
Metrics of many tenants: learned, judged, told to the right person.

Keys go in `Authorization: Bearer …` or `X-API-Key`; an admin key acts for the tenant named in
`X-Tenant-ID`. Errors are `application/problem+json` (RFC 9457) and say what, where and why.
"""


def create_app(wiring: Wiring) -> ASGIApp:
    """What the role `api` serves."""
    recorders = (metrics.router, remote_write.router, otlp.router, line_protocol.router)
    return Direct(create_api(wiring), recorders, wiring.settings.body_max_bytes)


def create_api(wiring: Wiring) -> FastAPI:
    """The API and the pages, as the framework serves and describes them."""
    app = FastAPI(
        title="Offbeat",
        version=__version__,
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        responses=problems.RESPONSES,
    )
    app.state.wiring = wiring
    for topic in (
        health,
        metrics,
        remote_write,
        otlp,
        line_protocol,
        promql,
        promql_rules,
        analytics,
        models,
        series,
        entities,
        explanation,
        forecast,
        rules,
        channels,
        notifications,
        alerts,
        silences,
        tenants,
        trend,
        keys,
        audit,
        reference,
        pages,
    ):
        app.include_router(topic.router)
    app.mount("/static", pages.static_app(), name="static")
    problems.install(app)
    promql_route.install(app)
    middleware.install(app, wiring.settings)
    return app
