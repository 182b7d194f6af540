"""Trained models on disk, one signed file a series, and a bounded memory of those in use.

A file is replaced in one step; whoever has it loaded notices by its modification time, also
across processes. A file that is not ours or is damaged is refused and logged, never used.
"""

import contextlib
import os
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from models import artifact
from models.artifact import ArtifactError
from models.base import Arrays, nested, within
from models.ensemble import Detector
from models.forecast.series import SeriesForecaster
from service.domain.errors import InvalidInput
from service.domain.series import parse_series_id
from service.domain.tenants import TENANT_ID

log = structlog.get_logger(__name__)

KIND = "offbeat.series"


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


#: How long a list of models is used before the folder is looked at again.
LISTED_SECONDS = 5.0
#: Nanoseconds after which a folder's time of change says that nothing came since.
_SETTLED_NS = 2_000_000_000


class _Listed(NamedTuple):
    """The models of a tenant, when they were listed, and when the folder changed; 0: unknown."""

    at: float
    changed: int
    ids: frozenset[int]


class ModelRegistry:
    """Models by tenant and series (16 hex digits) under `root`, signed with `key`.

    Keeps up to `cached` models in memory; safe to use from several threads.
    """

    def __init__(self, root: Path, key: bytes, cached: int = 2000) -> None:
        self.root = root
        self._key = key
        self._cached = cached
        self._loaded: OrderedDict[tuple[str, str], tuple[int, SeriesModel | None]] = OrderedDict()
        self._listed: dict[str, _Listed] = {}
        self._lock = threading.Lock()

    def path(self, tenant: str, series_hex: str) -> Path:
        """Where the model lies. Raises InvalidInput for names that could lead elsewhere."""
        if not TENANT_ID.fullmatch(tenant):
            raise InvalidInput(f"{tenant!r} is no tenant id", where="tenant")
        if parse_series_id(series_hex) is None:
            raise InvalidInput(f"{series_hex!r} is no series id", where="series")
        return self.root / tenant / f"{series_hex}.npz"

    def save(
        self, tenant: str, series_hex: str, arrays: Arrays, manifest: Mapping[str, Any]
    ) -> None:
        """Store a model's arrays (`model_arrays`) and manifest, replacing the one before."""
        path = self.path(tenant, series_hex)
        bound_to = f"{tenant}/{series_hex}"
        artifact.write(path, artifact.pack(KIND, arrays, manifest, self._key, bound_to))
        with self._lock:
            self._listed.pop(tenant, None)

    def load(self, tenant: str, series_hex: str) -> SeriesModel | None:
        """The newest model of a series; None if there is none that can be trusted."""
        path = self.path(tenant, series_hex)
        changed = self.changed_at(tenant, series_hex)
        if changed is None:
            return None
        name = (tenant, series_hex)
        with self._lock:
            known = self._loaded.get(name)
            if known is not None and known[0] == changed:
                self._loaded.move_to_end(name)
                return known[1]
        model: SeriesModel | None = None
        try:
            model = self._read(path, tenant, series_hex)
        except ArtifactError as error:
            log.error("model refused", tenant=tenant, series=series_hex, reason=str(error))
        with self._lock:
            self._loaded[name] = (changed, model)
            self._loaded.move_to_end(name)
            while len(self._loaded) > self._cached:
                self._loaded.popitem(last=False)
        return model

    def changed_at(self, tenant: str, series_hex: str) -> int | None:
        """Modification time of the file in nanoseconds, None without one."""
        try:
            return self.path(tenant, series_hex).stat().st_mtime_ns
        except FileNotFoundError:
            return None

    def trained(self, tenant: str) -> frozenset[int]:
        """Ids of the series that have a model, as listed at most `LISTED_SECONDS` ago."""
        now = time.monotonic()
        with self._lock:
            listed = self._listed.get(tenant)
        if listed is not None and now - listed.at < LISTED_SECONDS:
            return listed.ids
        folder = self.path(tenant, f"{0:016x}").parent
        changed, ids = 0, frozenset[int]()
        with contextlib.suppress(FileNotFoundError):
            changed = folder.stat().st_mtime_ns
            if listed is not None and listed.changed == changed:
                ids = listed.ids
            else:
                with os.scandir(folder) as files:
                    found = (parse_series_id(file.name.removesuffix(".npz")) for file in files)
                    ids = frozenset(number for number in found if number is not None)
            if time.time_ns() - changed < _SETTLED_NS:
                changed = 0  # what is added at the same moment would not show
        if listed is not None and ids == listed.ids:
            ids = listed.ids  # who asks whether they are others compares no thousands
        with self._lock:
            self._listed[tenant] = _Listed(now, changed, ids)
        return ids

    def forget(self, tenant: str, series_hex: str) -> None:
        """Drop a model from memory; the next `load` reads the file."""
        with self._lock:
            self._loaded.pop((tenant, series_hex), None)
            self._listed.pop(tenant, None)

    def release(self, tenant: str, series_hex: str) -> None:
        """Keep a model in memory no longer; it is as it was."""
        with self._lock:
            self._loaded.pop((tenant, series_hex), None)

    def remove(self, tenant: str, series_hex: str) -> None:
        """Delete the model of a series, if there is one."""
        self.path(tenant, series_hex).unlink(missing_ok=True)
        self.forget(tenant, series_hex)

    def prune(self, tenants: Collection[str]) -> list[str]:
        """Delete the models of tenants that are not among `tenants`; whose they were."""
        if not self.root.is_dir():
            return []
        gone = sorted(
            folder.name
            for folder in self.root.iterdir()
            if folder.is_dir() and TENANT_ID.fullmatch(folder.name) and folder.name not in tenants
        )
        for tenant in gone:
            shutil.rmtree(self.root / tenant, ignore_errors=True)
        return gone

    def _read(self, path: Path, tenant: str, series_hex: str) -> SeriesModel:
        raw = artifact.read(path)
        arrays, manifest = artifact.unpack(raw, KIND, self._key, f"{tenant}/{series_hex}")
        try:
            return SeriesModel(
                Detector.from_arrays(within("detector", arrays)),
                SeriesForecaster.from_arrays(within("forecast", arrays)),
                manifest,
            )
        except (KeyError, ValueError) as error:
            raise ArtifactError(f"the model is incomplete: {error}") from error
