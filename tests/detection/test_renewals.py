"""When forecasts are renewed: by points, of dense streams by time up to half of the horizon."""

from pathlib import Path

import numpy as np
import pytest

from service.detection.fitting import FitOptions, train_series
from service.detection.registry import ModelRegistry
from service.detection.scoring import Scorer
from service.domain.series import FORECAST, Series
from service.storage.columns import Columns

CPU = Series.of("cpu", {"host": "a"})
ROWS, HORIZON = 400, 24


@pytest.mark.parametrize(
    ("step_s", "renewed"), [(1, [12, 24]), (10, [12, 24]), (15, [8, 16, 24]), (60, [6, 12, 18, 24])]
)
def test_forecasts_of_dense_streams_are_renewed_less_often(
    tmp_path: Path, step_s: int, renewed: list[int]
) -> None:
    t = 1_800_000_000_000 + 1000 * step_s * np.arange(ROWS + 25)
    v = np.random.default_rng(0).normal(50, 5, len(t))
    trained = train_series(t[:ROWS], v[:ROWS], FitOptions(horizon=HORIZON))
    models = ModelRegistry(tmp_path, b"k" * 32)
    told = {"version": 1, "trained_to_ms": trained.to_ms, "judged_until_ms": trained.to_ms}
    models.save("acme", CPU.hex, trained.arrays, told)
    scorer = Scorer(models)
    found = []
    for end in range(ROWS + 1, ROWS + 25):
        context = Columns(t[:end], v[:end])
        said = dict(scorer.score_all("acme", [(CPU, context, int(t[end - 2]))]).found[0][1])
        if (forecast := said.get(CPU.derived(FORECAST))) is not None:
            found.append(end - ROWS)
            assert len(forecast.t) == HORIZON
            assert forecast.t[0] == t[end]
    assert found == renewed
