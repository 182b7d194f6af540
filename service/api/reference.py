"""`/docs`: the API's reference, made from the OpenAPI document as plain HTML.

No script and no foreign server, so it also works under our Content-Security-Policy and on
machines without a way to the internet.
"""

import base64
import hashlib
import json
import re
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from service.api.middleware import CONTENT_SECURITY_POLICY

router = APIRouter(include_in_schema=False)

_METHODS = ("get", "post", "put", "patch", "delete")

_STYLE = """
:root{--ink:#1b1f24;--soft:#5c6570;--line:#e3e6ea;--paper:#fff;--tint:#f5f6f8;--accent:#2457c5}
@media(prefers-color-scheme:dark){:root{--ink:#e6e8eb;--soft:#9aa4af;--line:#2b3138;
--paper:#14171a;--tint:#1c2025;--accent:#8ab0ff}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:60rem;padding:2rem 1.25rem 6rem;background:var(--paper);
color:var(--ink);font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.6rem;margin:0}h2{font-size:1.1rem;margin:2.5rem 0 .5rem;text-transform:capitalize}
p,table,pre{margin:.5rem 0}p{color:var(--soft)}a{color:var(--accent)}
code,pre{font:14px/1.45 ui-monospace,monospace}
pre{background:var(--tint);padding:.75rem 1rem;border-radius:6px;overflow-x:auto}
details{border-top:1px solid var(--line)}details:last-of-type{border-bottom:1px solid var(--line)}
summary{display:flex;gap:.75rem;flex-wrap:wrap;padding:.6rem .25rem;cursor:pointer;
list-style:none}summary::-webkit-details-marker{display:none}
summary:hover{background:var(--tint)}summary span{color:var(--soft);margin-left:auto}
summary b{font:600 12px/1.9 ui-monospace,monospace;width:3.8rem;color:var(--accent)}
details>div{padding:0 .25rem 1rem}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{text-align:left;vertical-align:top;padding:.3rem .75rem .3rem 0;
border-bottom:1px solid var(--line)}th{color:var(--soft);font-weight:500}
"""

_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = CONTENT_SECURITY_POLICY.replace(
    "style-src 'self'", f"style-src 'self' 'sha256-{_STYLE_HASH}'"
)

Json = dict[str, Any]


@router.get("/docs", response_class=HTMLResponse)
def reference(request: Request) -> HTMLResponse:
    """Every operation with its parameters, body and answer."""
    page = render(request.app.openapi())
    return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY})


def render(document: Json) -> str:
    """The OpenAPI document as one HTML page, operations grouped by their first tag."""
    info = document["info"]
    title = escape(f"{info['title']} {info['version']}")
    groups: dict[str, list[str]] = {}
    for path, item in document.get("paths", {}).items():
        for method in _METHODS:
            if method in item:
                tag = (item[method].get("tags") or ["other"])[0]
                groups.setdefault(tag, []).append(_operation(document, method, path, item[method]))
    body = "".join(f"<h2>{escape(tag)}</h2>{''.join(ops)}" for tag, ops in groups.items())
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style>"
        f"<h1>{title}</h1>{_prose(info.get('description', ''))}"
        f'{_authentication(document)}<p>For programs: <a href="openapi.json">openapi.json</a></p>'
        f"{body}</html>"
    )


def _prose(text: str) -> str:
    """Paragraphs, with what stands in backticks as code."""
    paragraphs = [part for part in re.split(r"\n\s*\n", text.strip()) if part]
    marked = [re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(part)) for part in paragraphs]
    return "".join(f"<p>{part}</p>" for part in marked)


def _authentication(document: Json) -> str:
    schemes = document.get("components", {}).get("securitySchemes", {})
    if not schemes:
        return ""
    rows = [
        (
            "Authorization: Bearer …" if scheme["type"] == "http" else f"{scheme.get('name')}: …",
            scheme.get("description", ""),
        )
        for scheme in schemes.values()
    ]
    listed = "".join(
        f"<tr><td><code>{escape(how)}</code><td>{escape(about)}" for how, about in rows
    )
    return f"<h2>Authentication</h2><table><tr><th>Header<th>What it is{listed}</table>"


def _operation(document: Json, method: str, path: str, operation: Json) -> str:
    parts = [_prose(operation.get("description", ""))]
    if "security" not in operation:
        parts.append("<p>Needs no key.</p>")
    if operation.get("parameters"):
        rows = "".join(_parameter(document, p) for p in operation["parameters"])
        parts.append(f"<table><tr><th>Parameter<th>In<th>Type<th>What it is{rows}</table>")
    parts += _content(document, "Body", operation.get("requestBody", {}))
    for status, response in operation.get("responses", {}).items():
        if status.startswith("2"):
            parts += _content(document, f"Answer {status}", response)
    return (
        f"<details><summary><b>{method.upper()}</b><code>{escape(path)}</code>"
        f"<span>{escape(operation.get('summary', ''))}</span></summary>"
        f"<div>{''.join(parts)}</div></details>"
    )


def _parameter(document: Json, parameter: Json) -> str:
    name = f"<code>{escape(parameter['name'])}</code>"
    shape = json.dumps(_shape(document, parameter.get("schema", {})), ensure_ascii=False).strip('"')
    about = parameter.get("description", "") or ("required" if parameter.get("required") else "")
    return f"<tr><td>{name}<td>{parameter['in']}<td>{escape(shape)}<td>{escape(about)}"


def _content(document: Json, label: str, holder: Json) -> list[str]:
    parts = []
    for media, content in holder.get("content", {}).items():
        shape = _shape(document, content.get("schema", {}))
        if shape not in ("any", {}):
            text = json.dumps(shape, indent=2, ensure_ascii=False)
            parts.append(f"<p>{escape(label)}, {escape(media)}</p><pre>{escape(text)}</pre>")
    return parts


def _shape(document: Json, schema: Json, depth: int = 0) -> Any:
    """A schema as an example-like value: objects by their fields, leaves by their type."""
    if depth > 8:
        return "…"
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return _shape(document, document["components"]["schemas"].get(name, {}), depth + 1)
    for many in ("anyOf", "oneOf", "allOf"):
        if many in schema:
            shapes = [_shape(document, each, depth + 1) for each in schema[many]]
            if all(isinstance(each, str) for each in shapes):
                return " or ".join(shapes)
            return next(each for each in shapes if not isinstance(each, str))
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if "properties" in schema:
        return {
            name + ("" if name in schema.get("required", ()) else "?"): _shape(
                document, each, depth + 1
            )
            for name, each in schema["properties"].items()
        }
    if schema.get("type") == "array":
        return [_shape(document, schema.get("items", {}), depth + 1)]
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return {"…": _shape(document, schema["additionalProperties"], depth + 1)}
    return schema.get("format") or schema.get("type") or "any"
