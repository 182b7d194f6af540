"""The simple form of a rule, as YAML and JSON write it, to a `Rule` and back.

    name: High Error Rate           # required
    query: error_rate{job="web"}    # required: a metric, with matchers or without
    condition: gt                   # required: see `CONDITIONS`
    threshold: 0.05                 # for comparisons and forecast; optional for anomaly, peers
    expr: rate(errors[5m]) > 5      # PromQL, instead of query and condition
    alert_budget: 2/week            # for anomaly instead of a threshold
    severity: critical              # critical high medium low info; medium if absent

Every problem of a rule is found, not only the first.
"""

from typing import Any

from service.domain.budgets import format_budget, parse_budget
from service.domain.durations import format_duration, parse_duration
from service.domain.errors import InvalidInput
from service.domain.rules import Condition, EscalationPolicy, EscalationStep, Rule, Severity
from service.domain.series import DERIVED, NO_SERIES, Selector
from service.query.promql.expressions import ValueType, type_of
from service.query.promql.parse import TEXT_MAX, parse
from service.query.selector import parse_selector
from service.rules.form import (
    Form,
    Problem,
    channel_names,
    chosen,
    flag,
    items,
    kind,
    label_names,
    number,
    plain_name,
    text_of,
)
from service.rules.plans import watched
from service.rules.template_tokens import TemplateProblem
from service.rules.templates import check_template

#: An anomaly, said by what it needs.
_BY_BUDGET = "alert_budget"

CONDITIONS: dict[str, Condition] = {
    **{str(c): c for c in Condition if c is not Condition.EXPR},
    _BY_BUDGET: Condition.ANOMALY,
    "greater_than": Condition.GT,
    "greater_than_or_equal": Condition.GTE,
    "less_than": Condition.LT,
    "less_than_or_equal": Condition.LTE,
    "equal": Condition.EQ,
    "not_equal": Condition.NE,
}

FIELDS = (
    *("name", "query", "expr", "condition", "threshold", "alert_budget", "operator", "severity"),
    *(
        "for_duration",
        "cooldown",
        "window",
        "horizon",
        "probability",
        "peers_by",
        "channels",
        "escalation",
        "labels",
        "annotations",
    ),
    *("enabled", "tenant"),
)

#: Which condition a field belongs to, where it does not belong to all.
_ONLY = {
    "window": (Condition.NO_DATA, Condition.CHANGE, Condition.PEERS),
    "horizon": (Condition.FORECAST,),
    "operator": (Condition.FORECAST,),
    "probability": (Condition.FORECAST,),
    "alert_budget": (Condition.ANOMALY,),
    "peers_by": (Condition.PEERS,),
}
#: What the simple form says, and an expression says by itself.
SIMPLE = ("query", "condition", "threshold", *_ONLY)
#: How long the window is if a rule names none, where that is not five minutes.
_WINDOW: dict[Condition | None, float] = {Condition.CHANGE: 3600.0, Condition.PEERS: 1800.0}
_OPERATORS = (Condition.GT, Condition.GTE, Condition.LT, Condition.LTE)

#: What an interval of 90 % can tell apart.
PROBABILITY_MIN, PROBABILITY_MAX = 0.01, 0.99

STEPS_MAX = 10
_RESERVED = ("__name__", "alertname")


