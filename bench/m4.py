"""The M4 competition's hourly series and its rules (Makridakis, Spiliotis and Assimakopoulos,
"The M4 Competition", International Journal of Forecasting 2020)."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.base import Array

#: Season and horizon of the hourly series, both in hours.
SEASON, HORIZON = 24, 48
TRAIN, TEST = "Hourly-train.csv", "Hourly-test.csv"
#: Standard normal quantile of the competition's test for a season, at 90 %.
_SIGNIFICANT = 1.645


@dataclass(frozen=True, slots=True)
class Series:
    """What a forecaster may see, `past` (n,), and what came then, `future` (HORIZON,)."""

    name: str
    past: Array
    future: Array

    @property
    def scale(self) -> float:
        """Mean absolute error of the seasonal naive forecast inside the past."""
        return float(np.abs(self.past[SEASON:] - self.past[:-SEASON]).mean())


def load(folder: Path, every: int = 1) -> list[Series]:
    """Every so-maniest of the series in a folder. Raises OSError, and ValueError with a reason."""
    past, future = _read(folder / TRAIN), _read(folder / TEST)
    if past.keys() != future.keys():
        raise ValueError(f"{folder}: {TRAIN} and {TEST} do not hold the same series")
    short = [name for name, values in past.items() if len(values) < 2 * SEASON]
    if short or any(len(values) != HORIZON for values in future.values()):
        raise ValueError(
            f"{folder}: not the hourly series of M4, with {HORIZON} values to forecast"
        )
    return [Series(name, past[name], future[name]) for name in list(past)[::every]]


def _read(path: Path) -> dict[str, Array]:
    """Rows of a name and values, which end where fields are empty."""
    with path.open(newline="") as file:
        rows = csv.reader(file)
        next(rows, None)
        try:
            return {row[0]: np.array([float(one) for one in row[1:] if one]) for row in rows if row}
        except ValueError as error:
            raise ValueError(f"{path}: line {rows.line_num}: {error}") from error


def naive2(y: Array, horizon: int = HORIZON, season: int = SEASON) -> Array:
    """The last value, seasonally adjusted where the competition's test finds a season."""
    ahead = np.arange(len(y), len(y) + horizon) % season
    factors = _factors(y, season) if _has_season(y, season) else np.ones(season)
    return np.asarray(y[-1] / factors[(len(y) - 1) % season] * factors[ahead])


def _has_season(y: Array, season: int) -> bool:
    """Whether the autocorrelation at the season is significant, after Bartlett."""
    x = y - y.mean()
    total = float(x @ x)
    if total == 0.0:
        return False
    r = np.array([x[lag:] @ x[:-lag] for lag in range(1, season + 1)]) / total
    limit = _SIGNIFICANT * np.sqrt((1.0 + 2.0 * (r[:-1] ** 2).sum()) / len(y))
    return bool(abs(r[-1]) > limit)


def _factors(y: Array, season: int) -> Array:
    """Factors (season,) by classical multiplicative decomposition, for an even season."""
    kernel = np.full(season + 1, 1.0 / season)
    kernel[[0, -1]] /= 2.0
    trend = np.convolve(y, kernel, "valid")
    ratio = np.full(len(y), np.nan)
    ratio[season // 2 : season // 2 + len(trend)] = (
        y[season // 2 : season // 2 + len(trend)] / trend
    )
    factors = np.array([np.nanmean(ratio[place::season]) for place in range(season)])
    return np.asarray(factors * season / factors.sum())


def smape(truth: Array, forecast: Array) -> float:
    """Symmetric mean absolute percentage error."""
    away, size = np.abs(truth - forecast), np.abs(truth) + np.abs(forecast)
    return float(200.0 * (away / np.maximum(size, 1e-300)).mean())


def mase(series: Series, forecast: Array) -> float:
    """Mean absolute error in those of the seasonal naive forecast inside the past."""
    return float(np.abs(series.future - forecast).mean()) / series.scale


def interval_score(series: Series, lower: Array, upper: Array, level: float) -> float:
    """Width and what lies outside, scaled as `mase` (Gneiting and Raftery 2007)."""
    below = np.maximum(lower - series.future, 0.0)
    above = np.maximum(series.future - upper, 0.0)
    score = (upper - lower) + 2.0 / (1.0 - level) * (below + above)
    return float(score.mean()) / series.scale
