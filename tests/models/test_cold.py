"""The contract of cold judging: causal, finite, quiet on what is dull, awake to what is not."""

import time
import warnings

import numpy as np
import pytest

from models.cold import PEERS_MIN, ROWS, Expectation, Limits, Profile, Shape, judge, windows
from models.synthetic import STEP_MS, bursts, daily, noise, times, with_shift, with_spike
from service.domain import confidence

SEEN_FROM = 12


def walked(values, shape=None):
    """What is said about each row from the thirteenth on."""
    values = np.asarray(values, np.float64)
    new = len(values) - SEEN_FROM
    return judge(windows(values, new), values[SEEN_FROM:], shape)


def gappy():
    values = daily(400)
    values[np.random.default_rng(1).random(400) < 0.4] = np.nan
    return values


ODD = {
    "constant": np.full(200, 42.0),
    "zeros": np.zeros(200),
    "two values": (np.arange(200) % 7 == 0) * 1.0,
    "sparse": bursts(200),
    "ramp": np.arange(200.0),
    "gaps": gappy(),
    "nothing": np.full(100, np.nan),
    "one value": np.append(np.full(100, np.nan), 5.0),
    "infinite": with_spike(daily(200), 90, np.inf),
    "negative": -daily(200),
    "huge": daily(200) * 1e306,
    "largest": np.where(np.arange(200) % 5 == 0, 1.7e308, -1.7e308),
    "tiny": daily(200) * 1e-307,
    "denormal": np.where(np.arange(200) % 3 == 0, 5e-324, 0.0),
    "dust": 1.0 + 1e-13 * noise(200),
    "one freak": with_spike(daily(200), 90, 1e300),
}


