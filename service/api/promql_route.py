"""Routes of Prometheus' API: who may ask, errors in its shape, and what the reference says."""

import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from service.api import problems
from service.api.deps import allow
from service.api.promql_json import failed
from service.domain.tenants import Permission, Principal
from service.query.promql.budget import QueryTimeout

MEDIA_TYPE = "application/json"

#: Readers; the key may also be the password of basic authentication.
Reader = Annotated[Principal, Depends(allow(Permission.READ, basic=True))]

#: How Prometheus names what went wrong, and what it has no name for.
_KINDS = {
    400: "bad_data",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "bad_data",
    413: "bad_data",
    422: "execution",
    500: "internal",
    503: "unavailable",
}

#: Paths beside Prometheus' that senders use; what they are told has its own shape.
_RECORDERS = frozenset({"/api/v1/write"})

_FAILURE = {
    "type": "object",
    "required": ["status", "errorType", "error"],
    "properties": {
        "status": {"const": "error"},
        "errorType": {"type": "string"},
        "error": {"type": "string"},
    },
}


def in_its_shape(answer: Response, error: Exception | None = None) -> Response:
    """A problem as Prometheus tells it, with the same status and headers."""
    status = answer.status_code
    kind = "timeout" if isinstance(error, QueryTimeout) else _KINDS.get(status, "bad_data")
    said = json.loads(bytes(answer.body))["detail"]
    headers = {
        name: value
        for name, value in answer.headers.items()
        if name not in ("content-length", "content-type")
    }
    return Response(failed(kind, said), status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Tell also of pages and methods that there are not in Prometheus' shape, where it has its own.

    To be called after `problems.install`.
    """
    app.add_exception_handler(HTTPException, _refused)


async def _refused(request: Request, error: Exception) -> Response:
    answer = await problems.refused(request, error)
    path = request.scope["path"]
    ours = path.startswith("/api/v1/") and path not in _RECORDERS
    return in_its_shape(answer) if ours else answer


class PrometheusRoute(APIRoute):
    """Answers every error in Prometheus' shape."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler with its errors answered here."""
        handler = super().get_route_handler()

        async def answering(request: Request) -> Response:
            try:
                return await handler(request)
            except ClientDisconnect:
                raise
            except Exception as error:
                return in_its_shape(problems.of(error), error)

        return answering


def answered(body: bytes) -> Response:
    """200 with JSON."""
    return Response(body, media_type=MEDIA_TYPE)


def described(data: Mapping[str, Any], **parameters: str) -> dict[str, Any]:
    """What a GET route says of itself: the schema of `data`, and its parameters.

    A name that begins with `_` is one that must be there; `match` is the list `match[]`.
    """
    return {
        "response_class": Response,
        "responses": _responses(data),
        "openapi_extra": {
            "parameters": [
                {
                    "in": "query",
                    "name": name,
                    "required": required,
                    "description": about,
                    "schema": schema,
                }
                for name, required, about, schema in _fields(parameters)
            ]
        },
    }


def described_form(data: Mapping[str, Any], **parameters: str) -> dict[str, Any]:
    """The same of a POST route, whose parameters are a form in the body or in the URL."""
    fields = _fields(parameters)
    schema = {
        "type": "object",
        "required": [name for name, required, _, _ in fields if required],
        "properties": {name: {**schema, "description": about} for name, _, about, schema in fields},
    }
    return {
        "response_class": Response,
        "responses": _responses(data),
        "openapi_extra": {
            "requestBody": {
                "content": {"application/x-www-form-urlencoded": {"schema": schema}},
            }
        },
    }


def _fields(parameters: Mapping[str, str]) -> list[tuple[str, bool, str, dict[str, Any]]]:
    found: list[tuple[str, bool, str, dict[str, Any]]] = []
    for key, about in parameters.items():
        name, schema = key.lstrip("_"), dict[str, Any](type="string")
        if name in ("match", "rule_name", "rule_group", "file"):
            name, schema = f"{name}[]", {"type": "array", "items": schema}
        found.append((name, key.startswith("_"), about, schema))
    return found


def _responses(data: Mapping[str, Any]) -> dict[int | str, dict[str, Any]]:
    success = {
        "type": "object",
        "required": ["status", "data"],
        "properties": {
            "status": {"const": "success"},
            "data": data,
            "warnings": {"type": "array", "items": {"type": "string"}},
            "infos": {"type": "array", "items": {"type": "string"}},
        },
    }
    failure = {"content": {MEDIA_TYPE: {"schema": _FAILURE}}}
    return {
        200: {"description": "The answer", "content": {MEDIA_TYPE: {"schema": success}}},
        "4XX": {"description": "What is wrong with the request", **failure},
        "5XX": {"description": "What failed", **failure},
    }
