"""A bank must say what each detector says alone: the detector is the oracle."""

import numpy as np
import pytest

from models.bank import MISSING_MAX, SMALLEST, Bank
from models.bank_members import Calibrations, Cores, Forests
from models.bank_rows import run
from models.calibration import TailCalibrator
from models.density import CoreDistance
from models.ensemble import Detector
from models.forest import IsolationForest
from models.synthetic import bursts, daily, noise, times, with_shift, with_spike

ROWS, NEW = 500, 32
N = ROWS + NEW
STEP = 300_000


def kinds():
    rng = np.random.default_rng(5)
    t = times(N)
    few = rng.random(N) > 0.2
    hours = times(N, 3_600_000)
    return {
        "daily": (t, daily(N)),
        "spike": (t, with_spike(daily(N, 1), ROWS + 5, 25.0)),
        "shift": (t, with_shift(daily(N, 2), ROWS + 5, 12.0)),
        "constant": (t, np.full(N, 42.0)),
        "first change": (t, with_spike(np.full(N, 42.0), ROWS + 5, 5.0)),
        "two values": (t, (np.arange(N) % 7 == 0) * 1.0),
        "sparse": (t, bursts(N)),
        "ramp": (t, np.arange(float(N))),
        "gaps": (t[few], daily(N, 3)[few]),
        "long gap": (np.concatenate([t[: N - 9], t[N - 9 :] + 20 * STEP]), daily(N, 4)),
        "jitter": (t + rng.integers(-90_000, 90_000, N), daily(N, 5)),
        "missing": (t, np.where(few, daily(N, 6), np.nan)),
        "freak": (t, with_spike(daily(N, 7), ROWS + 5, 1e12)),
        "huge": (t, daily(N) * 1e14),
        "largest": (t, np.where(np.arange(N) % 50 == 0, 1e308, -1e308)),
        "first day": (t[:310], daily(310, 10)),
        "ten seconds": (times(400, 10_000), noise(400)),
        "hours": (hours[:300], daily(300, 8, period=24)),
        "days": (times(300, 86_400_000), daily(300, 9, period=7)),
    }


SERIES = kinds()


def fitted(t, v, rows):
    """As the service has it: written down and read back."""
    return Detector.from_arrays(Detector().fit(t[:rows], v[:rows]).to_arrays())


@pytest.fixture(scope="module")
def normal():
    t, v = SERIES["daily"]
    return fitted(t, v, ROWS), t, v


def same(detector, t, v, step, place):
    alone = detector.score(t, v, 1)
    assert step.score[place] == pytest.approx(alone.score[0], abs=1e-9)
    assert step.alert[place] == pytest.approx(alone.alert[0], abs=1e-9)
    for name in ("expected", "lower", "upper"):
        assert getattr(step, name)[place] == pytest.approx(getattr(alone, name)[0], rel=1e-9)


def test_many_at_once_say_what_each_says_alone():
    bank, detectors = Bank(), {}
    for name, (t, v) in SERIES.items():
        rows = len(t) - NEW
        detectors[name] = fitted(t, v, rows)
        bank.add(name, detectors[name], t[:rows], v[:rows])
    assert len(bank) == len(SERIES)
    spoke = 0
    for new in range(NEW):
        names = [
            name for number, name in enumerate(SERIES) if (new + number) % 9 or name != "daily"
        ]
        names = [name for name in names if name in bank]
        at = {name: len(SERIES[name][0]) - NEW + new for name in names}
        step = bank.step(
            names,
            np.array([SERIES[name][0][at[name]] for name in names]),
            np.array([SERIES[name][1][at[name]] for name in names]),
        )
        assert not step.stale.any()
        spoke += int((step.scores.alert > 0).sum())
        if new in (0, 5, 17, 24, NEW - 1):
            for place, name in enumerate(names):
                t, v = (column[: at[name] + 1] for column in SERIES[name])
                same(detectors[name], t, v, step.scores, place)
        if "daily" not in names:  # a series that sat out goes on from its context
            t, v = SERIES["daily"]
            bank.add("daily", detectors["daily"], t[: ROWS + new + 1], v[: ROWS + new + 1])
    assert spoke


def test_what_is_older_than_the_context_is_no_longer_needed():
    t, v = times(960, 3_600_000), daily(960, 3, period=24)
    detector, bank = fitted(t, v, 400), Bank()
    bank.add("a", detector, t[:400], v[:400])
    for row in range(400, 960):
        step = bank.step(["a"], t[row : row + 1], v[row : row + 1])
        if row > 820 and row % 20 == 0:
            begin = row + 1 - detector.context - 1
            same(detector, t[max(0, begin) : row + 1], v[max(0, begin) : row + 1], step.scores, 0)


def test_adding_scores_what_is_new(normal):
    detector, t, v = normal
    bank = Bank()
    scores = bank.add("a", detector, t[: ROWS + 4], v[: ROWS + 4], 4)
    assert np.array_equal(scores.score, detector.score(t[: ROWS + 4], v[: ROWS + 4], 4).score)
    assert len(bank.add("a", detector, t[: ROWS + 4], v[: ROWS + 4]).score) == 0
    assert len(bank) == 1


def test_series_that_cannot_be_carried_on_are_scored_and_not_kept():
    rng = np.random.default_rng(3)
    bank = Bank()
    for t in (np.cumsum(rng.exponential(60_000, 400).astype(np.int64) + 1), times(140)):
        v = noise(len(t))  # events that keep no time; too few to know what alerts must exceed
        detector = Detector().fit(t[:-10], v[:-10])
        found = bank.add("a", detector, t, v, 3)
        assert np.array_equal(found.score, detector.score(t, v, 3).score)
        assert "a" not in bank
    assert bank.nbytes == 0


