"""The command line as operators use it, on the folder of a service that does not run."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service import cli
from service.domain.errors import OffbeatError
from service.storage.embedded import EmbeddedStore


class Shell:
    def __init__(self, folder: Path, redis_url: str) -> None:
        self._env = {
            "OFFBEAT_DATA_DIR": str(folder),
            "REDIS_URL": redis_url,
            "DATABASE_URL": "",
            "COLUMNS": "200",
        }

    def __call__(self, *words: str, status: int = 0) -> str:
        result = CliRunner().invoke(cli.app, words, env=self._env)
        if isinstance(result.exception, OffbeatError):
            assert status == 1, result.exception
            return str(result.exception)
        assert result.exit_code == status, result.output
        return result.output


@pytest.fixture
def shell(tmp_path: Path, store: EmbeddedStore) -> Shell:
    run = Shell(tmp_path, store.url)
    run("migrate")
    return run


def test_migrating_again_keeps_the_key_to_itself(shell: Shell) -> None:
    said = shell("migrate")
    assert "up to date" in said
    assert "ob_" not in said


def test_a_tenants_life(shell: Shell) -> None:
    assert "tenant acme created" in shell("tenants", "create", "acme", "--name", "Acme Music")
    assert "already" in shell("tenants", "create", "acme", status=1)
    assert "a-z" in shell("tenants", "create", "No Good", status=1)
    (row,) = json.loads(shell("tenants", "list", "--json"))
    assert (row["id"], row["name"]) == ("acme", "Acme Music")
    assert "Acme Music" in shell("tenants", "list")
    assert "deleted" in shell("tenants", "revoke", "acme", "--yes")
    assert "no tenant 'acme'" in shell("tenants", "revoke", "acme", "--yes", status=1)
    assert json.loads(shell("tenants", "list", "--json")) == []


def test_a_keys_life(shell: Shell) -> None:
    assert "no tenant 'acme'" in shell("keys", "create", "acme", status=1)
    shell("tenants", "create", "acme")
    key = shell("keys", "create", "acme", "--role", "reader", "--name", "grafana").strip()
    assert key.startswith("ob_")
    (row,) = json.loads(shell("keys", "list", "acme", "--json"))
    assert (row["role"], row["name"], row["revoked_at"]) == ("reader", "grafana", "")
    assert key not in shell("keys", "list", "acme")
    assert "revoked" in shell("keys", "revoke", "acme", row["id"])
    (row,) = json.loads(shell("keys", "list", "acme", "--json"))
    assert row["revoked_at"]


def test_rules_are_checked_with_line_and_column(shell: Shell, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    rule = (
        "alert_rules:\n  - name: A\n    query: a\n    condition: gt\n"
        "    threshold: 1\n    severity: low\n"
    )
    good.write_text(rule)
    bad.write_text(rule.replace("gt", "above"))
    assert "1 rules, all well" in shell("rules", "check", str(good))
    (report,) = json.loads(shell("rules", "check", str(bad), "--json", status=1))
    assert report["problems"][0].startswith(f"{bad}:4:16: ")
    assert "there is no such file" in shell("rules", "check", str(tmp_path / "none"), status=1)


def test_the_shipped_rules_are_well(shell: Shell) -> None:
    said = shell("rules", "check", "alert_rules.yaml")
    assert "all well" in said
    assert "'Disk fills up' looks 1d ahead: a series with a sample more often than every 1h" in said


def test_help_names_every_command(shell: Shell) -> None:
    said = shell("--help")
    for name in ("serve", "api", "worker", "scheduler", "demo", "migrate", "tenants", "keys"):
        assert name in said
