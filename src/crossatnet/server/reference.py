"""The API's description as one plain page: no script, nothing from another host."""

from html import escape
from typing import Any


def reference_page(openapi: dict[str, Any]) -> str:
    """HTML of an OpenAPI description: each route with its parameters and answers."""
    sections = "".join(
        _operation(method, path, operation)
        for path, operations in openapi["paths"].items()
        for method, operation in operations.items()
    )
    title = escape(openapi["info"]["title"])
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/plain.css"></head>'
        f"<body><main><h1>{title}</h1><p>{escape(openapi['info']['description'])}</p>"
        f'<p>All of it, with every field: <a href="/openapi.json">openapi.json</a></p>{sections}</main></body></html>'
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parameters = "".join(
        f"<li><code>{escape(each['name'])}</code> ({escape(each['in'])}) {escape(each.get('description', ''))}</li>"
        for each in operation.get("parameters", ())
    )
    bodies = ", ".join(f"<code>{escape(kind)}</code>" for kind in operation.get("requestBody", {}).get("content", ()))
    answers = "".join(
        f"<li><code>{escape(status)}</code> {escape(answer['description'])}</li>"
        for status, answer in sorted(operation["responses"].items())
    )
    return (
        f"<section><h2><code>{method.upper()} {escape(path)}</code></h2>"
        f"<p>{escape(operation.get('description', ''))}</p>"
        + (f"<h3>Parameters</h3><ul>{parameters}</ul>" if parameters else "")
        + (f"<h3>Body</h3><p>{bodies}</p>" if bodies else "")
        + f"<h3>Answers</h3><ul>{answers}</ul></section>"
    )
