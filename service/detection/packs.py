"""Segments of models: written once by trainings, read by ranges, merged and deleted later.

Which record is in use, SQL says (`service.detection.records`); a segment is only where it lies.
"""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import uuid4

from models import artifact, packs
from models.artifact import ArtifactError
from models.packs import MAGIC, TRAILER_BYTES
from service.detection.files import Files

#: Bytes of a segment at most, unless one model is larger.
SEGMENT_BYTES = 64 << 20


class Place(NamedTuple):
    """Where a version of a series' model lies."""

    version: int
    segment: str
    offset: int
    length: int


class Refusal(NamedTuple):
    """A version that cannot be used, and why; `lost` if it is not where it should lie."""

    tenant: str
    series: str
    place: Place
    reason: str
    lost: bool


class Packed(NamedTuple):
    """The artifact of a version of a series' model (16 hex digits)."""

    tenant: str
    series: str
    version: int
    raw: bytes

    @property
    def bound_to(self) -> str:
        """What its signature holds for."""
        return bound_to(self.tenant, self.series, self.version)


def bound_to(tenant: str, series_hex: str, version: int) -> str:
    """What the signature of a model holds for; who takes its place is refused."""
    return f"{tenant}/{series_hex}/{version}"


class Packs:
    """The segments at a place, their indexes signed with `key`. Blocking; for threads."""

    def __init__(self, files: Files, key: bytes) -> None:
        self.files, self._key = files, key
        self._indexes: dict[str, Sequence[packs.Entry]] = {}

    def write(self, shard: int, now_ms: int, models: Sequence[Packed]) -> list[Place]:
        """Store models, in segments of at most `SEGMENT_BYTES`; where each lies."""
        places: list[Place] = []
        first, size = 0, 0
        for end, model in enumerate(models, 1):
            size += len(model.raw)
            if end == len(models) or size + len(models[end].raw) > SEGMENT_BYTES:
                places += self._write(shard, now_ms, models[first:end])
                first, size = end, 0
        return places

    def _write(self, shard: int, now_ms: int, models: Sequence[Packed]) -> list[Place]:
        name = f"{shard:05d}/{now_ms:013d}-{uuid4().hex[:12]}.pack"
        raw, entries = packs.build(name, [(m.bound_to, m.raw) for m in models], self._key)
        self.files.write(name, raw)
        pairs = zip(models, entries, strict=True)
        return [Place(model.version, name, at, length) for model, (_, at, length) in pairs]

    def read(self, place: Place) -> bytes:
        """The bytes of a model; FileNotFoundError if its segment is gone."""
        return self.files.read(place.segment, place.offset, place.length)

    def check(self, raw: bytes, bound: str) -> None:
        """Raise ArtifactError unless these are the bytes of the model that `bound` names."""
        artifact.check(raw, self._key, bound)

    def index(self, segment: str) -> Sequence[packs.Entry]:
        """What a segment holds, remembered. FileNotFoundError if it is gone, else ArtifactError."""
        known = self._indexes.get(segment)
        if known is None:
            size = self.files.size(segment)
            begin = max(0, size - TRAILER_BYTES)
            trailer = self.files.read(segment, begin, TRAILER_BYTES)
            length = packs.index_bytes(trailer, size)
            if self.files.read(segment, 0, len(MAGIC)) != MAGIC:
                raise ArtifactError("not a segment of models")
            index = self.files.read(segment, begin - length, length)
            known = packs.read_index(segment, index, trailer, self._key)
            self._indexes[segment] = known
        return known

    def segments(self) -> list[str]:
        """Every segment there is."""
        names = self.files.names()
        self._indexes = {name: i for name, i in self._indexes.items() if name in set(names)}
        return names

    def delete(self, segment: str) -> None:
        """Remove a segment that nothing refers to."""
        self.files.delete(segment)
        self._indexes.pop(segment, None)
