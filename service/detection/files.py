"""Where segments lie: a folder, or any place that fsspec has a name for.

fsspec gives S3, Google's and Azure's stores and many others the same few calls; each brings its
own package, which is installed where it is used.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from models import artifact
from service.domain.errors import ConfigurationError

_SUFFIX = ".pack"


class Files(Protocol):
    """Files by name (`shard/segment.pack`). Raises OSError where the place does not answer."""

    def write(self, name: str, raw: bytes) -> None:
        """Put a file there; who looks sees all of it or nothing."""
        ...

    def read(self, name: str, offset: int, length: int) -> bytes:
        """So many bytes, fewer where the file ends; FileNotFoundError without it."""
        ...

    def size(self, name: str) -> int:
        """Bytes of a file; FileNotFoundError without it."""
        ...

    def names(self) -> list[str]:
        """Every segment."""
        ...

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        ...


class Folder:
    """Files under a local folder, on disk when `write` returns."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, name: str, raw: bytes) -> None:
        """Write beside, sync, rename."""
        artifact.write(self._root / name, raw)
        with suppress(OSError):  # not every file system syncs folders
            handle = os.open((self._root / name).parent, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def read(self, name: str, offset: int, length: int) -> bytes:
        """One read."""
        handle = os.open(self._root / name, os.O_RDONLY)
        try:
            return os.pread(handle, length, offset)
        finally:
            os.close(handle)

    def size(self, name: str) -> int:
        """As the folder says."""
        return (self._root / name).stat().st_size

    def names(self) -> list[str]:
        """Segments in the folders of shards."""
        found = self._root.glob(f"*/*{_SUFFIX}")
        return sorted(path.relative_to(self._root).as_posix() for path in found)

    def delete(self, name: str) -> None:
        """Remove it from the folder."""
        (self._root / name).unlink(missing_ok=True)


class Remote:
    """Files under a URL that fsspec knows."""

    def __init__(self, url: str) -> None:
        import fsspec

        protocol = url.split("://", 1)[0]
        try:
            self._files, root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise ConfigurationError(
                f"MODEL_STORE: {protocol}:// needs a package that is not installed: {error}"
            ) from error
        except ValueError as error:
            raise ConfigurationError(f"MODEL_STORE: {url!r}: {error}") from error
        self._root = root.rstrip("/")

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def write(self, name: str, raw: bytes) -> None:
        """Object stores show an object when it is complete."""
        path = self._path(name)
        self._files.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        self._files.pipe_file(path, raw)

    def read(self, name: str, offset: int, length: int) -> bytes:
        """One request for a range."""
        found: Any = self._files.cat_file(self._path(name), start=offset, end=offset + length)
        return bytes(found)

    def size(self, name: str) -> int:
        """As the store says."""
        return int(self._files.size(self._path(name)))

    def names(self) -> list[str]:
        """Segments, as a fresh listing says."""
        self._files.invalidate_cache()
        return sorted(self._listed())

    def _listed(self) -> Iterator[str]:
        root = self._files._strip_protocol(self._root)
        for path in self._files.glob(f"{self._root}/*/*{_SUFFIX}"):
            yield str(path)[len(root) :].lstrip("/")

    def delete(self, name: str) -> None:
        """Remove the object."""
        with suppress(FileNotFoundError):
            self._files.rm_file(self._path(name))


def files_at(place: str | Path) -> Files:
    """The folder or URL. ConfigurationError, which names the missing package, if it cannot be."""
    if isinstance(place, Path) or "://" not in place:
        return Folder(Path(place))
    if place.startswith("file://"):
        return Folder(Path(place.removeprefix("file://")))
    return Remote(place)
