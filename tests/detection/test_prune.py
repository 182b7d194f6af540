"""Models of tenants that are gone go too."""

from pathlib import Path

from service.detection.registry import ModelRegistry


def test_only_the_folders_of_gone_tenants_are_deleted(tmp_path: Path) -> None:
    models = ModelRegistry(tmp_path / "models", b"k" * 32)
    assert models.prune(["acme"]) == []
    for name in ("acme", "blue", "Not A Tenant"):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "0000000000000001.npz").write_bytes(b"")
    assert models.prune(["acme"]) == ["blue"]
    assert sorted(p.name for p in (tmp_path / "models").iterdir()) == ["Not A Tenant", "acme"]
