"""The OpenAPI document as one page for people: no script, nothing fetched from elsewhere."""

import html
from collections.abc import Iterator
from typing import Any

import orjson

STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 2.5rem } code, pre { font: 14px/1.45 ui-monospace, monospace }
article { border-top: 1px solid #8886; padding: .5rem 0 1rem } article h3 { margin: .5rem 0 }
.method { display: inline-block; min-width: 4.5rem } table { border-collapse: collapse }
td, th { text-align: left; vertical-align: top; padding: .2rem 1rem .2rem 0 }
pre { overflow-x: auto; background: #8881; padding: .75rem }
"""


def page(document: dict[str, Any]) -> bytes:
    """The whole page, UTF-8."""
    title = html.escape(f"{document['info']['title']} {document['info']['version']}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body><h1>{title}</h1>'
        '<p>For machines: <a href="/openapi.json">openapi.json</a>. Errors are '
        "<code>application/problem+json</code>; their codes are listed by status.</p>"
        f"{''.join(_rooms(document))}<h2>Shapes</h2>{''.join(_shapes(document))}</body></html>"
    ).encode()


def _rooms(document: dict[str, Any]) -> Iterator[str]:
    for tag in document["tags"]:
        yield f"<h2>{html.escape(tag['name'])}</h2>"
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if tag["name"] in operation["tags"]:
                    yield _operation(method, path, operation)


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = [
        *(
            (f"{each['in']} <code>{html.escape(each['name'])}</code>", _schema(each["schema"]))
            for each in operation["parameters"]
        ),
        *([("body", _content(operation["requestBody"]))] if "requestBody" in operation else []),
        *(
            (status, f"{_text(response['description'])} {_content(response)}")
            for status, response in operation["responses"].items()
        ),
    ]
    ticket = " Needs a ticket in <code>X-Waiting-Token</code>." if "security" in operation else ""
    cells = "".join(f"<tr><th>{name}</th><td>{told}</td></tr>" for name, told in rows)
    return (
        f'<article id="{html.escape(operation["operationId"])}"><h3><code><span class="method">{method.upper()}</span> '
        f"{html.escape(path)}</code></h3><p>{_text(operation['summary'])}.{ticket}</p><table>{cells}</table></article>"
    )


def _shapes(document: dict[str, Any]) -> Iterator[str]:
    for name, schema in sorted(document["components"]["schemas"].items()):
        shown = html.escape(orjson.dumps(schema, option=orjson.OPT_INDENT_2).decode())
        called = html.escape(name)
        yield f'<details id="shape-{called}"><summary><code>{called}</code></summary><pre>{shown}</pre></details>'


def _content(holder: dict[str, Any]) -> str:
    schemas = [each["schema"] for each in holder.get("content", {}).values()]
    return " ".join(_schema(schema) for schema in schemas)


def _schema(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = html.escape(schema["$ref"].rsplit("/", 1)[-1])
        return f'<a href="#shape-{name}">{name}</a>'
    return f"<code>{html.escape(str(schema.get('type', 'any')))}</code>"


def _text(text: str) -> str:
    """Text with `code` in backticks."""
    parts = html.escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))
