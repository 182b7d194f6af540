"""`POST /analytics/metrics`: record."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from msgspec import json

from service.api.deps import allow, tenant_of, wiring
from service.api.problems import problem, retry_in
from service.api.recording import Recorder, admitted, beside, keep
from service.domain.errors import UnsupportedMedia
from service.domain.tenants import Permission, Principal
from service.ingest.answer import Answer
from service.ingest.json import decode

router = APIRouter(tags=["record"], route_class=Recorder)

_METRIC: dict[str, Any] = {
    "type": "object",
    "required": ["name", "value"],
    "properties": {
        "name": {"type": "string", "maxLength": 128, "example": "play_starts"},
        "value": {"type": "number", "example": 48210},
        "timestamp": {
            "description": "Unix seconds, or ISO 8601 with a zone; now if absent",
            "anyOf": [{"type": "number"}, {"type": "string", "format": "date-time"}],
        },
        "metric_type": {
            "type": "string",
            "enum": ["gauge", "counter", "histogram", "summary"],
            "default": "gauge",
        },
        "labels": {
            "type": "object",
            "maxProperties": 30,
            "additionalProperties": {"type": "string"},
            "example": {"region": "eu-west"},
        },
        "tenant_id": {
            "type": "string",
            "description": "Optional; the key decides, and another tenant is refused",
        },
    },
}

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"anyOf": [_METRIC, {"type": "array", "items": _METRIC}]}
            }
        },
    },
    "responses": {
        "200": {
            "description": "The good samples are kept; `rejected` names the others (100 at most)",
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "properties": {
                            "accepted": {"type": "integer"},
                            "rejected_count": {"type": "integer"},
                            "rejected": {
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "properties": {
                                        "index": {"type": "integer"},
                                        "name": {"type": "string"},
                                        "reason": {"type": "string"},
                                    },
                                },
                            },
                        },
                    }
                }
            },
        }
    },
}


@router.post(
    "/analytics/metrics",
    summary="Record a metric or a batch of them",
    openapi_extra=_BODY,
    response_class=Response,
)
async def record(
    request: Request, principal: Annotated[Principal, Depends(allow(Permission.RECORD))]
) -> Response:
    """Keep the good samples; name each rejected one with its reason. Answers once they are safe."""
    tenant = tenant_of(principal)
    parts = wiring(request)
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip()
    if kind.lower() != "application/json":
        raise UnsupportedMedia(
            f"{kind[:80]!r} is not taken here; send application/json", where="Content-Type"
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMedia("send the body uncompressed", where="Content-Encoding")
    limits = await admitted(parts, tenant)
    answer = Answer()
    body = await request.body()
    decoded = await beside(len(body), decode, body, tenant, answer)
    await keep(parts, tenant, limits, decoded, answer)
    return _response(answer)


def _response(answer: Answer) -> Response:
    if answer.rejected and not answer.accepted:
        listed = [
            (f"{i.index}: {i.name}" if i.name else str(i.index), i.reason) for i in answer.items
        ]
        said = f"none of {answer.rejected} items can be kept; " + "; ".join(
            f"item {place}: {reason}" for place, reason in listed[:3]
        )
        if answer.retry_after:
            return problem(429, said, errors=listed, headers=retry_in(answer.retry_after))
        return problem(422, said, errors=listed)
    body: dict[str, object] = {"accepted": answer.accepted}
    if answer.rejected:
        body["rejected_count"] = answer.rejected
        body["rejected"] = answer.items
    return Response(json.encode(body), media_type="application/json")
