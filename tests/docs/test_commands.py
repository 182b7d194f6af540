"""What the pages tell people to type: good shell, commands and options that exist, good JSON."""

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
from ruamel.yaml import YAML

from service.cli import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```", re.M | re.S)


def blocks(*languages: str) -> list[tuple[str, str]]:
    """Page and text of every fenced block; of `console` only what is typed."""
    found = []
    for page in PAGES:
        for indent, language, body in FENCE.findall(page.read_text()):
            if language not in languages:
                continue
            text = re.sub(rf"^{indent}", "", body, flags=re.M)
            if language == "console":
                text = "\n".join(re.findall(r"^\$ ((?:.*\\\n)*.*)$", text, re.M))
            found.append((page.name, text))
    return found


SHELL = blocks("bash", "console")


#: Where a command may begin: a line, after variables, in `$(…)`, or inside of a container.
BEGINS = r"(?:^(?:\w+=\S+ +)*|\$\(|\.venv/bin/|-- |exec api )"


def commands(program: str) -> list[tuple[str, list[str]]]:
    """Every call of `program`, in shell blocks and in the text, as words."""
    found = []
    for page, text in SHELL:
        joined = text.replace("\\\n", " ")
        for call in re.findall(rf"{BEGINS}({program} (?:'[^'\n]*'|[^\n|;)'])*)", joined, re.M):
            found.append((page, shlex.split(call, comments=True)))
    for page in PAGES:
        text = FENCE.sub("", page.read_text())
        for call in re.findall(rf"`({program} [^`\n]+)`", text):
            found.append((page.name, shlex.split(call.partition(" | ")[0])))
    return found


@pytest.mark.parametrize(("page", "text"), SHELL)
def test_it_is_good_shell(page: str, text: str) -> None:
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{page}: {done.stderr}\n{text}"


@pytest.mark.parametrize(("page", "words"), commands("offbeat"))
def test_the_program_knows_its_commands(page: str, words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while hasattr(command, "commands"):
        assert rest, f"{page}: {words} names no command"
        assert rest[0] in command.commands, f"{page}: there is no `{shlex.join(words)}`"
        command, rest = command.commands[rest[0]], rest[1:]
    options = {name for parameter in command.params for name in parameter.opts}
    used = {word.partition("=")[0] for word in rest if word.startswith("--")}
    assert used <= options, f"{page}: `{shlex.join(words)}` has no {used - options}"
    with command.make_context(words[0], list(rest)):
        pass  # a missing argument or a value of the wrong kind raises


@pytest.mark.parametrize(("page", "words"), commands("make"))
def test_make_knows_its_targets(page: str, words: list[str]) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    for word in words[1:]:
        assert "=" in word or word in targets, f"{page}: make {word}"


def test_bodies_are_json() -> None:
    bodies = [(p, b) for p, text in SHELL for b in re.findall(r"-d '([^']*)'", text)]
    assert bodies
    for page, body in bodies:
        assert json.loads(body), page
    for _, text in blocks("json"):
        json.loads(text)


def test_examples_of_yaml_are_yaml() -> None:
    examples = blocks("yaml")
    assert examples
    for _, text in examples:
        YAML(typ="safe").load(text)


def test_examples_of_rules_are_good_rules(tmp_path: Path) -> None:
    from service.rules.loader import RulesFile

    examples = [text for _, text in blocks("yaml") if "alert_rules:" in text]
    assert examples
    for number, text in enumerate(examples):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        assert RulesFile(path, 900.0).load().rules


def test_examples_of_python_compile() -> None:
    for page, text in blocks("python"):
        compile(text, page, "exec")
