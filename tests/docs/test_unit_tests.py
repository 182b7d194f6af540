"""The files that docs/unit_tests.md shows pass, and give the line that it shows."""

import json
import re
from pathlib import Path

from tests.support.commands import offbeat

PAGE = (Path(__file__).parents[2] / "docs" / "unit_tests.md").read_text()


def test_the_example_passes(tmp_path: Path) -> None:
    for name, text in re.findall(r"^```yaml title=(\S+)\n(.*?)^```", PAGE, re.M | re.S):
        (tmp_path / name).write_text(text)
    done = offbeat("rules", "test", "--json", tmp_path / "rules_test.yml")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 3
    (shown,) = re.findall(r"^```json\n(.*?)^```", PAGE, re.M | re.S)
    first = next(line for line in lines if "rate5m" in line["name"])
    assert {**first, "file": "rules_test.yml"} == json.loads(shown)
