"""The measurement of reading reads what it wrote, every way."""

import pytest

from bench import read


@pytest.fixture(scope="module")
def rows() -> list[read.Row]:
    return read.run(series=4, step_s=300, repeats=1, days=3)


def test_every_way_of_reading_is_measured(rows: list[read.Row]) -> None:
    assert [row.what.split(",")[0] for row in rows] == [
        "sealed chunks",
        "records",
        "records",
        "records",
        "records",
        "sorted sets (4 of the series",
        "3 days of one series by the hour",
    ]
    assert [row.samples for row in rows] == [4 * 288] * 6 + [3 * 288]
    assert all(row.ms > 0 and row.bytes_per_sample > 0 for row in rows)
    assert rows[0].bytes_per_sample < rows[1].bytes_per_sample == 16
