"""Every path of the API is documented, and the pages use paths that exist."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute

import service.api
from service.app import create_api
from service.settings import Settings
from service.wiring import wired

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def routes() -> Iterator[APIRoute]:
    """Those of every module of the API."""
    for module in pkgutil.iter_modules(service.api.__path__, "service.api."):
        router = getattr(importlib.import_module(module.name), "router", None)
        if isinstance(router, APIRouter):
            yield from (route for route in router.routes if isinstance(route, APIRoute))


@pytest.fixture
async def document(settings: Settings) -> dict[str, Any]:
    async with wired(settings) as wiring:
        return create_api(wiring).openapi()


async def test_every_path_is_in_the_reference_with_a_summary(document: dict[str, Any]) -> None:
    listed = [route for route in routes() if route.include_in_schema]
    assert len(listed) > 10
    for route in listed:
        for method in route.methods:
            operation = document["paths"].get(route.path_format, {}).get(method.lower(), {})
            assert operation.get("summary"), f"{method} {route.path}"


async def test_the_pages_use_paths_that_exist(document: dict[str, Any]) -> None:
    known = [
        re.compile(re.sub(r"\{[^}]+\}", "[^/]+", path))
        for path in (*document["paths"], *(route.path_format for route in routes()))
    ]
    calls = [
        (page.name, path.partition("?")[0])
        for page in PAGES
        for path in re.findall(
            r"curl [^|]*?(?:\$URL|http://127\.0\.0\.1:8000)(/[^\s\"']*)",
            page.read_text().replace("\\\n", " "),
        )
    ]
    assert len(calls) > 5
    for page, path in calls:
        concrete = re.sub(r"\$\w+", "x", path)
        assert any(pattern.fullmatch(concrete) for pattern in known), f"{page}: {path}"


async def test_the_pages_name_requests_that_exist(document: dict[str, Any]) -> None:
    known = [
        (method.upper(), re.sub(r"\{[^}]+\}", "{}", path))
        for path, item in document["paths"].items()
        for method in item
    ]
    known += [(m, re.sub(r"\{[^}]+\}", "{}", r.path_format)) for r in routes() for m in r.methods]
    for page in PAGES:
        for method, path in re.findall(
            r"`(GET|POST|PUT|PATCH|DELETE) (/[^\s`?]*)", page.read_text()
        ):
            plain = re.sub(r"\{[^}]+\}", "{}", path)
            assert (method, plain) in known, f"{page.name}: {method} {path}"
