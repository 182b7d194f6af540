"""The log tells what happened and never a secret."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from service.security.keys import make_key
from service.telemetry import configure_logging, hide_secrets


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    before = structlog.get_config()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("uvicorn.access").disabled = False
    structlog.configure(**before)
    structlog.contextvars.clear_contextvars()


def test_a_json_line_has_time_level_event_role_and_context(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging("info", "json", "api")
    structlog.contextvars.bind_contextvars(request_id="r-1", tenant="acme")
    structlog.get_logger("test").info("kept", samples=3)
    structlog.get_logger("test").debug("not at this level")
    logging.getLogger("uvicorn.error").warning("from %s", "uvicorn")
    logging.getLogger("uvicorn.access").info("said by our own middleware")
    first, second = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert list(first)[:4] == ["ts", "level", "event", "role"]
    assert first["event"] == "kept"
    assert first["role"] == "api"
    assert (first["request_id"], first["tenant"], first["samples"]) == ("r-1", "acme", 3)
    assert (second["event"], second["level"]) == ("from uvicorn", "warning")


@pytest.mark.parametrize("format", ["json", "text"])
def test_no_secret_reaches_the_log(capsys: pytest.CaptureFixture[str], format: str) -> None:
    configure_logging("info", format, "api")
    key = make_key()
    hidden = [key.split("_")[2], "hunter2", "T0/B0/xyz", "whsec_abcdef", "eyJhbGciOi.eyJz.sig"]
    log = structlog.get_logger("test")
    log.info("first", header=f"Bearer {key}", url="redis://user:hunter2@host/0")
    log.info("second", nested={"smtp_password": "hunter2", "list": [key, {"k": key}]})
    log.info("third", hook="https://hooks.slack.com/services/T0/B0/xyz", sign="whsec_abcdef")
    log.info("fourth", cookie="hunter2", text="session eyJhbGciOi.eyJz.sig ends")
    try:
        raise ValueError(f"no such key {key}")
    except ValueError:
        log.exception("fifth")
    said = capsys.readouterr().err
    assert "first" in said
    assert "fifth" in said
    for secret in hidden:
        assert secret not in said
    assert key.split("_")[1] in said, "the key's id is no secret and tells which one"


@pytest.mark.parametrize("text", ["\ud800", "a\x00b", "é\n"])
def test_any_text_can_be_logged(capsys: pytest.CaptureFixture[str], text: str) -> None:
    configure_logging("info", "json", "api")
    structlog.get_logger("test").info("said", text=text, number=float("nan"), thing=object())
    assert json.loads(capsys.readouterr().err)["text"] == text


def test_numbers_and_plain_names_stay() -> None:
    event = {"event": "x", "tokens": 3, "path": "/tenants/acme/keys", "rate": 0.5}
    assert hide_secrets(None, "info", dict(event)) == event
