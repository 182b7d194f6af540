"""`offbeat rules test`: what it prints, and how it ends."""

import json
from pathlib import Path

import pytest

from tests.support.commands import offbeat

GOOD = """
tests:
- name: sums
  interval: 1m
  input_series: [{series: 'm{a="b"}', values: 1+1x5}]
  promql_expr_test:
  - {expr: sum(m), eval_time: 2m, exp_samples: [{labels: '{}', value: 3}]}
"""
BAD = GOOD.replace("value: 3", "value: 3.0000001")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    paths = tmp_path / "good.yml", tmp_path / "bad.yml", tmp_path / "broken.yml"
    for path, text in zip(paths, (GOOD, BAD, "tests: [{"), strict=True):
        path.write_text(text)
    return paths


def test_it_says_what_passed_and_what_differs(files: tuple[Path, Path, Path]) -> None:
    good, bad, broken = files
    assert offbeat("rules", "test", good).stdout == f"{good}: 1 test, all passed\n"
    assert offbeat("rules", "test", bad, broken, good, status=1).stdout.splitlines() == [
        f"{bad}: 1 of 1 test failed",
        "  FAILED sums: sum(m) at 2m",
        "    expected {} 3.0000001, got 3",
        f"{broken}: cannot be run",
        f"    {broken}:2:1: did not find expected node content",
        f"{good}: 1 test, all passed",
        "2 tests in 3 files, 1 failed",
    ]


def test_with_json_each_test_is_a_line(files: tuple[Path, Path, Path]) -> None:
    lines = offbeat("rules", "test", "--json", *files, status=1).stdout.splitlines()
    good, bad, broken = map(json.loads, lines)
    assert good == {
        "file": str(files[0]),
        "name": "sums: sum(m) at 2m",
        "passed": True,
        "difference": "",
    }
    assert (bad["passed"], bad["difference"]) == (False, "expected {} 3.0000001, got 3")
    assert (broken["name"], broken["passed"]) == ("", False)


def test_a_tolerance_is_relative(files: tuple[Path, Path, Path]) -> None:
    offbeat("rules", "test", "--tolerance", "1e-7", files[1])
    offbeat("rules", "test", "--tolerance", "1e-9", files[1], status=1)
    assert "a tolerance is a share" in offbeat(
        "rules", "test", "--tolerance", "5", files[1], status=1
    )


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    done = offbeat("rules", "test", tmp_path / "no.yml", status=1)
    assert "no.yml:1:1: cannot be read: No such file or directory" in done.stdout
