"""How sure one may be of what is said about a series: 0 to 1, from what it rests on.

Below `PAGES_FROM` nothing that a model says alerts anybody; it is shown.
"""

#: Confidence from which anomalies of a series may alert.
PAGES_FROM = 0.5

#: Rows from which a series without a model is judged, alone and beside peers, and the fewest peers:
#: series of the same metric that have models.
ALONE_ROWS, BESIDE_ROWS, PEERS_MIN = 12, 5, 3

#: Rows without a model of its own that bring half of what can be had, and that most: with its own
#: rows only, and beside peers.
_COLD_ROWS, _COLD_MOST, _PEERS_MOST = 30.0, 0.3, 0.45
#: Rows of training that bring half of full confidence.
_TRAINED_ROWS = 100.0
#: Share of values that the expected range should hold, and how much confidence each share that is
#: missing costs. Not all: incidents in the history lie outside, and rightly so.
_COVERAGE, _COST = 0.99, 3.0


def of_cold(rows: int, *, peers: bool) -> float:
    """Of a series without a model that has so many rows, judged beside its peers or alone."""
    most = _PEERS_MOST if peers else _COLD_MOST
    return most * rows / (rows + _COLD_ROWS)


def of_model(rows: int, coverage: float) -> float:
    """Of a model trained on `rows`, in whose expected range `coverage` of later values fell."""
    quality = 1.0 - _COST * max(0.0, _COVERAGE - coverage)
    return rows / (rows + _TRAINED_ROWS) * min(1.0, max(0.0, quality))
