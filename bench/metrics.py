"""What a running service tells Prometheus of itself."""

import re
from collections.abc import Callable

import httpx


class Metrics(dict[str, list[float]]):
    """Values of each metric, over all labels."""

    @classmethod
    def read(cls, text: str) -> "Metrics":
        """From what Prometheus is told."""
        found = cls()
        for line in text.splitlines():
            if match := re.match(r"(\w+)(?:\{.*\})? (\S+)", line):
                found.setdefault(match[1], []).append(float(match[2]))
        return found

    def largest(self, name: str) -> float:
        """The largest value, 0 without any."""
        return max(self.get(name, [0.0]))

    def since(self, before: "Metrics") -> Callable[[str], float]:
        """How much a metric, summed up, has grown."""
        return lambda name: sum(self.get(name, [])) - sum(before.get(name, []))


def read(url: str) -> Metrics:
    """The metrics of the service at `url`."""
    answer = httpx.get(f"{url}/metrics", timeout=30, trust_env=False)
    return Metrics.read(answer.raise_for_status().text)