def parse_rule(body: object, *, rule_id: str, tenant: str | None, cooldown_seconds: float) -> Rule:
    """The rule that a simple form writes; `RuleError` names every field that is wrong.

    `tenant` is None for the rules file, in which a rule may name the tenant that it is for.
    """
    form = Form(body, FIELDS if tenant is None else FIELDS[:-1])
    name = form.take("name", plain_name, required=True)
    expr = form.take("expr", _expr)
    simple = "expr" not in form.given
    query = form.take("query", _query, required=simple)
    condition = form.take("condition", _condition, required=simple)
    threshold = form.take("threshold", number)
    operator = form.take("operator", _operator) or Condition.GT
    window = form.take("window", _positive_duration)
    horizon = form.take("horizon", _positive_duration)
    cooldown = form.take("cooldown", parse_duration)
    rule = Rule(
        id=rule_id,
        tenant=form.take("tenant", plain_name) if tenant is None else tenant,
        name=name or "",
        query=query or NO_SERIES,
        condition=condition or (Condition.GT if simple else Condition.EXPR),
        expr=expr or "",
        watches=() if expr is None else watched(parse(expr)),
        threshold=threshold,
        severity=form.take("severity", _severity) or Severity.MEDIUM,
        for_seconds=form.take("for_duration", parse_duration) or 0.0,
        cooldown_seconds=cooldown_seconds if cooldown is None else cooldown,
        window_seconds=_WINDOW.get(condition, 300.0) if window is None else window,
        horizon_seconds=horizon,
        operator=operator,
        probability=form.take("probability", _probability),
        peers_by=form.take("peers_by", label_names) or (),
        alert_budget=form.take("alert_budget", parse_budget),
        channels=form.take("channels", channel_names) or (),
        escalation=form.take("escalation", plain_name),
        labels=form.take_map("labels", 1024, reserved=_RESERVED),
        annotations=form.take_map("annotations", 4096),
        enabled=form.take("enabled", flag) is not False,
    )
    _check_templates(form, rule)
    if not simple:
        for field in SIMPLE:
            if field in form.given:
                form.wrong(field, "belongs to the simple form; a rule with expr has none", True)
    elif condition is not None:
        _check_fit(form, rule)
    form.finish()
    return rule


def _check_fit(form: "Form", rule: Rule) -> None:
    condition = rule.condition
    for field, conditions in _ONLY.items():
        if field in form.given and condition not in conditions:
            belongs = " and ".join(map(str, conditions))
            form.wrong(field, f"belongs to the condition {belongs}, not to {condition}", True)
    needs = condition.compares or condition is Condition.FORECAST
    if needs and "threshold" not in form.given:
        form.wrong("threshold", f"is missing; the condition {condition} compares with it")
    if condition in (Condition.NO_DATA, Condition.CHANGE) and "threshold" in form.given:
        form.wrong("threshold", f"does not belong to the condition {condition}; window does", True)
    if condition is Condition.ANOMALY:
        _check_budget(form)
    if (
        condition in (Condition.ANOMALY, Condition.PEERS)
        and rule.threshold is not None
        and not (0 < rule.threshold < 1)
    ):
        what = "an anomaly" if condition is Condition.ANOMALY else "peers"
        form.wrong(
            "threshold",
            f"for {what} is a score between 0 and 1, such as 0.999, not {rule.threshold:g}",
        )
    if condition in (Condition.ANOMALY, Condition.FORECAST) and rule.query.matchers:
        name = rule.query.name
        if name is None:
            form.wrong("query", f"needs a fixed metric name for the condition {condition}")
        elif name.endswith(DERIVED):
            form.wrong("query", f"names what models wrote; {condition} wants the metric itself")


def _check_templates(form: "Form", rule: Rule) -> None:
    for field, texts in (("labels", rule.labels), ("annotations", rule.annotations)):
        for key, text in texts.items():
            try:
                check_template(text, key)
            except TemplateProblem as error:
                form.problems.append(Problem((field, key), f"is no template: {error}"))


def _check_budget(form: "Form") -> None:
    if "alert_budget" in form.given and "threshold" in form.given:
        reason = "sets the threshold by itself; a rule has one of the two"
        form.wrong("alert_budget", reason, True)
    asked = str(form.given["condition"]).strip().lower()
    if asked == _BY_BUDGET and "alert_budget" not in form.given:
        form.wrong("alert_budget", "is missing; the condition alert_budget spends it, say 2/week")


