"""Trained models: where each lies, and a bounded memory of those in use.

Where models lie is told from SQL (`service.detection.catalogue`) or by who stored them; nothing
here looks at a file to learn whether there is a newer one. A model that is not ours or is damaged
is refused and noted, never used: the version before it, if one is kept, stands in.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import structlog

from models import artifact
from models.artifact import ArtifactError
from models.base import Arrays, nested, within
from models.ensemble import Detector
from models.forecast.series import SeriesForecaster
from service import telemetry
from service.detection.files import files_at
from service.detection.packs import Packed, Packs, Place, Refusal, bound_to
from service.domain.errors import InvalidInput
from service.domain.series import parse_series_id
from service.domain.tenants import TENANT_ID
from service.storage.keys import shard_of

log = structlog.get_logger(__name__)

KIND = "offbeat.series"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SeriesModel:
    """What is known about one series: its detector, its forecaster and their manifest."""

    detector: Detector
    forecaster: SeriesForecaster
    manifest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def version(self) -> int:
        """Counts the trainings of the series."""
        return int(self.manifest["version"])

    @property
    def counter(self) -> bool:
        """Whether it was trained on rates (`service.detection.counters`)."""
        return bool(self.manifest.get("counter", False))

    @property
    def judged_until_ms(self) -> int:
        """Up to when the first training judged the history itself; scoring starts after it."""
        return int(self.manifest["judged_until_ms"])


def model_arrays(detector: Detector, forecaster: SeriesForecaster) -> Arrays:
    """Both in one set of arrays."""
    return nested("detector", detector.to_arrays()) | nested("forecast", forecaster.to_arrays())


class Made(NamedTuple):
    """A model to store: arrays (`model_arrays`), and a manifest with at least its `version`."""

    tenant: str
    series: str
    arrays: Arrays
    manifest: Mapping[str, Any]


class ModelRegistry:
    """Models by tenant and series (16 hex digits), in packs at `root`, signed with `key`.

    `root` is a folder or a URL (`service.detection.files`). Keeps up to `cached` models in memory;
    safe to use from several threads.
    """

    def __init__(
        self, root: Path | str, key: bytes, cached: int = 2000, *, shards: int = 1
    ) -> None:
        self.packs = Packs(files_at(root), key)
        self._key, self._cached, self._shards = key, cached, shards
        self._loaded: OrderedDict[tuple[str, str], SeriesModel] = OrderedDict()
        self._places: dict[str, dict[int, tuple[Place, ...]]] = {}
        self._ids: dict[str, frozenset[int]] = {}
        self._lost: set[Place] = set()
        self._lock = threading.Lock()
        #: What was refused and is not written down yet.
        self.refusals: deque[Refusal] = deque()

    # where models lie

    def adopt(self, tenant: str, found: Mapping[int, Sequence[Place]]) -> list[int]:
        """Take over where the versions of series lie, the one in use first; none: no model.

        Returns the series that use another version than before.
        """
        changed = []
        with self._lock:
            known = self._places.setdefault(tenant, {})
            for series, told in found.items():
                places = [place for place in told if place not in self._lost]
                before = known.get(series, ())
                if places:
                    known[series] = tuple(places)
                elif before:
                    del known[series]
                if _version(before) != _version(places):
                    changed.append(series)
                if bool(before) != bool(places):
                    self._ids.pop(tenant, None)
        return changed

    def version(self, tenant: str, series: int) -> int | None:
        """The version in use, None without one."""
        return _version(self._places.get(tenant, {}).get(series, ()))

    def place(self, tenant: str, series: int) -> Place | None:
        """Where the version in use lies."""
        places = self._places.get(tenant, {}).get(series, ())
        return places[0] if places else None

    def trained(self, tenant: str) -> frozenset[int]:
        """Ids of the series that have a model; the same set until they are others."""
        ids = self._ids.get(tenant)
        if ids is None:
            with self._lock:
                ids = self._ids[tenant] = frozenset(self._places.get(tenant, {}))
        return ids

    def forget(self, tenant: str) -> None:
        """Know nothing of a tenant's models any longer."""
        with self._lock:
            self._places.pop(tenant, None)
            self._ids.pop(tenant, None)
            for name in [name for name in self._loaded if name[0] == tenant]:
                del self._loaded[name]

    # storing

    def save(
        self, tenant: str, series_hex: str, arrays: Arrays, manifest: Mapping[str, Any]
    ) -> Place:
        """Store a model and use it, in a segment of its own."""
        (place,) = self.save_all([Made(tenant, series_hex, arrays, manifest)])
        self.adopt(tenant, {int(series_hex, 16): [place]})
        return place

    def save_all(self, made: Sequence[Made], now_ms: int = 0) -> list[Place]:
        """Store models, a segment for those of each shard; where each lies.

        They are used when that is made known. Raises InvalidInput for what is no name.
        """
        by_shard: dict[int, list[tuple[int, Packed]]] = {}
        for number, model in enumerate(made):
            _check(model.tenant, model.series)
            version = int(model.manifest["version"])
            bound = bound_to(model.tenant, model.series, version)
            raw = artifact.pack(KIND, model.arrays, model.manifest, self._key, bound)
            shard = shard_of(model.tenant, self._shards)
            packed = Packed(model.tenant, model.series, version, raw)
            by_shard.setdefault(shard, []).append((number, packed))
        places: dict[int, Place] = {}
        for shard, models in by_shard.items():
            found = self.packs.write(shard, now_ms, [packed for _, packed in models])
            places |= {number: place for (number, _), place in zip(models, found, strict=True)}
        return [places[number] for number in range(len(made))]

    # using

    def load(self, tenant: str, series_hex: str) -> SeriesModel | None:
        """The model of a series that is in use; None if there is none that can be trusted.

        OSError where the place of the segments does not answer.
        """
        name = (tenant, series_hex)
        with self._lock:
            known = self._loaded.get(name)
            if known is not None:
                if known.version == self.version(tenant, int(series_hex, 16)):
                    self._loaded.move_to_end(name)
                    return known
                del self._loaded[name]
        model = self._first(tenant, series_hex, _model)
        if model is not None:
            with self._lock:
                self._loaded[name] = model
                while len(self._loaded) > self._cached:
                    self._loaded.popitem(last=False)
        return model

    def arrays(self, tenant: str, series_hex: str) -> Arrays | None:
        """The same as arrays (`model_arrays`), not kept in memory."""
        return self._first(tenant, series_hex, lambda arrays, _: arrays)

    def _first(
        self, tenant: str, series_hex: str, made: Callable[[Arrays, dict[str, Any]], T]
    ) -> T | None:
        """What is `made` of the first version that can be trusted; the others are refused."""
        _check(tenant, series_hex)
        while (place := self.place(tenant, int(series_hex, 16))) is not None:
            try:
                raw = self.packs.read(place)
                bound = bound_to(tenant, series_hex, place.version)
                return made(*artifact.unpack(raw, KIND, self._key, bound))
            except FileNotFoundError as error:
                self._refuse(Refusal(tenant, series_hex, place, str(error), lost=True))
            except ArtifactError as error:
                self._refuse(Refusal(tenant, series_hex, place, str(error), lost=False))
        return None

    def release(self, tenant: str, series_hex: str) -> None:
        """Keep a model in memory no longer; it is as it was."""
        with self._lock:
            self._loaded.pop((tenant, series_hex), None)

    def _refuse(self, refusal: Refusal) -> None:
        """Use the version before it, if there is one, and note why."""
        series = int(refusal.series, 16)
        with self._lock:
            places = self._places.get(refusal.tenant, {}).get(series, ())
        rest = [place for place in places if place.version != refusal.place.version]
        if len(rest) == len(places):  # another thread was first
            return
        if refusal.lost:
            self._lost.add(refusal.place)
        self.adopt(refusal.tenant, {series: rest})
        self.refusals.append(refusal)
        telemetry.MODELS_REFUSED.inc()
        log.error(
            "model refused",
            tenant=refusal.tenant,
            series=refusal.series,
            version=refusal.place.version,
            segment=refusal.place.segment,
            reason=refusal.reason,
            instead=rest[0].version if rest else None,
        )


def _version(places: Sequence[Place]) -> int | None:
    return places[0].version if places else None


def _check(tenant: str, series_hex: str) -> None:
    """Raise InvalidInput for what is no name of a tenant and a series."""
    if not TENANT_ID.fullmatch(tenant):
        raise InvalidInput(f"{tenant!r} is no tenant id", where="tenant")
    if parse_series_id(series_hex) is None:
        raise InvalidInput(f"{series_hex!r} is no series id", where="series")


def _model(arrays: Arrays, manifest: dict[str, Any]) -> SeriesModel:
    try:
        return SeriesModel(
            Detector.from_arrays(within("detector", arrays)),
            SeriesForecaster.from_arrays(within("forecast", arrays)),
            manifest,
        )
    except (KeyError, ValueError) as error:
        raise ArtifactError(f"the model is incomplete: {error}") from error
