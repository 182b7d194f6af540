"""The forecasters that look at every series, and the dear ones for those that earn them."""

from collections.abc import Callable
from typing import NamedTuple

from models.base import ArrayMap, Forecaster
from models.forecast import deep, holtwinters
from models.forecast.autoregressive import Lags, RidgeForecaster
from models.forecast.deep import DeepForecaster
from models.forecast.forest import ForestForecaster
from models.forecast.holtwinters import HoltWinters
from models.forecast.seasonal import SeasonalNaive
from models.forecast.smoothing import SmoothedSeason
from models.forecast.theta import Theta
from models.forecast.trend import DampedTrend


class Kind(NamedTuple):
    """How a member is made for a season and a memory in rows, and read back.

    `log`: it looks at logarithms where there are any. `days`: seasons of history that it needs, 0
    if none. `dear`: it takes many times as long as all the others. `longest`: rows of the longest
    season that it takes. `here`: whether it can be fitted with what is installed. `handicap`: what
    its errors are multiplied by when members are weighted.
    """

    make: Callable[[int, int], Forecaster]
    load: Callable[[ArrayMap], Forecaster]
    log: bool = False
    days: int = 0
    dear: bool = False
    longest: int = 10_000
    here: Callable[[], bool] = lambda: True
    handicap: float = 1.0


def _ridge(kind: Lags, by_season: bool = False) -> Callable[[int, int], Forecaster]:
    return lambda period, memory: RidgeForecaster(period, memory, kind, by_season)


#: A flat line warns of nothing: what moves may be wrong by a tenth more. A network that is trained
#: anew turns out otherwise each time: it must be a third better.
FLAT, CHANCE = 1.1, 1.5
#: Days in the season of a week, and all that there are.
WEEK, ALL = 7, 10_000

POOL: dict[str, Kind] = {
    "naive": Kind(
        lambda period, memory: SeasonalNaive(1), SeasonalNaive.from_arrays, handicap=FLAT
    ),
    "trend": Kind(lambda period, memory: DampedTrend(), DampedTrend.from_arrays),
    "ridge": Kind(_ridge(Lags.DAY), RidgeForecaster.from_arrays, log=True),
    "level": Kind(
        lambda period, memory: SmoothedSeason(period, 7), SmoothedSeason.from_arrays, log=True
    ),
    "last_level": Kind(
        lambda period, memory: SmoothedSeason(period, ALL, 1.0),
        SmoothedSeason.from_arrays,
        log=True,
        days=2,
    ),
    "seasonal_naive": Kind(
        lambda period, memory: SeasonalNaive(period), SeasonalNaive.from_arrays, days=1
    ),
    "weekly_naive": Kind(
        lambda period, memory: SeasonalNaive(WEEK * period), SeasonalNaive.from_arrays, days=7
    ),
    "weekly_level": Kind(
        lambda period, memory: SmoothedSeason(WEEK * period, 3),
        SmoothedSeason.from_arrays,
        log=True,
        days=14,
    ),
    "weekly_ridge": Kind(_ridge(Lags.WEEK), RidgeForecaster.from_arrays, log=True, days=14),
    "weekly_ridge_plain": Kind(_ridge(Lags.WEEK), RidgeForecaster.from_arrays, days=14),
    "wide_ridge": Kind(_ridge(Lags.WIDE, True), RidgeForecaster.from_arrays, log=True, days=14),
    "theta": Kind(lambda period, memory: Theta(period), Theta.from_arrays, log=True, dear=True),
    "holt_winters": Kind(
        lambda period, memory: HoltWinters(period),
        HoltWinters.from_arrays,
        log=True,
        days=4,
        dear=True,
        longest=holtwinters.PERIOD_MOST,
    ),
    "forest": Kind(ForestForecaster, ForestForecaster.from_arrays, days=14, dear=True),
    "deep": Kind(
        lambda period, memory: DeepForecaster(period),
        DeepForecaster.from_arrays,
        log=True,
        days=14,
        dear=True,
        longest=deep.PERIOD_MOST,
        here=deep.available,
        handicap=CHANCE,
    ),
}


def members(period: int, rows: int, memory: int, dear: bool) -> list[str]:
    """Names of those that a series with a season of `period` and so many rows can have."""
    return [
        name
        for name, kind in POOL.items()
        if (not kind.dear or (dear and period <= kind.longest and kind.here()))
        and (not kind.days or (period > 1 and kind.days * period <= rows))
        and min(kind.days, WEEK) * period <= memory
    ]