@pytest.mark.parametrize(
    "later", [0, -STEP, (MISSING_MAX + 2) * STEP], ids=["twice", "late", "long gap"]
)
def test_a_value_out_of_step_is_for_the_context_to_judge(normal, later):
    detector, t, v = normal
    bank = Bank()
    for key in "ab":
        bank.add(key, detector, t[:ROWS], v[:ROWS])
    step = bank.step(["a", "b"], np.array([t[ROWS], t[ROWS - 1] + later]), v[[ROWS, ROWS]])
    assert step.stale.tolist() == [False, True]
    assert "a" in bank
    assert "b" not in bank
    with pytest.raises(KeyError):
        bank.step(["b"], t[:1], v[:1])


def test_a_missing_value_is_not_judged_and_changes_nothing(normal):
    detector, t, v = normal
    bank = Bank()
    bank.add("a", detector, t[:ROWS], v[:ROWS])
    missing = bank.step(["a"], t[ROWS : ROWS + 1], np.array([np.nan]))
    alone = detector.score(t[ROWS : ROWS + 1], np.array([np.nan]), 1)
    assert missing.scores.score[0] == missing.scores.alert[0] == 0
    assert missing.scores.expected[0] == alone.expected[0]
    step = bank.step(["a"], t[ROWS : ROWS + 1], v[ROWS : ROWS + 1])
    same(detector, t[: ROWS + 1], v[: ROWS + 1], step.scores, 0)


def test_a_series_named_twice_is_an_error(normal):
    detector, t, v = normal
    bank = Bank()
    bank.add("a", detector, t[:ROWS], v[:ROWS])
    with pytest.raises(ValueError, match="twice"):
        bank.step(["a", "a"], t[ROWS : ROWS + 2], v[ROWS : ROWS + 2])


def test_what_is_removed_leaves_room(normal):
    detector, t, v = normal
    bank = Bank()
    for key in range(SMALLEST + 2):  # more than lie together at first
        bank.add(key, detector, t[:ROWS], v[:ROWS])
    taken = bank.nbytes
    bank.remove(2)
    bank.add("new", detector, t[:ROWS], v[:ROWS])
    assert bank.nbytes == taken
    step = bank.step(["new", SMALLEST + 1, 0], t[[ROWS] * 3], v[[ROWS] * 3])
    assert len(set(step.scores.score.tolist())) == 1
    for key in (*range(SMALLEST + 2), "new", "never there"):
        bank.remove(key)
    assert (len(bank), bank.nbytes) == (0, 0)


def test_stacked_forests_are_the_forests_they_were_made_of():
    rng = np.random.default_rng(1)
    stack, own = Forests(4, 20, 6, 5), {}
    for turn in range(12):  # replaced again and again, by larger and smaller ones
        rows = int(rng.integers(8, 200))
        X = rng.normal(size=(rows, 5)).round(int(rng.integers(0, 3)))
        own[turn % 4] = IsolationForest(20, 64, turn).fit(X)
        stack.put(turn % 4, own[turn % 4])
        for digits in (0, 1, 9):  # on thresholds, -0 among them, and between
            X = (rng.normal(size=(len(own), 5)) * 2).round(digits)
            alone = [own[row].score(X[[row]])[0] for row in own]
            assert np.allclose(stack.score(np.array(list(own)), X), alone, atol=1e-12)
    with pytest.raises(ValueError, match="another number"):
        stack.put(0, IsolationForest(20, 256).fit(rng.normal(size=(300, 5))))
    with pytest.raises(ValueError, match="more series, columns or trees"):
        Forests(1024, 50, 8, 32)


@pytest.mark.parametrize("asked", [[0, 1, 2, 3], [2], [3, 0]])
def test_stacked_core_points_are_those_they_were_made_of(asked):
    rng = np.random.default_rng(2)
    stack, own = Cores(20, 100, 6), []
    for row in range(20):
        own.append(CoreDistance(5, 0.9, 100).fit(rng.normal(size=(20 + 10 * row, 6)) * 3))
        stack.put(row, own[-1])
    X = rng.normal(size=(len(asked), 6)) * 5
    alone = [own[row].score(x[None])[0] for row, x in zip(asked, X, strict=True)]
    assert np.allclose(stack.score(np.array(asked), X), alone, rtol=1e-6)
    at_core = own[3].core_[[4]]
    assert stack.score(np.array([3]), at_core)[0] == 0


def test_rows_side_by_side_need_no_copy():
    assert run(np.array([3, 4, 5])) == slice(3, 6)
    for rows in ([3, 5], [4, 3], [3, 3, 5], [3, 5, 4, 6]):
        assert run(np.array(rows)).tolist() == rows


def test_stacked_calibrations_are_those_they_were_made_of():
    rng = np.random.default_rng(4)
    pasts = [
        rng.exponential(size=5000),
        rng.exponential(size=40),
        np.zeros(50),
        np.repeat([0.0, 1.0, 5.0], [30, 50, 20]),
        np.array([2.0]),
        rng.integers(0, 9, 400) * 1.0,
    ]
    stack, own = Calibrations(2, len(pasts) + 1), []
    for column, past in enumerate(pasts):
        calibrator = TailCalibrator().fit(np.sort(past))
        own.append(TailCalibrator.from_arrays(calibrator.to_arrays()))
        stack.put(1, column, calibrator)
    for scores in (*rng.exponential(2.0, 40), 0.0, 1.0, 2.0, 5.0, 8.0, 1e9):
        found = stack.surprise(np.array([1]), np.full((1, len(pasts) + 1), scores))[0]
        alone = [calibrator.surprise(np.array([scores]))[0] for calibrator in own]
        assert np.allclose(found, [*alone, 0.0], atol=1e-12)
