"""What models write about a series has its labels, and the id that anybody would compute."""

import pytest

from service.domain.series import DERIVED, MetricType, Series


@pytest.mark.parametrize(
    "labels", [{}, {"host": "a"}, {"Zone": "1", "_": "x", "a": "b", "zz": "y"}]
)
@pytest.mark.parametrize("suffix", DERIVED)
def test_a_derived_series_is_the_series_of_its_name_and_labels(
    labels: dict[str, str], suffix: str
) -> None:
    series = Series.of("cpu", labels, MetricType.COUNTER)
    derived = series.derived(suffix)
    assert derived == Series.of("cpu" + suffix, labels)
    assert derived is series.derived(suffix)
    assert derived.base == Series.of("cpu", labels)
    assert derived.is_derived
