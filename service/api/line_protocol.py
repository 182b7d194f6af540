"""`POST /api/v2/write` and `POST /write`: record in InfluxDB's line protocol."""

import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Annotated, Any, cast

from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from service.api import problems
from service.api.deps import authorize, basic_password, tenant_of, wiring
from service.api.recording import LARGE, Recorder, admitted, beside, keep
from service.domain.errors import OffbeatError, Unauthenticated, UnsupportedMedia
from service.domain.tenants import Permission
from service.ingest.answer import Answer
from service.ingest.decoded import Decoded
from service.ingest.inflate import gunzip
from service.ingest.line_protocol import Precision, decode

#: How InfluxDB's API names what went wrong; its clients show `code` and `message`.
_CODES = {
    400: "invalid",
    401: "unauthorized",
    403: "forbidden",
    404: "not found",
    413: "request too large",
    415: "unsupported media type",
    422: "unprocessable entity",
    429: "too many requests",
    503: "unavailable",
}


_EXPECTED: tuple[type[Exception], ...] = (
    OffbeatError,
    HTTPException,
    RequestValidationError,
    *problems.STORE_DOWN,
)


class _InfluxRoute(Recorder):
    """Adds to each error what InfluxDB's clients look for: `code`, `message`, `error`.

    Its handlers take the request and text from the query, and find themselves who is asking.
    """

    async def take(self, request: Request) -> Response:
        """What the handler answers."""
        query: Mapping[str, str] = request.query_params if request.scope["query_string"] else {}
        given = {
            name: query[name]
            for name in (field.alias for field in self.dependant.query_params)
            if name in query
        }
        return cast(Response, await self.endpoint(request, **given))

    def refusal(self, error: Exception) -> Response:
        """The answer for an error."""
        return _for_influx(problems.of(error))

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler with its errors answered here."""
        handler = super().get_route_handler()

        async def answering(request: Request) -> Response:
            try:
                return await handler(request)
            except _EXPECTED as error:
                return self.refusal(error)

        return answering


router = APIRouter(tags=["record"], route_class=_InfluxRoute)

_OPENAPI: dict[str, Any] = {
    "security": [{"bearer": []}, {"apiKey": []}],
    "requestBody": {
        "required": True,
        "content": {
            "text/plain": {
                "schema": {
                    "type": "string",
                    "example": "players,region=eu-west starts=48210,rebuffering=0.4 1700000000",
                }
            }
        },
    },
    "responses": {"204": {"description": "Everything is kept"}},
}


@router.post(
    "/api/v2/write",
    summary="Record in InfluxDB's line protocol (2.x)",
    openapi_extra=_OPENAPI,
    response_class=Response,
    status_code=204,
)
async def write_v2(
    request: Request,
    precision: Annotated[str, Query(description="ns, us, ms or s")] = "ns",
) -> Response:
    """Keep the good lines. 400 names the others and why; sending them again would not help.

    `org` and `bucket` are taken and not looked at: the key decides the tenant.
    """
    return await _write(request, precision, ("ns", "us", "ms", "s"), None)


@router.post(
    "/write",
    summary="Record in InfluxDB's line protocol (1.x)",
    openapi_extra=_OPENAPI,
    response_class=Response,
    status_code=204,
)
async def write_v1(
    request: Request,
    precision: Annotated[str, Query(description="n, u, ms, s, m or h")] = "ns",
    p: Annotated[str | None, Query(description="The API key, if no header has it")] = None,
) -> Response:
    """Keep the good lines. 400 names the others and why; sending them again would not help.

    `db`, `rp` and `u` are taken and not looked at: the key decides the tenant. It is the password
    of basic authentication, or the parameter `p`.
    """
    return await _write(request, precision, ("ns", "us", "ms", "s", "m", "h"), p)


async def _write(
    request: Request, precision: str, allowed: tuple[str, ...], password: str | None
) -> Response:
    principal = await authorize(request, Permission.RECORD, _key(request, password))
    tenant = tenant_of(principal)
    unit = Precision.of(precision, allowed)
    parts = wiring(request)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise UnsupportedMedia("send the body as gzip or uncompressed", where="Content-Encoding")
    limits = await admitted(parts, tenant)
    body = await request.body()
    answer = Answer()
    packed = encoding.endswith("gzip")
    # How large a compressed body is shows only when it is read.
    size = LARGE if packed else len(body)
    decoded, ignored = await beside(size, _read, body, packed, unit, answer)
    await keep(parts, tenant, limits, decoded, answer)
    if answer.rejected:
        return _for_influx(_rejection(answer, unit))
    headers = {"X-Ignored-Fields": str(ignored)} if ignored else None
    return Response(status_code=204, headers=headers)


def _read(body: bytes, packed: bool, unit: Precision, answer: Answer) -> tuple[Decoded, int]:
    return decode(gunzip(body) if packed else body, unit, answer)


def _key(request: Request, password: str | None) -> str | None:
    """The API key where InfluxDB's clients put it; None leaves it to the usual headers."""
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    credentials = credentials.strip()
    found = None
    if scheme.lower() == "token":
        found = credentials.rpartition(":")[2]  # 1.8 sends `user:password` as its token
    elif scheme.lower() == "basic":
        found = basic_password(request)
    elif scheme.lower() == "bearer":
        found = credentials
    header = request.headers.get("x-api-key", "").strip()
    if found == "":
        raise Unauthenticated(f"Authorization: {scheme[:10]} comes without an API key")
    if scheme and found is None:
        return None  # the usual way says what is wrong with it
    keys = {key for key in (found, header, password) if key}
    if len(keys) > 1:
        raise Unauthenticated("the request carries different keys; send one")
    return keys.pop() if keys else None


def _rejection(answer: Answer, unit: Precision) -> Response:
    listed = [
        (f"line {i.index}: {i.name}" if i.name else f"line {i.index}", i.reason)
        for i in answer.items
    ]
    said = "; ".join(f"{place}: {reason}" for place, reason in listed[:3])
    more = f"; and {answer.rejected - 3} more" if answer.rejected > 3 else ""
    return problems.problem(
        429 if answer.retry_after else 400,
        f"{answer.accepted} samples are kept, {answer.rejected} are not (timestamps were read "
        f"as {unit.name}): {said}{more}",
        errors=listed,
        headers=problems.retry_in(answer.retry_after) if answer.retry_after else None,
    )


def _for_influx(answer: Response) -> Response:
    body = json.loads(bytes(answer.body))
    code = _CODES.get(answer.status_code, "internal error")
    body |= {"code": code, "message": body["detail"], "error": body["detail"]}
    headers = {
        name: value
        for name, value in answer.headers.items()
        if name not in ("content-length", "content-type")
    }
    return Response(
        json.dumps(body, ensure_ascii=False).encode(),
        answer.status_code,
        headers,
        problems.MEDIA_TYPE,
    )
