"""Prometheus' HTTP API: queries, series, labels and what they mean, for Grafana and its like."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Request
from fastapi.responses import Response
from starlette.requests import ClientDisconnect

from service import __version__
from service.api.deps import tenant_of, wiring
from service.api.promql_form import Form, form_of, wrong
from service.api.promql_json import TRUNCATED, shown, succeeded
from service.api.promql_route import (
    PrometheusRoute,
    Reader,
    answered,
    described,
    described_form,
)
from service.domain.errors import InvalidInput
from service.domain.series import Selector, Series
from service.domain.tenants import Principal
from service.query.promql.evaluate import LOOKBACK_MS, Result
from service.query.promql.expressions import Expr
from service.query.promql.parse import prettified
from service.query.promql.vectors import Steps
from service.query.queries import Query

router = APIRouter(prefix="/api/v1", tags=["query"], route_class=PrometheusRoute)

#: The version whose language and API these are; clients ask for it to know what they may use.
_SPOKEN = "3.0.0"

_RESULT = {
    "type": "object",
    "required": ["resultType", "result"],
    "properties": {
        "resultType": {"enum": ["vector", "matrix", "scalar", "string"]},
        "result": {"type": "array"},
    },
}
_TEXTS = {"type": "array", "items": {"type": "string"}}
_LABELS = {"type": "object", "additionalProperties": {"type": "string"}}

_BOUNDS = {
    "timeout": "How long it may take, e.g. `30s`; the service's own bound holds as well",
    "limit": "How many series at most; 0 for all",
    "lookback_delta": "How old the newest sample may be, `5m` if absent",
}
_INSTANT = {
    "_query": "The expression",
    "time": "Unix seconds or RFC 3339; now if absent",
    **_BOUNDS,
}
_RANGE = {
    "_query": "The expression",
    "_start": "The first time, Unix seconds or RFC 3339",
    "_end": "The last time",
    "_step": "How far apart the times are: seconds or text such as `5m`",
    **_BOUNDS,
}
_CHOICE = {
    "match": "Only of series that one of these selectors accepts",
    "start": "Taken and not looked at: series are listed as long as they are known",
    "end": "As `start`",
    "limit": "How many at most; 0 for all",
}
_SERIES = {**_CHOICE, "_match": _CHOICE["match"]}
del _SERIES["match"]


@router.get("/query", summary="Evaluate at one time", **described(_RESULT, **_INSTANT))
@router.post("/query", summary="Evaluate at one time", **described_form(_RESULT, **_INSTANT))
async def query(request: Request, principal: Reader) -> Response:
    """An expression of PromQL at one time."""
    form, parts = await form_of(request), wiring(request)
    at = form.time_ms("time", round(parts.clock.now() * 1000))
    limit = form.limit()
    asked = _query(form, form.expression(), Steps(at, at))
    return await _answer(request, principal, asked, lambda result: shown(result, True, limit))


@router.get("/query_range", summary="Evaluate at many times", **described(_RESULT, **_RANGE))
@router.post("/query_range", summary="Evaluate at many times", **described_form(_RESULT, **_RANGE))
async def query_range(request: Request, principal: Reader) -> Response:
    """An expression of PromQL at `start`, then every `step` until `end`."""
    form, parts = await form_of(request), wiring(request)
    start, end = form.time_ms("start"), form.time_ms("end")
    if end < start:
        raise wrong("end", "end timestamp must not be before start time")
    step = form.duration_ms("step")
    if step is None:
        raise wrong("step", 'cannot parse "" to a valid duration')
    if step <= 0:
        raise wrong(
            "step",
            "zero or negative query resolution step widths are not accepted. "
            "Try a positive integer",
        )
    most = parts.settings.query_steps_max
    if (end - start) // step > most:
        raise InvalidInput(
            f"exceeded maximum resolution of {most:,} points per timeseries. "
            "Try decreasing the query resolution (?step=XX)"
        )
    limit = form.limit()
    asked = _query(form, form.expression(), Steps(start, end, step))
    return await _answer(request, principal, asked, lambda result: shown(result, False, limit))


@router.get(
    "/series",
    summary="List series",
    **described({"type": "array", "items": _LABELS}, **_SERIES),
)
@router.post(
    "/series",
    summary="List series",
    **described_form({"type": "array", "items": _LABELS}, **_SERIES),
)
async def series(request: Request, principal: Reader) -> Response:
    """The labels of the series that any of the selectors accepts, what models write included."""
    form = await form_of(request)
    if not form.every("match[]"):
        raise InvalidInput("no match[] parameter provided", where="match[]")
    return await _listed(
        request,
        principal,
        form,
        lambda found: map(dict, sorted(each.labels for each in found)),
    )


@router.get("/labels", summary="List names of labels", **described(_TEXTS, **_CHOICE))
@router.post("/labels", summary="List names of labels", **described_form(_TEXTS, **_CHOICE))
async def labels(request: Request, principal: Reader) -> Response:
    """The names of the labels that series have, `__name__` among them."""
    return await _listed(
        request,
        principal,
        await form_of(request),
        lambda found: sorted({name for each in found for name, _ in each.labels}),
    )


@router.get("/label/{name}/values", summary="List a label's values", **described(_TEXTS, **_CHOICE))
async def values(
    request: Request, principal: Reader, name: Annotated[str, Path(examples=["region"])]
) -> Response:
    """The values that series have for a label; of `__name__`, the metrics."""
    return await _listed(
        request,
        principal,
        await form_of(request),
        lambda found: sorted({each.label(name) for each in found} - {""}),
    )


@router.get(
    "/metadata",
    summary="Say what metrics are",
    **described(
        {"type": "object"},
        metric="Only this one",
        limit="How many metrics at most",
        limit_per_metric="How many types of each at most",
    ),
)
async def metadata(request: Request, principal: Reader) -> Response:
    """The type of each metric, as its sender says. Help and unit are not kept: they are empty."""
    form = await form_of(request)
    metric, limit, each = form.text("metric"), form.limit(), form.limit("limit_per_metric")
    every = await wiring(request).source.all(tenant_of(principal))

    def written() -> bytes:
        types: dict[str, set[str]] = defaultdict(set)
        for known in every.values():
            if metric in ("", known.name):
                types[known.name].add(str(known.metric_type))
        found = {
            name: [{"type": kind, "help": "", "unit": ""} for kind in sorted(types[name])[:each]]
            for name in sorted(types)[:limit]
        }
        return succeeded(msgspec.json.encode(found))

    return answered(await asyncio.to_thread(written))


@router.get("/status/buildinfo", summary="Say what this is", **described({"type": "object"}))
async def build_information(principal: Reader) -> Response:
    """As Prometheus says it. `version` is of the Prometheus whose language and API these are."""
    about = {
        "version": _SPOKEN,
        "revision": f"offbeat {__version__}",
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    }
    return answered(succeeded(msgspec.json.encode(about)))


_EXEMPLARS = {"_query": "The expression", "start": "The first time", "end": "The last time"}


@router.get(
    "/query_exemplars", summary="Find exemplars", **described({"type": "array"}, **_EXEMPLARS)
)
@router.post(
    "/query_exemplars", summary="Find exemplars", **described_form({"type": "array"}, **_EXEMPLARS)
)
async def exemplars(request: Request, principal: Reader) -> Response:
    """None: exemplars are not kept."""
    form = await form_of(request)
    form.expression()
    if form.time_ms("end", 0) < form.time_ms("start", 0) and form.text("end"):
        raise wrong("end", "end timestamp must not be before start timestamp")
    return answered(succeeded(b"[]"))


_FORMAT = {"_query": "The expression"}


@router.get("/format_query", summary="Format", **described({"type": "string"}, **_FORMAT))
@router.post("/format_query", summary="Format", **described_form({"type": "string"}, **_FORMAT))
async def format_query(request: Request, principal: Reader) -> Response:
    """An expression as it is best read."""
    form = await form_of(request)
    form.expression()
    return answered(succeeded(msgspec.json.encode(prettified(form.text("query")))))


def _query(form: Form, expr: Expr, steps: Steps) -> Query:
    """What is asked, with what may be said of how."""
    timeout, lookback = form.duration_ms("timeout"), form.duration_ms("lookback_delta")
    if timeout is not None and timeout <= 0:
        raise wrong("timeout", "it must be longer than nothing")
    if lookback is not None and lookback <= 0:
        raise wrong("lookback_delta", "it must be longer than nothing")
    return Query(expr, steps, lookback or LOOKBACK_MS, None if timeout is None else timeout / 1000)


async def _answer(
    request: Request, principal: Principal, asked: Query, written: Callable[[Result], bytes]
) -> Response:
    """The answer to a query, which ends if who asked goes away: its turn is for others then."""
    answer = wiring(request).queries.answer(tenant_of(principal), asked, written)
    work, gone = asyncio.ensure_future(answer), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientDisconnect
        return answered(work.result())
    finally:
        gone.cancel()
        work.cancel()
        await asyncio.gather(gone, work, return_exceptions=True)


async def _gone(request: Request) -> None:
    """Returns when the connection is closed; the body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _listed(
    request: Request,
    principal: Principal,
    form: Form,
    pick: Callable[[Iterable[Series]], Iterable[Any]],
) -> Response:
    """What `pick` makes of the series that are chosen, as many as are wanted."""
    tenant, stored = tenant_of(principal), wiring(request).stored
    selectors, limit = form.selectors(), form.limit()
    if form.text("start") and form.text("end") and form.time_ms("end") < form.time_ms("start"):
        raise wrong("end", "end timestamp must not be before start timestamp")
    found: dict[int, Series] = {}
    for selector in selectors or [_ANY]:
        found.update((each.id, each) for each in await stored.series(tenant, selector))

    def written() -> bytes:
        picked = list(pick(found.values()))
        warnings = [TRUNCATED] if limit is not None and len(picked) > limit else []
        return succeeded(msgspec.json.encode(picked[:limit]), warnings)

    return answered(await asyncio.to_thread(written))


_ANY = Selector(())
