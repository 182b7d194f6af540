import re
from pathlib import Path
from typing import Any

import pytest
import typer
from ruamel.yaml import YAML

from service.cli import app
from service.settings import Settings, load_settings, variable

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = YAML(typ="safe").load(ROOT / "compose.yaml")
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: s for name, s in SERVICES.items() if s["image"].startswith("offbeat:")}
KNOWN = {variable(name) for name in Settings.model_fields}
#: Needed by the file itself, to build an address from.
PARTS = {"POSTGRES_PASSWORD"}


def example() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_the_roles_run_by_themselves_from_one_image() -> None:
    assert set(OURS) == {"migrate", "api", "worker", "scheduler"}
    assert len({s["image"] for s in OURS.values()}) == 1


@pytest.mark.parametrize("name", OURS)
def test_its_command_is_one_of_the_program(name: str) -> None:
    assert OURS[name]["command"] == [name]
    assert name in typer.main.get_command(app).commands


@pytest.mark.parametrize("name", OURS)
def test_its_environment_is_known_to_the_settings(name: str) -> None:
    assert set(OURS[name]["environment"]) <= KNOWN


def test_the_example_of_secrets_holds_settings_and_no_secret() -> None:
    given = example()
    assert set(given) <= KNOWN | PARTS, set(given) - KNOWN - PARTS
    for name in ("OFFBEAT_SECRET_KEY", "REDIS_PASSWORD", "POSTGRES_PASSWORD", "SLACK_WEBHOOK_URL"):
        assert given[name] == "", f"{name} has a value"


def test_the_example_filled_in_is_a_valid_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in example().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OFFBEAT_SECRET_KEY", "0123456789abcdef" * 4)
    monkeypatch.setenv("REDIS_HOST", "redis")
    monkeypatch.setenv("REDIS_PASSWORD", "s3cret")
    settings = load_settings()
    assert settings.resolved_redis_url == "redis://:s3cret@redis:6379/0"
    assert settings.secret() == b"0123456789abcdef" * 4


def test_every_variable_it_interpolates_is_in_the_example() -> None:
    text = (ROOT / "compose.yaml").read_text()
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", text))
    assert used <= set(example()), used - set(example())
    for use in re.findall(r"(?<!\$)\$\{([^}]+)\}", text):
        assert ":?" in use, f"{use}: missing, it would silently be empty"


def test_every_service_is_pinned_restarts_and_says_how_it_is() -> None:
    for name, service in SERVICES.items():
        _, _, tag = service["image"].rpartition(":")
        assert tag, name
        assert tag != "latest", name
        assert "." not in service["image"].split("/")[0] or ":" in service["image"].split("/")[0]
        assert service["restart"], name
        assert "healthcheck" in service, name
        if name != "migrate":
            assert "disable" not in service["healthcheck"], name


@pytest.mark.parametrize("name", OURS)
def test_it_is_confined(name: str) -> None:
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "/tmp" in service["tmpfs"]
    assert any(volume.startswith("data:/data") for volume in service["volumes"])


def test_the_roles_wait_for_stores_and_tables() -> None:
    for name in ("api", "worker", "scheduler"):
        assert OURS[name]["depends_on"] == {
            "redis": {"condition": "service_healthy"},
            "postgres": {"condition": "service_healthy"},
            "migrate": {"condition": "service_completed_successfully"},
        }
    assert OURS["migrate"]["depends_on"]["postgres"] == {"condition": "service_healthy"}


def test_worker_and_scheduler_share_the_models_and_answer_on_their_health_port() -> None:
    for name in ("worker", "scheduler"):
        store = OURS[name]["environment"]["MODEL_STORE"]
        assert f"models:{store}" in OURS[name]["volumes"]
        port = OURS[name]["environment"]["OFFBEAT_HEALTH_PORT"]
        assert f":{port}/readyz" in OURS[name]["healthcheck"]["test"][-1]


def test_an_acknowledged_sample_is_on_disk() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    for option in ("--appendonly yes", "--appendfsync always", "--maxmemory-policy noeviction"):
        assert option in command
    assert SERVICES["redis"]["volumes"] == ["redis-data:/data"]


def test_every_named_volume_is_declared() -> None:
    named = {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service["volumes"]
        if not volume.startswith(".")
    }
    assert named == set(COMPOSE["volumes"])
    for service in SERVICES.values():
        for volume in service["volumes"]:
            if volume.startswith("./"):
                assert (ROOT / volume.split(":")[0]).exists(), volume
