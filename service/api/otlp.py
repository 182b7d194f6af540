"""`POST /v1/metrics`: record, as OpenTelemetry sends it (OTLP/HTTP)."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from msgspec import json
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceResponse,
)

from service.api.deps import allow, tenant_of, wiring
from service.api.recording import LARGE, Recorder, admitted, beside, keep
from service.domain.errors import OverLimit, UnsupportedMedia
from service.domain.tenants import Permission, Principal
from service.ingest.answer import Answer
from service.ingest.decoded import Decoded
from service.ingest.inflate import gunzip
from service.ingest.otlp import PointAnswer, decode_json, decode_protobuf

router = APIRouter(tags=["record"], route_class=Recorder)

PROTOBUF = "application/x-protobuf"
JSON = "application/json"

_DECODERS: dict[str, Callable[[bytes, Answer], Decoded]] = {
    PROTOBUF: decode_protobuf,
    JSON: decode_json,
}
#: Rejected points that the message tells of.
_TOLD = 5

_ANSWER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "partialSuccess": {
            "type": "object",
            "properties": {
                "rejectedDataPoints": {"type": "string"},
                "errorMessage": {"type": "string"},
            },
        }
    },
}
_BINARY: dict[str, Any] = {"type": "string", "format": "binary"}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "An ExportMetricsServiceRequest of OTLP; may be gzip",
        "content": {
            PROTOBUF: {"schema": _BINARY},
            JSON: {
                "schema": {
                    "type": "object",
                    "properties": {
                        "resourceMetrics": {"type": "array", "items": {"type": "object"}}
                    },
                }
            },
        },
    },
    "responses": {
        "200": {
            "description": "An ExportMetricsServiceResponse in the encoding of the request; "
            "`partialSuccess` counts the data points that were not kept and names the first",
            "content": {PROTOBUF: {"schema": _BINARY}, JSON: {"schema": _ANSWER}},
        }
    },
}


@router.post(
    "/v1/metrics",
    summary="Record metrics of OpenTelemetry (OTLP)",
    openapi_extra=_BODY,
    response_class=Response,
)
async def export(
    request: Request, principal: Annotated[Principal, Depends(allow(Permission.RECORD))]
) -> Response:
    """Keep the good data points; count the others and say why. Answers once they are safe."""
    tenant = tenant_of(principal)
    parts = wiring(request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _DECODERS:
        raise UnsupportedMedia(
            f"{kind[:80]!r} is not taken here; send {PROTOBUF} or {JSON}", where="Content-Type"
        )
    coding = request.headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity", "none", "gzip"):
        raise UnsupportedMedia(
            f"{coding[:80]!r} is not taken here; send gzip or nothing", where="Content-Encoding"
        )
    limits = await admitted(parts, tenant)
    body = await request.body()
    answer = PointAnswer()
    read = _read_gzip if coding == "gzip" else _read
    # How large a compressed body is shows only when it is read.
    size = LARGE if coding == "gzip" else len(body)
    decoded = await beside(size, read, body, kind, answer)
    await keep(parts, tenant, limits, decoded, answer)
    if answer.retry_after:
        # A partial success must not be sent again; this may, and what was kept is kept once.
        raise OverLimit(_said(answer), retry_after=answer.retry_after)
    return _response(kind, answer)


def _read(body: bytes, kind: str, answer: Answer) -> Decoded:
    return _DECODERS[kind](body, answer)


def _read_gzip(body: bytes, kind: str, answer: Answer) -> Decoded:
    return _DECODERS[kind](gunzip(body), answer)


def _response(kind: str, answer: Answer) -> Response:
    said = _said(answer)
    if kind == PROTOBUF:
        message = ExportMetricsServiceResponse()
        if said:
            message.partial_success.CopyFrom(
                ExportMetricsPartialSuccess(
                    rejected_data_points=answer.rejected, error_message=said
                )
            )
        return Response(message.SerializeToString(), media_type=PROTOBUF)
    body: dict[str, object] = {}
    if said:
        body["partialSuccess"] = {"rejectedDataPoints": str(answer.rejected), "errorMessage": said}
    return Response(json.encode(body), media_type=JSON)


def _said(answer: Answer) -> str:
    """The first few points that were not kept, with reasons; empty when all were."""
    if not answer.rejected:
        return ""
    told = [f"point {i.index} ({i.name[:128]}): {i.reason}" for i in answer.items[:_TOLD]]
    more = answer.rejected - len(told)
    return "; ".join(told) + (f"; and {more} more" if more else "")
