"""Is it alive, is it ready, how is it doing: for probes and Prometheus. No key needed."""

import asyncio
import os
from collections.abc import Awaitable

import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from service.api import problems
from service.api.deps import wiring
from service.api.problems import problem
from service.wiring import Wiring

log = structlog.get_logger(__name__)

router = APIRouter(tags=["operate"])

CHECK_SECONDS = 2.0


@router.get("/healthz", summary="Is the process alive")
async def alive() -> dict[str, str]:
    """Answers as long as the process does; looks at nothing else."""
    return {"status": "ok"}


@router.get("/readyz", summary="Can it serve", response_model=dict[str, str])
async def ready(request: Request) -> dict[str, str] | Response:
    """Whether the stores answer within two seconds; 503 names those that do not."""
    parts = wiring(request)
    failed = await asyncio.gather(
        _failure("redis", parts.redis.ping()), _failure("database", parts.database.ping())
    )
    broken = [(name, reason) for name, reason in failed if reason]
    if broken:
        return problem(
            503,
            f"not ready: {' and '.join(name for name, _ in broken)} failed",
            errors=broken,
            headers={"Retry-After": "5"},
        )
    return {"status": "ready", "redis": "ok", "database": "ok"}


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
def metrics() -> Response:
    """This process' metrics, or those of all that share PROMETHEUS_MULTIPROC_DIR."""
    registry = REGISTRY
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


async def _failure(name: str, check: Awaitable[object]) -> tuple[str, str]:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check
    except TimeoutError:
        return name, f"no answer within {CHECK_SECONDS:g} s"
    except Exception as error:  # drivers raise of many trees; any of them means not ready
        cause = error.__cause__ or error
        log.warning("not ready", part=name, error=f"{type(cause).__name__}: {cause}"[:500])
        return name, type(cause).__name__  # addresses and passwords stay in the log
    return name, ""


def create_health_app(parts: Wiring) -> FastAPI:
    """What worker and scheduler serve: `/healthz`, `/readyz` and `/metrics` only."""
    app = FastAPI(title="Offbeat health", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.wiring = parts
    app.include_router(router)
    problems.install(app)
    return app
