"""Templates, static files, and how a page answers when something is wrong."""

import hashlib
import re
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from service.dashboard.sessions import COOKIE, from_elsewhere
from service.domain.clock import iso
from service.domain.errors import Forbidden, NotFound, OffbeatError, Unauthenticated, Unavailable
from service.insights import words

FOLDER = Path(__file__).parent
_STATIC = FOLDER / "static"
_VENDOR = ("vendor/htmx.min.js", "vendor/uPlot.iife.min.js", "vendor/uPlot.min.css")
_LABEL = re.compile(r"\b([A-Za-z_]\w*)=([^\s;,&]+)")
_YEAR = "public, max-age=31536000, immutable"

#: Scripts, styles and pictures of our own files only.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {"Cache-Control": "no-store", "Content-Security-Policy": POLICY}


class _Static(StaticFiles):
    """Files whose address carries their version may be kept for ever, others are asked about."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """The file with its cache header."""
        response = super().file_response(*args, **kwargs)
        scope: Scope = args[2] if len(args) > 2 else kwargs["scope"]
        versioned = b"v=" in scope.get("query_string", b"")
        response.headers["Cache-Control"] = _YEAR if versioned else "no-cache"
        return response


def static_app() -> StaticFiles:
    """What to mount at `/static`."""
    return _Static(directory=_STATIC)


def vendor_missing() -> bool:
    """Whether the scripts that set-up copies are not there."""
    return not all((_STATIC / name).is_file() for name in _VENDOR)


@lru_cache(maxsize=1)
def _version() -> str:
    digest = hashlib.blake2b(digest_size=6)
    for name in sorted(_STATIC.rglob("*")):
        if name.is_file():
            digest.update(name.read_bytes())
    return digest.hexdigest()


def _asset(name: str) -> str:
    return f"/static/{name}?v={_version()}"


def _moment(seconds: float | None, form: str = "time") -> Markup:
    """A point in time; the browser writes it in its own zone, this text is UTC."""
    if seconds is None:
        return Markup("–")
    text = datetime.fromtimestamp(seconds, UTC).strftime("%-d %b, %H:%M UTC")
    return Markup('<time datetime="{}" data-form="{}">{}</time>').format(iso(seconds), form, text)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _emphasised(text: str) -> Markup:
    """Text with the values of labels (`cdn=edge-7`) standing out."""
    return Markup(_LABEL.sub(r"\1=<em>\2</em>", str(escape(text))))  # noqa: S704  (escaped)


@lru_cache(maxsize=1)
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        emphasised=_emphasised,
        moment=_moment,
        json=_json,
        actor=words.person,
        figure=words.figure,
        span=words.span,
    )
    environment.globals.update(asset=_asset, vendor_missing=vendor_missing)
    return environment


def page(name: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A template as an answer that nobody keeps."""
    text = _templates().get_template(name).render(**context)
    return HTMLResponse(text, status, headers=_HEADERS)


def go(path: str) -> RedirectResponse:
    """See there; with GET, whatever this was."""
    return RedirectResponse(path, 303, headers={"Cache-Control": "no-store"})


class PageRoute(APIRoute):
    """A route whose errors are pages in words, and whose missing session leads to the login."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, guarded."""
        handler = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            try:
                return await handler(request)
            except Unauthenticated as error:
                return _to_login(request, error)
            except RequestValidationError:
                return _sorry(request, 400, "That address does not lead anywhere.")
            except NotFound as error:
                return _sorry(request, 404, words.upper_first(f"{error}."))
            except Forbidden as error:
                return _sorry(request, 403, words.upper_first(f"{error}."))
            except Unavailable as error:
                return _sorry(request, 503, words.upper_first(f"{error}."))
            except OffbeatError as error:
                return _sorry(request, 400, words.upper_first(f"{error}."))

        return guarded


def _is_fragment(headers: Headers) -> bool:
    return headers.get("hx-request") == "true"


def _to_login(request: Request, error: Unauthenticated) -> Response:
    here = request.url.path
    there = f"/login?next={quote(here, safe='/')}" if here != "/" else "/login"
    if _is_fragment(request.headers):
        return Response(str(error), 401, headers={"HX-Redirect": there, **_HEADERS})
    if request.method == "GET" and from_elsewhere(request) and COOKIE not in request.cookies:
        # A link in a mail or chat: the browser keeps strict cookies back for this one request.
        # Asked for again by a page of ours, it sends them.
        return page("onward.html", to=here)
    return go(there)


def _sorry(request: Request, status: int, text: str) -> Response:
    if _is_fragment(request.headers):
        return HTMLResponse(text, status, headers=_HEADERS)
    return page("sorry.html", status, text=text)
