"""An outage is a few lines in the log, however many times something is tried meanwhile."""

import pytest

from service import telemetry
from service.telemetry import Interruption


def test_its_beginning_its_reason_and_its_end_are_news(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(telemetry.time, "monotonic", lambda: now)
    interruption = Interruption()
    assert interruption.over() is None
    assert interruption.is_news("no answer")
    assert not interruption.is_news("no answer")
    assert interruption.is_news("loading")
    now += 29
    assert not interruption.is_news("loading")
    now += 1
    assert interruption.is_news("loading")
    assert not interruption.is_news("loading")
    assert interruption.over() == 30
    assert interruption.over() is None
    assert interruption.is_news("loading")
