"""Every path of the API is documented, and the pages use paths that exist."""

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from service.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture
async def api(settings: Settings) -> Any:
    from service.app import create_app
    from service.wiring import wired

    async with wired(settings) as wiring:
        yield create_app(wiring)


async def test_every_path_is_in_the_reference_with_a_summary(api: FastAPI) -> None:
    document = api.openapi()
    pages = (ROOT / "docs" / "api.md").read_text() if (ROOT / "docs" / "api.md").exists() else ""
    for route in api.routes:
        if not isinstance(route, APIRoute) or not route.include_in_schema:
            continue
        for method in route.methods:
            operation = document["paths"].get(route.path_format, {}).get(method.lower())
            assert operation or route.path_format in pages, f"{method} {route.path}"
            assert not operation or operation.get("summary"), f"{method} {route.path}"


async def test_the_pages_use_paths_that_exist(api: FastAPI) -> None:
    routes = [route for route in api.routes if hasattr(route, "path_regex")]
    calls = [
        (page.name, path.partition("?")[0])
        for page in PAGES
        for path in re.findall(
            r"curl [^|]*?(?:\$URL|http://127\.0\.0\.1:8000)(/[^\s\"']*)",
            page.read_text().replace("\\\n", " "),
        )
    ]
    assert calls
    for page, path in calls:
        concrete = re.sub(r"\$\w+", "x", path)
        assert any(route.path_regex.match(concrete) for route in routes), f"{page}: {path}"
