"""What people say of alerts and where it has moved thresholds, as answers show it."""

from pydantic import BaseModel, Field

from service.alerts.feedback import Given
from service.domain.clock import iso
from service.domain.feedback import Adjustment, Verdict, in_words, moved
from service.domain.rules import Condition, Rule


class FeedbackAnswer(BaseModel):
    """What somebody said of an alert."""

    verdict: Verdict
    note: str
    by: str
    at: str | None

    @classmethod
    def of(cls, given: Given) -> "FeedbackAnswer":
        """A verdict as it is shown."""
        return cls(verdict=given.verdict, note=given.note, by=given.actor, at=iso(given.at))


class MovedThreshold(BaseModel):
    """Where feedback has moved an anomaly rule's threshold for one series."""

    series: str = Field(description="Id of the series")
    text: str = Field(
        description="Empty where nobody said anything yet",
        examples=["threshold 0.99975 (raised from 0.999 by 2 × noise)"],
    )
    factor: float = Field(description="By which the share of rows that may alert is multiplied")
    base: float | None = Field(description="The rule's; null where a budget sets it")
    now: float | None = Field(description="The series'; null where a budget sets it")

    @classmethod
    def of(
        cls, rule: Rule, series: str, found: Adjustment, default: float
    ) -> "MovedThreshold | None":
        """None for rules that do not judge anomalies. `default` serves those without threshold."""
        if rule.condition is not Condition.ANOMALY:
            return None
        base = default if rule.threshold is None else rule.threshold
        if rule.alert_budget is not None:
            text = in_words(None, found)
            return cls(series=series, text=text, factor=found.factor, base=None, now=None)
        now = round(moved(base, found.factor), 12)
        text = in_words(base, found)
        return cls(series=series, text=text, factor=found.factor, base=base, now=now)
