"""What a model's record keeps of change points."""

import json

import numpy as np

from models.synthetic import noise, times, with_shift
from service.detection.fitting import FitOptions, train_series


def test_a_training_keeps_the_change_points_of_its_history() -> None:
    t, v = times(400, 3_600_000), with_shift(noise(400, 1), 250, 40.0)
    (found,) = train_series(t, v, FitOptions()).quality["change_points"]
    assert found["at"] == t[250] / 1000
    assert found["kind"] == "level"
    assert abs(found["from"] - 100) < 3
    assert abs(found["to"] - 140) < 3
    assert json.loads(json.dumps(found)) == found


def test_of_a_counter_the_rates_change() -> None:
    t = times(400, 60_000)
    total = np.cumsum(np.where(np.arange(400) < 250, 600.0, 1800.0) + noise(400, 2) - 100)
    (found,) = train_series(t, total, FitOptions(counter=True)).quality["change_points"]
    assert round(found["from"]) == 10
    assert round(found["to"]) == 30
