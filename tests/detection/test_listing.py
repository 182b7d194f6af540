"""Which series have a model: listed anew when the folder changes, and only then."""

import os
import time
from pathlib import Path

import pytest

from service.detection import registry
from service.detection.registry import ModelRegistry


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelRegistry:
    monkeypatch.setattr(registry, "LISTED_SECONDS", 0.0)
    return ModelRegistry(tmp_path, b"k" * 32)


def put(models: ModelRegistry, number: int) -> None:
    path = models.path("acme", f"{number:016x}")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")


def test_models_are_listed_as_they_come_and_go(models: ModelRegistry) -> None:
    assert models.trained("acme") == frozenset()
    for number in range(1, 5):
        put(models, number)
        assert models.trained("acme") == frozenset(range(1, number + 1))
    models.remove("acme", f"{2:016x}")
    assert models.trained("acme") == {1, 3, 4}


def test_a_folder_that_has_settled_is_not_listed_again(models: ModelRegistry) -> None:
    put(models, 1)
    folder = models.path("acme", f"{1:016x}").parent
    long_ago = time.time() - 60
    os.utime(folder, (long_ago, long_ago))
    listed = models.trained("acme")
    (folder / f"{2:016x}.npz").write_bytes(b"")
    os.utime(folder, (long_ago, long_ago))  # as if nothing had come
    assert models.trained("acme") is listed
    put(models, 3)
    assert models.trained("acme") == {1, 2, 3}


def test_the_same_models_are_the_same_set(models: ModelRegistry) -> None:
    put(models, 1)
    listed = models.trained("acme")
    put(models, 1)
    os.utime(models.path("acme", f"{1:016x}").parent)
    assert models.trained("acme") is listed