@pytest.mark.parametrize("name", ODD)
def test_whatever_comes_everything_stays_finite(name):
    values = ODD[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        limits = walked(values)
    for part in limits:
        assert part.shape == (len(values) - SEEN_FROM,)
        assert np.isfinite(part).all()
    assert ((limits.score >= 0) & (limits.score < 1)).all()
    assert (limits.lower <= limits.expected).all()
    assert (limits.expected <= limits.upper).all()
    missing = ~np.isfinite(values[SEEN_FROM:])
    assert (limits.score[missing] == 0).all()


@pytest.mark.parametrize("name", ["constant", "zeros", "two values", "sparse", "ramp", "dust"])
def test_dull_series_surprise_nobody(name):
    assert (walked(ODD[name]).score < 0.99).all()


@pytest.mark.parametrize(
    "values",
    [noise(6000), daily(6000), np.cumsum(noise(6000) - 100), np.exp((noise(6000) - 100) / 5)],
    ids=["noise", "daily", "random walk", "heavy tail"],
)
def test_scores_are_about_as_rare_as_they_say(values):
    limits = walked(values)
    assert (limits.score >= 0.99).mean() < 0.03
    assert (limits.score >= 0.999).mean() < 0.005
    inside = (values[SEEN_FROM:] >= limits.lower) & (values[SEEN_FROM:] <= limits.upper)
    assert inside.mean() > 0.97


@pytest.mark.parametrize("rows", [SEEN_FROM, 20, 60, 300])
def test_a_value_far_out_is_found_from_the_first_minutes_on(rows):
    values = with_spike(noise(rows + 1), rows, 60.0)
    assert walked(values).score[-1] > 0.99
    assert walked(noise(rows + 1)).score[-1] < 0.99


def test_more_rows_say_it_louder():
    spiked = [with_spike(noise(rows + 1), rows, 60.0) for rows in (12, 60)]
    few, many = (1 - walked(values).score[-1] for values in spiked)
    assert many < few / 2


def test_a_new_level_is_usual_within_half_the_window():
    values = with_shift(noise(300), 150, 60.0)
    score = walked(values).score[150 - SEEN_FROM :]
    assert (score[:4] > 0.99).all()
    after = score[ROWS // 2 + 2 :]
    assert (after < 0.999).all()
    assert (after >= 0.99).mean() < 0.03


def test_the_first_change_of_a_constant_is_as_rare_as_the_rows_before_it_are_many():
    values = np.append(np.full(ROWS, 5.0), 6.0)
    assert walked(values).score[-1] == pytest.approx(1 - 1 / (ROWS + 1))


def test_no_row_is_judged_by_what_comes_after_it():
    values = gappy()
    whole = walked(values)
    for n in (20, 77, 399):
        part = walked(values[:n])
        for one, other in zip(part, whole, strict=True):
            assert np.array_equal(one, other[: n - SEEN_FROM])


def test_rows_are_judged_alone_as_in_company():
    before, seen = windows(daily(300), 200), daily(300)[100:]
    together = judge(before, seen)
    for row in (0, 57, 199):
        alone = judge(before[row : row + 1], seen[row : row + 1])
        assert np.allclose([part[0] for part in alone], [part[row] for part in together])


def test_scale_and_offset_do_not_matter():
    values = daily(200)
    score = walked(values).score
    for other in (values * 1e9, values * -3.0, values + 1000.0):
        assert np.allclose(walked(other).score, score, atol=1e-6)


def test_nothing_to_judge():
    nothing = judge(np.zeros((0, ROWS)), np.zeros(0))
    assert all(part.shape == (0,) for part in nothing)


def rising(hours=30, level=1.0):
    """A rhythm that peers share, and their band of a tenth around it."""
    t = times(hours * 12)
    rhythm = level * (1.0 + 0.8 * np.sin(2 * np.pi * np.arange(len(t)) / 288))
    return Expectation(t, rhythm, 0.9 * rhythm, 1.1 * rhythm)


PEERS = [rising(level=level) for level in (1.0, 20.0, 3000.0)]


def beside(values, t, new, profile):
    shape, width = profile.at(t)
    led = Shape(windows(shape, new), shape[-new:], width[-new:])
    return judge(windows(values, new), values[-new:], led)


def test_peers_lend_their_rhythm():
    """Few rows at the steep of a morning, relative to a level of its own."""
    profile, own = Profile(PEERS), rising(level=7.0)
    t, values = own.t_ms[-16:], own.expected[-16:] * 1.01
    limits = beside(values, t, 6, profile)
    assert profile.peers == PEERS_MIN
    assert np.allclose(limits.expected, values[-6:], rtol=1e-6)
    assert (limits.score < 0.9).all()
    assert ((limits.lower < values[-6:]) & (values[-6:] < limits.upper)).all()


def test_beside_its_peers_a_series_that_does_not_rise_is_odd():
    peers = [rising(26, level) for level in (1.0, 20.0, 3000.0)]
    profile, own = Profile(peers), rising(26, 7.0)
    t, values = own.t_ms[-40:], own.expected[-40:].copy()
    values[-8:] = values[-9]
    assert beside(values, t, 1, profile).score[-1] > 0.97
    assert walked(values).score[-1] < 0.9  # alone it cannot know


def test_unequal_peers_are_asked_for_the_one_in_the_middle():
    odd = PEERS[0]._replace(expected=PEERS[0].expected[::-1].copy())
    profile = Profile([*PEERS, PEERS[0], odd])
    t = PEERS[0].t_ms[-100:]
    assert np.allclose(profile.at(t)[0], Profile(PEERS).at(t)[0])


@pytest.mark.parametrize(
    "peers",
    [
        [],
        PEERS[:2],
        [peer._replace(expected=-peer.expected) for peer in PEERS],
        [Expectation(*(part[:0] for part in peer)) for peer in PEERS],
        [peer._replace(expected=np.full(360, np.nan)) for peer in PEERS],
    ],
    ids=["none", "few", "negative", "empty", "missing"],
)
def test_peers_that_say_nothing_change_nothing(peers):
    profile = Profile(peers)
    t, values = times(40), noise(40)
    assert np.isnan(profile.at(t)[0]).all()
    led, alone = beside(values, t, 5, profile), judge(windows(values, 5), values[-5:])
    assert all(np.array_equal(one, other) for one, other in zip(led, alone, strict=True))


def test_peers_are_not_asked_about_times_that_they_do_not_know():
    profile = Profile(PEERS)
    t = PEERS[0].t_ms
    assert np.isfinite(profile.at(t[-1:] + 3 * STEP_MS)[0]).all()
    for far in (t[-1:] + 4 * STEP_MS, t[:1] - 1, t[-1:] - 2 * 86_400_000):
        assert np.isnan(profile.at(far)[0]).all()


def test_the_service_asks_for_as_many_peers_as_make_a_profile():
    assert confidence.PEERS_MIN == PEERS_MIN


def test_ten_thousand_rows_cost_little():
    before, seen = windows(noise(10_060), 10_000), noise(10_000)
    took = []
    for _ in range(3):
        begun = time.process_time()
        limits = judge(before, seen)
        took.append(time.process_time() - begun)
    assert isinstance(limits, Limits)
    assert min(took) < 0.5