def parse_policy(body: object) -> EscalationPolicy:
    """`{name, steps: [{after, channels}, …]}`; `RuleError` names every field that is wrong."""
    form = Form(body, ("name", "steps"), what="an escalation policy")
    name = form.take("name", plain_name, required=True)
    found = form.take("steps", items, required=True) or []
    steps: list[EscalationStep] = []
    if "steps" in form.given and form.fine("steps") and not 1 <= len(found) <= STEPS_MAX:
        form.wrong("steps", f"has {len(found)} steps; 1 to {STEPS_MAX} are possible")
    for i, item in enumerate(found[:STEPS_MAX]):
        part = Form(item, ("after", "channels"), what="a step", path=("steps", i))
        after = part.take("after", parse_duration, required=True)
        channels = part.take("channels", channel_names, required=True)
        if channels == ():
            part.wrong("channels", "is empty; a step notifies somebody")
        if after is not None and steps and after <= steps[-1].after_seconds:
            before = format_duration(steps[-1].after_seconds)
            part.wrong("after", f"must be later than the step before it ({before})")
        form.problems += part.problems
        if after is not None:
            steps.append(EscalationStep(after, channels or ()))
    form.finish()
    return EscalationPolicy(name or "", tuple(steps))


def rule_form(rule: Rule) -> dict[str, Any]:
    """The simple form of a rule with every value in force; `parse_rule` reads it back."""
    form: dict[str, Any] = {"name": rule.name}
    if rule.condition is Condition.EXPR:
        form["expr"] = rule.expr
    else:
        form |= {"query": rule.query.text, "condition": str(rule.condition)}
    if rule.threshold is not None:
        form["threshold"] = rule.threshold
    if rule.alert_budget is not None:
        form["alert_budget"] = format_budget(rule.alert_budget)
    if rule.condition is Condition.FORECAST:
        form["operator"] = str(rule.operator)
        if rule.probability is not None:
            form["probability"] = rule.probability
        if rule.horizon_seconds is not None:
            form["horizon"] = _duration_text(rule.horizon_seconds)
    if rule.condition in _ONLY["window"]:
        form["window"] = _duration_text(rule.window_seconds)
    if rule.condition is Condition.PEERS:
        form["peers_by"] = list(rule.peers_by)
    form |= {
        "severity": str(rule.severity),
        "for_duration": _duration_text(rule.for_seconds),
        "cooldown": _duration_text(rule.cooldown_seconds),
        "channels": list(rule.channels),
        "escalation": rule.escalation,
        "labels": dict(rule.labels),
        "annotations": dict(rule.annotations),
        "enabled": rule.enabled,
    }
    return form


def _duration_text(seconds: float) -> str | float:
    # The short text where it says the same; `90061` seconds have more than two units.
    text = format_duration(seconds)
    return text if parse_duration(text) == seconds else seconds


def _query(value: object) -> Selector:
    if not isinstance(value, str):
        raise InvalidInput(f"is a metric such as error_rate, not {kind(value)}")
    text_of(value, 2048)
    return parse_selector(value)


def _expr(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"is PromQL such as rate(errors_total[5m]) > 5, not {kind(value)}")
    text = text_of(value, TEXT_MAX)
    gives = type_of(parse(text))
    if gives is not ValueType.VECTOR:
        raise InvalidInput(
            f"gives a {gives}, not an instant vector: the series that break the rule"
        )
    return text


def _condition(value: object) -> Condition:
    return chosen(value, CONDITIONS, (str(c) for c in Condition if c is not Condition.EXPR))


def _operator(value: object) -> Condition:
    known = {word: c for word, c in CONDITIONS.items() if c in _OPERATORS}
    return chosen(value, known, map(str, _OPERATORS))


def _severity(value: object) -> Severity:
    return chosen(value, {str(s): s for s in Severity}, map(str, Severity))


def _probability(value: object) -> float:
    found = number(value)
    if not PROBABILITY_MIN <= found <= PROBABILITY_MAX:
        hint = f"; did you mean {found / 100:g}?" if 1 < found <= 100 * PROBABILITY_MAX else ""
        raise InvalidInput(
            f"is between {PROBABILITY_MIN:g} and {PROBABILITY_MAX:g}, such as 0.8, not "
            f"{found:g}{hint}"
        )
    return found


def _positive_duration(value: object) -> float:
    seconds = parse_duration(value)
    if seconds <= 0:
        raise InvalidInput("is longer than 0")
    return seconds
