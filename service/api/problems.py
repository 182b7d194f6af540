"""Every error as an HTTP answer: one table, one shape (RFC 9457, `application/problem+json`).

{"type", "title", "status", "detail", "where"?, "errors"?: [{"where", "reason"}]}
"""

import json
import math
import uuid
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from redis import exceptions as redis_errors
from sqlalchemy import exc as sql_errors
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from service.domain import errors

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"

#: The most specific class of an error's own order of inheritance decides.
STATUS: dict[type[Exception], HTTPStatus] = {
    errors.TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.UnsupportedMedia: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.Unprocessable: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.InvalidInput: HTTPStatus.BAD_REQUEST,
    errors.Unauthenticated: HTTPStatus.UNAUTHORIZED,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.OverLimit: HTTPStatus.TOO_MANY_REQUESTS,
    errors.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.StaleSeries: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.LostLease: HTTPStatus.SERVICE_UNAVAILABLE,
}

#: What a store raises when it is down, full or not yet up. The caller may try again.
STORE_DOWN: tuple[type[Exception], ...] = (
    redis_errors.ConnectionError,
    redis_errors.TimeoutError,
    redis_errors.OutOfMemoryError,
    redis_errors.ReadOnlyError,
    sql_errors.OperationalError,
    sql_errors.InterfaceError,
    sql_errors.TimeoutError,
    ConnectionError,
    TimeoutError,
)

_STORE_RETRY_SECONDS = 5

# What FastAPI says of a body that is not UTF-8, too deep or holds a number of too many digits.
_UNREADABLE_BODY = "There was an error parsing the body"

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "where": {"type": "string"},
        "instance": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"where": {"type": "string"}, "reason": {"type": "string"}},
            },
        },
    },
}

#: For `FastAPI(responses=…)`: what any route may answer besides its own.
RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "description": "What is wrong with the request",
        "content": {MEDIA_TYPE: {"schema": SCHEMA}},
    },
    "5XX": {"description": "What failed", "content": {MEDIA_TYPE: {"schema": SCHEMA}}},
}


def problem(
    status: int,
    detail: str,
    *,
    where: str | None = None,
    errors: Iterable[tuple[str, str]] = (),
    instance: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer for an error. Whatever the text came from, the answer is valid JSON."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": _phrase(status),
        "status": int(status),
        "detail": _clean(detail),
    }
    if where is not None:
        body["where"] = _clean(where)
    if instance is not None:
        body["instance"] = instance
    listed = [{"where": _clean(place), "reason": _clean(reason)} for place, reason in errors]
    if listed:
        body["errors"] = listed
    return Response(json.dumps(body, ensure_ascii=False).encode(), int(status), headers, MEDIA_TYPE)


def retry_in(seconds: float) -> dict[str, str]:
    """The header that says when to try again."""
    return {"Retry-After": str(_whole_seconds(seconds))}


def of(error: Exception) -> Response:
    """The answer for an error of the tree, of a store, or of the web framework."""
    if isinstance(error, RequestValidationError):
        return _invalid_request(error)
    if isinstance(error, HTTPException):
        detail = error.detail if isinstance(error.detail, str) else _phrase(error.status_code)
        return problem(error.status_code, detail, headers=error.headers)
    for kind in type(error).__mro__:
        if kind in STATUS:
            return _expected(error, STATUS[kind])
    if isinstance(error, STORE_DOWN):
        log.warning("store unavailable", error=type(error).__name__, reason=str(error)[:500])
        return problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "a store does not answer; try again shortly",
            headers={"Retry-After": str(_STORE_RETRY_SECONDS)},
        )
    return unexpected(error)


def unexpected(error: Exception) -> Response:
    """500 with an id that stands in the log, next to the traceback; nothing internal leaks."""
    incident = uuid.uuid4().hex[:16]
    log.error("unexpected error", incident=incident, exc_info=error)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        f"an unexpected error, logged as {incident}",
        instance=f"urn:offbeat:incident:{incident}",
    )


def install(app: FastAPI) -> None:
    """Answer every error of `app` as a problem."""
    for kind in (*STATUS, *STORE_DOWN, errors.OffbeatError, RequestValidationError):
        app.add_exception_handler(kind, _handle)
    app.add_exception_handler(HTTPException, refused)


async def _handle(_request: Request, error: Exception) -> Response:
    return of(error)


async def refused(request: Request, error: Exception) -> Response:
    """The answer for what the web framework itself refuses."""
    if not isinstance(error, HTTPException):
        return of(error)
    path = request.scope["path"]
    if error.status_code == HTTPStatus.NOT_FOUND and error.detail == "Not Found":
        return problem(HTTPStatus.NOT_FOUND, f"there is no page {path}")
    if error.detail == _UNREADABLE_BODY:
        return problem(HTTPStatus.BAD_REQUEST, "the body cannot be read as JSON", where="body")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(sorted(methods_at(request.app, request.scope)))
        return problem(
            HTTPStatus.METHOD_NOT_ALLOWED,
            f"{path} takes {allowed or 'no method'}, not {request.method}",
            headers={"Allow": allowed},
        )
    return of(error)


def methods_at(app: FastAPI, scope: Mapping[str, Any]) -> set[str]:
    """Every method that some route takes at the path of `scope`, with what follows from GET."""
    found: set[str] = set()
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        asked = {**scope, "method": method}
        if any(route.matches(asked)[0] is Match.FULL for route in app.routes):
            found.add(method)
    if "GET" in found:
        found.add("HEAD")
    return found | {"OPTIONS"} if found else found


def _expected(error: Exception, status: HTTPStatus) -> Response:
    headers: dict[str, str] = {}
    if isinstance(error, errors.OverLimit | errors.Unavailable):
        headers |= retry_in(error.retry_after)
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="offbeat"'
    where = error.where if isinstance(error, errors.InvalidInput) else None
    return problem(status, str(error) or _phrase(status), where=where, headers=headers)


def _invalid_request(error: RequestValidationError) -> Response:
    listed = []
    for item in error.errors():
        place = [str(part) for part in item["loc"]]
        if item["type"] == "json_invalid":
            reason = str(item.get("ctx", {}).get("error", "it cannot be parsed"))
            return problem(
                HTTPStatus.BAD_REQUEST,
                f"the body is not JSON: {reason} at character {place[-1]}",
                where="body",
            )
        # FastAPI's first part says where the field was: body, query, path, header.
        field = ".".join(place[1:] if len(place) > 1 else place)
        listed.append((field, str(item["msg"])))
    said = "; ".join(f"{place}: {reason}" for place, reason in listed[:5])
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, said or "invalid request", errors=listed[:100])


def _whole_seconds(seconds: float) -> int:
    return max(1, math.ceil(seconds)) if math.isfinite(seconds) else 3600


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _clean(text: str, limit: int = 2000) -> str:
    """Text that any JSON reader takes: no lone surrogates, no control characters, bounded."""
    if text.isprintable() and len(text) <= limit:  # lone surrogates are not
        return text
    safe = text[:limit].encode("utf-8", "replace").decode()
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in safe
    )
