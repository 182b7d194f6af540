import re
from pathlib import Path

from service.settings import Settings, configuration_page, variable

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_page_is_what_the_code_says() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert page == configuration_page(), "run `make docs`"


def test_every_setting_named_elsewhere_exists() -> None:
    known = {variable(name) for name in Settings.model_fields}
    # Of other programs, or of the files of compose alone.
    foreign = {"OFFBEAT_VERSION", "POSTGRES_PASSWORD", "PROMETHEUS_MULTIPROC_DIR"}
    foreign |= {"PROMQL_TEST_QUERIES", "PROMQL_TEST_SEED"}  # of tests
    for page in PAGES:
        for name in re.findall(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)`", page.read_text()):
            assert name in known | foreign, f"{page.name}: there is no setting {name}"
