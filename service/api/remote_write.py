"""`POST /api/v1/write`: record what a Prometheus sends on."""

from email.message import Message
from functools import lru_cache
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from service.api.deps import allow, tenant_of, wiring
from service.api.problems import problem, retry_in
from service.api.recording import Recorder, admitted, beside, keep
from service.domain.errors import UnsupportedMedia
from service.domain.tenants import Permission, Principal
from service.ingest.answer import Answer
from service.ingest.decoded import Decoded
from service.ingest.remote_write import decode, inflate

router = APIRouter(tags=["record"], route_class=Recorder)

_MEDIA = "application/x-protobuf"
_PROTO = "prometheus.WriteRequest"

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A `prometheus.WriteRequest` in snappy's block format",
        "content": {_MEDIA: {"schema": {"type": "string", "format": "binary"}}},
    },
}


@router.post(
    "/api/v1/write",
    summary="Record what a Prometheus sends (remote write 1.0)",
    status_code=204,
    response_class=Response,
    openapi_extra=_BODY,
)
async def write(
    request: Request, principal: Annotated[Principal, Depends(allow(Permission.RECORD))]
) -> Response:
    """204 once all samples are safe; 400 names those that are not kept, the others are.

    429 if the tenant may add no more series this minute: sent again, they will be kept in time.
    """
    tenant = tenant_of(principal)
    parts = wiring(request)
    _check_media(request)
    limits = await admitted(parts, tenant)
    body = await request.body()
    answer = Answer()
    decoded = await beside(len(body), _read, body, answer)
    await keep(parts, tenant, limits, decoded, answer)
    if not answer.rejected:
        return Response(status_code=204)
    listed = [(item.name or f"series {item.index}", item.reason) for item in answer.items]
    said = "; ".join(f"{place}: {reason}" for place, reason in listed[:3])
    total = answer.accepted + answer.rejected
    said = f"kept {answer.accepted} of {total} samples; {said}"
    if answer.retry_after:  # Prometheus sends the whole again then, which does no harm
        return problem(429, said, errors=listed, headers=retry_in(answer.retry_after))
    return problem(400, said, errors=listed)


def _read(body: bytes, answer: Answer) -> Decoded:
    return decode(inflate(body), answer)


def _check_media(request: Request) -> None:
    """`UnsupportedMedia` unless it is version 1.0, compressed."""
    given = request.headers.get("content-type", "")
    kind, proto = _kind(given)
    if kind != _MEDIA or not given:
        raise UnsupportedMedia(
            f"{given[:80]!r} is not taken here; send {_MEDIA}", where="Content-Type"
        )
    if proto != _PROTO:
        raise UnsupportedMedia(
            f"{proto[:80]!r} is not taken; remote write 1.0 is, with proto={_PROTO}",
            where="Content-Type",
        )
    encoding = request.headers.get("content-encoding", "")
    if encoding.strip().lower() != "snappy":
        raise UnsupportedMedia(
            f"Content-Encoding {encoding[:80]!r} is not taken here; remote write 1.0 is snappy",
            where="Content-Encoding",
        )


@lru_cache(maxsize=64)
def _kind(content_type: str) -> tuple[str, str]:
    """The type and its parameter `proto`."""
    header = Message()
    header["content-type"] = content_type
    return header.get_content_type(), str(header.get_param("proto", _PROTO))
