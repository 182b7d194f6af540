import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: In a link's target, outside of code.
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^( *)```.*?^\1```", re.M | re.S)


def anchor(heading: str) -> str:
    """As the usual forges make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def targets(text: str) -> list[str]:
    return LINK.findall(re.sub(r"`[^`\n]*`", "", CODE.sub("", text)))


def test_every_relative_link_leads_somewhere(tracked: list[Path]) -> None:
    broken = []
    for page in [path for path in tracked if path.suffix == ".md"]:
        for target in targets(page.read_text()):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, part = target.partition("#")
            file = (page.parent / name).resolve() if name else page
            if not file.exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
            elif part and file.suffix == ".md":
                headings = re.findall(r"^#+ (.+)$", CODE.sub("", file.read_text()), re.M)
                if part not in map(anchor, headings):
                    broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert not broken, "\n".join(broken)


def test_every_page_of_the_documentation_is_in_its_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    listed = {target.partition("#")[0] for target in targets(index)}
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name in listed or page.name == "README.md", page.name


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see [a](b.md)", ["b.md"]),
        ("![p](d/e.png) and [c](x.md#y)", ["d/e.png", "x.md#y"]),
        ("`[no](link)`", []),
        ("```\n[no](link)\n```\n[a](b)", ["b"]),
    ],
)
def test_links_are_found(text: str, found: list[str]) -> None:
    assert targets(text) == found
