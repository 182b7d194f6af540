"""What both clients offer alike: everything that neither waits nor sends."""

from collections.abc import Mapping
from datetime import datetime

from service.client.batch import Tally
from service.client.core import Core
from service.client.instruments import Counter, Gauge, Summary, Timer


class Surface:
    """Recording, without waiting and without errors of the network."""

    _core: Core
    #: Nothing sends yet.
    _idle: bool

    def record(
        self,
        name: str,
        value: float,
        labels: Mapping[str, str] | None = None,
        timestamp: float | datetime | None = None,
        metric_type: str = "gauge",
    ) -> None:
        """Queue one sample; `timestamp` in Unix seconds or a datetime with a zone, now if None.

        Never waits and never fails for the network. `ValueError` says what is wrong with the name,
        the labels, the value, the time or the type.
        """
        full = self._core.record(name, value, labels, timestamp, metric_type)
        if full or self._idle:
            self._nudge(start_only=not full)

    def counter(self, name: str, labels: Mapping[str, str] | None = None) -> Counter:
        """A running total, recorded once a flush interval; the same one for the same series."""
        self._nudge(start_only=True)
        return self._core.counter(name, labels)

    def gauge(self, name: str, labels: Mapping[str, str] | None = None) -> Gauge:
        """A value that is set, recorded once a flush interval; the same one for the same series."""
        self._nudge(start_only=True)
        return self._core.gauge(name, labels)

    def summary(self, name: str, labels: Mapping[str, str] | None = None) -> Summary:
        """Observations as `_count`, `_sum` and `_max`, recorded once a flush interval."""
        self._nudge(start_only=True)
        return self._core.summary(name, labels)

    def timer(self, name: str, labels: Mapping[str, str] | None = None) -> Timer:
        """`with client.timer(name):` records the seconds of the block, one sample a use."""
        return Timer(self.record, name, labels)

    @property
    def unsent(self) -> int:
        """Samples that wait or are on their way."""
        return self._core.queue.unsent

    @property
    def sent(self) -> int:
        """Samples that the server has, since the client was made."""
        return self._totals.sent

    @property
    def rejected(self) -> int:
        """Samples that the server refused, since the client was made."""
        return self._totals.rejected

    @property
    def dropped(self) -> int:
        """Samples that were never sent, since the client was made."""
        return self._totals.dropped

    @property
    def _totals(self) -> Tally:
        return self._core.queue.total

    def _nudge(self, start_only: bool = False) -> None:
        raise TypeError(f"{type(self).__name__} does not send")
