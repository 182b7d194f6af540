"""What a tenant may use."""

from dataclasses import dataclass

#: A bucket holds so many seconds of its rate: 10,000 samples/s allow a burst of 200,000.
BURST_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Quota:
    """The limits in force for a tenant.

    Rates refill continuously and allow bursts of `BURST_SECONDS`; the others bound a number.
    """

    samples_per_second: float
    requests_per_second: float
    series: int
    new_series_per_minute: int
    rules: int
    active_alerts: int
    sample_age_seconds: float
