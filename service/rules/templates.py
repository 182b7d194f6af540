"""Templates of alerts' labels and annotations, as Prometheus expands them.

What is wrong with a template, or with what it does, becomes the text, so that an alert is raised
all the same. Templates come from tenants: steps, text and queries of each are bounded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from service.query.promql.memo import Memo
from service.rules import template_builtins, template_functions
from service.rules.go_format import Sample, quoted
from service.rules.template_nodes import Template
from service.rules.template_parse import parse_template
from service.rules.template_registry import FUNCTIONS, Surroundings
from service.rules.template_run import Dot, Run, RunFailed
from service.rules.template_tokens import TemplateProblem

#: What Prometheus writes before every template.
_BEFORE = (
    "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}"
    "{{$externalURL := .ExternalURL}}{{$value := .Value}}"
)
#: Their functions enter themselves.
_ENTERED = (template_builtins, template_functions)
_KNOWN = frozenset({*FUNCTIONS, "and", "or", "call"})
#: Templates by their names and texts.
_PARSED: Memo[Template] = Memo(1 << 20)


@dataclass(frozen=True, slots=True)
class AlertData:
    """What a template of an alert is about."""

    labels: Mapping[str, str]
    value: float
    external_labels: Mapping[str, str] = field(default_factory=dict)
    external_url: str = ""


def check_template(text: str, name: str) -> None:
    """`TemplateProblem` says why a text is no template."""
    if "{{" in text:
        _parsed(text, name)


def expand(
    text: str,
    name: str,
    data: AlertData,
    now_ms: int,
    query: Callable[[str], list[Sample]],
) -> str:
    """The text with every action done; what is wrong with it is said in its place.

    `query` answers an instant query at `now_ms`, or raises `InvalidInput` or `Unavailable`.
    """
    if "{{" not in text:
        return text
    try:
        template = _parsed(text, name)
    except TemplateProblem as problem:
        return f"<error expanding template: error parsing template {name}: {problem}>"
    run = Run(template, Surroundings(now_ms, query, data.external_url))
    dot = Dot(dict(data.labels), dict(data.external_labels), data.external_url, data.value)
    try:
        return run.text(dot)
    except RunFailed as failed:
        return f"<error expanding template: error executing template {name}: {failed}>"


def expand_all(
    texts: Mapping[str, str],
    alert: str,
    data: AlertData,
    now_ms: int,
    query: Callable[[str], list[Sample]],
) -> dict[str, str]:
    """The labels or annotations of an alert, in order of their names; see `expand`."""
    name = f"__alert_{alert}"
    return {key: expand(text, name, data, now_ms, query) for key, text in sorted(texts.items())}


def _parsed(text: str, name: str) -> Template:
    return _PARSED.of(
        f"{quoted(name)} {text}", lambda _: parse_template(name, _BEFORE + text, _KNOWN)
    )
