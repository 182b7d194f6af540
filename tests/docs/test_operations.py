"""docs/operations.md knows every metric and every line of the log that needs attention."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from service import telemetry

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "operations.md").read_text()
LOUD = {"warning": "W", "error": "E", "exception": "E", "critical": "E"}


def metrics() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Name as scraped → type and labels, of all that `service.telemetry` defines."""
    found = {}
    for value in vars(telemetry).values():
        name = getattr(value, "_name", None)
        if isinstance(name, str) and name.startswith("offbeat_"):
            kind = type(value).__name__.lower()
            found[name + ("_total" if kind == "counter" else "")] = (kind, value._labelnames)
    return found


ROWS = {
    name: (kind, tuple(label for label in re.split(r",\s*", labels) if label))
    for name, kind, labels in re.findall(
        r"^\| `(offbeat_\w+)` \| (\w+) \| ([\w, ]*?) ?\| ", TEXT, re.M
    )
}


def test_the_registry_holds_nothing_else() -> None:
    registered = {m.name for m in REGISTRY.collect() if m.name.startswith("offbeat_")}
    assert registered == {name.removesuffix("_total") for name in metrics()}


def test_every_metric_is_used_somewhere() -> None:
    code = "".join(
        path.read_text() for path in (ROOT / "service").rglob("*.py") if path.name != "telemetry.py"
    )
    own = (ROOT / "service" / "telemetry.py").read_text()
    for name, value in vars(telemetry).items():
        if str(getattr(value, "_name", "")).startswith("offbeat_"):
            inside = re.search(rf"^(?!{name} = ).*\b{name}\.\w+", own, re.M)
            assert f"telemetry.{name}" in code or inside, f"{name} is never set"


def test_every_metric_is_in_the_table_with_its_type_and_labels() -> None:
    assert metrics() == ROWS


def test_the_alerts_use_metrics_that_exist() -> None:
    for name in set(re.findall(r"\b(offbeat_\w+)", TEXT)):
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        assert base in ROWS, name


def loud_lines() -> Iterator[tuple[str, str]]:
    """Place and event of each warning and error; what varies in an event is `…`."""
    for path in sorted((ROOT / "service").rglob("*.py")):
        if "node_modules" in path.parts or "demo" in path.parts or "client" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in LOUD
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "log"
                and node.args
            ):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", event(node.args[0])


def event(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values)
    raise AssertionError("an event is a constant text, and what varies goes into its fields")


LINES = sorted(set(loud_lines()))


@pytest.mark.parametrize(("place", "text"), LINES)
def test_every_loud_line_of_the_log_is_explained(place: str, text: str) -> None:
    pattern = "[^`|]+".join(re.escape(part) for part in text.split("…"))
    table = TEXT[TEXT.index("| event | level |") :]
    assert re.search(rf"`{pattern}`[^|]*\|", table), f"{place}: {text!r} is not explained"


def test_every_explained_line_exists() -> None:
    table = TEXT[TEXT.index("| event | level |") :].split("\n\n")[0]
    known = ["[^`]+".join(re.escape(part) for part in text.split("…")) for _, text in LINES]
    for row in table.splitlines()[2:]:
        for text in re.findall(r"`([^`]+)`", row.split("|")[1]):
            assert any(re.fullmatch(pattern, text) for pattern in known), text
