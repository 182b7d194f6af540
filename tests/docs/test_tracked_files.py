import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[2]
#: Put together here, so that this file may itself be searched.
REGISTRIES = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("files", "pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("registry", "yarnpkg", "com"),
        ("docker", "io"),
        ("ghcr", "io"),
        ("quay", "io"),
        ("gcr", "io"),
    )
)
TEXT = {".png": False, ".ico": False, ".npz": False, ".gz": False}


def configured_hosts() -> set[str]:
    """Hosts of the indexes that this machine installs from; they belong to it alone."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    urls = re.findall(r"https?://[^\s'\"]+", done.stdout)
    return {host for url in urls if (host := urlsplit(url).hostname)} - {"localhost", "127.0.0.1"}


def texts(tracked: list[Path]) -> list[tuple[str, str]]:
    return [
        (str(path.relative_to(ROOT)), path.read_text(errors="replace"))
        for path in tracked
        if TEXT.get(path.suffix, True)
    ]


def test_no_file_names_a_registry(tracked: list[Path]) -> None:
    hosts = {*REGISTRIES, *configured_hosts()}
    pattern = re.compile("|".join(rf"(?<![\w.-]){re.escape(host)}(?![\w-])" for host in hosts))
    found = [f"{name}: {m[0]}" for name, text in texts(tracked) if (m := pattern.search(text))]
    assert not found, "\n".join(found)


def test_no_file_names_a_path_of_this_machine(tracked: list[Path]) -> None:
    home = str(Path.home())
    paths = {"/" + "work/", "/" + "root/", "/" + "home/"}
    paths |= {path for path in (str(ROOT), home) if path.count("/") >= 2}
    pattern = re.compile("|".join(rf"(?<![\w.:/-]){re.escape(path)}" for path in paths))
    found = [f"{name}: {m[0]}" for name, text in texts(tracked) if (m := pattern.search(text))]
    assert not found, "\n".join(found)


def test_no_secret_and_nothing_generated_is_tracked(tracked: list[Path]) -> None:
    names = {str(path.relative_to(ROOT)) for path in tracked}
    assert ".env" not in names
    bad = [
        name
        for name in names
        if re.search(r"(^|/)(admin\.key|secret\.key|node_modules|__pycache__|\.offbeat)(/|$)", name)
    ]
    assert not bad


@pytest.mark.parametrize("name", ["LICENSE", "README.md", "CHANGELOG.md"])
def test_what_every_project_has_is_there(name: str) -> None:
    assert (ROOT / name).stat().st_size > 500


def test_the_licence_is_the_one_that_the_package_declares() -> None:
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text()
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_changelog_keeps_its_form() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert text.startswith("# Changelog\n")
    releases = re.findall(r"^## (.+)$", text, re.M)
    assert releases[0] == "[Unreleased]"
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.M)) <= kinds
