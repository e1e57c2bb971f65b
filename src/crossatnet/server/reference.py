"""The API's description as one plain page: no script, nothing from another host."""

import json
from collections.abc import Collection
from html import escape
from typing import Any


def reference_page(openapi: dict[str, Any]) -> str:
    """HTML of an OpenAPI description: each route with its parameters, body and answers."""
    schemas = openapi.get("components", {}).get("schemas", {})
    sections = "".join(
        _operation(method, path, operation, schemas)
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


def _operation(method: str, path: str, operation: dict[str, Any], schemas: dict[str, Any]) -> str:
    parameters = "".join(
        f"<li><code>{escape(each['name'])}</code> ({escape(each['in'])}) {escape(each.get('description', ''))}</li>"
        for each in operation.get("parameters", ())
    )
    content = operation.get("requestBody", {}).get("content", {})
    bodies = ", ".join(f"<code>{escape(kind)}</code>" for kind in content)
    fields = _fields(content.get("application/json", {}).get("schema", {}), schemas)
    answers = "".join(
        f"<li><code>{escape(status)}</code> {escape(answer['description'])}</li>"
        for status, answer in sorted(operation["responses"].items())
    )
    return (
        f"<section><h2><code>{method.upper()} {escape(path)}</code></h2>"
        f"<p>{escape(operation.get('description', ''))}</p>"
        + (f"<h3>Parameters</h3><ul>{parameters}</ul>" if parameters else "")
        + (f"<h3>Body</h3><p>{bodies}</p>{fields}" if bodies else "")
        + f"<h3>Answers</h3><ul>{answers}</ul></section>"
    )


def _fields(schema: dict[str, Any], schemas: dict[str, Any]) -> str:
    """The fields of a JSON body, and an example; "" if the schema has none."""
    known = schemas.get(schema.get("$ref", "").rpartition("/")[2], schema)
    required = known.get("required", ())
    fields = "".join(
        f"<li><code>{escape(name)}</code>: {escape(_type(field))}, {_need(name, field, required)}. "
        f"{escape(field.get('description', ''))}</li>"
        for name, field in known.get("properties", {}).items()
    )
    example = {name: field["examples"][0] for name, field in known.get("properties", {}).items() if "examples" in field}
    return (f"<p>{escape(known.get('description', ''))}</p><ul>{fields}</ul>" if fields else "") + (
        f"<p>Such as <code>{escape(json.dumps(example))}</code></p>" if example else ""
    )


def _need(name: str, field: dict[str, Any], required: Collection[str]) -> str:
    return "required" if name in required else f"<code>{escape(json.dumps(field.get('default')))}</code> if left out"


def _type(field: dict[str, Any]) -> str:
    """A field's type in words, with its bounds if it is a number."""
    if "enum" in field:
        return " or ".join(json.dumps(value) for value in field["enum"])
    if "anyOf" in field:
        return " or ".join(_type(each) for each in field["anyOf"])
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    if "prefixItems" in field:
        return "[" + ", ".join(each["type"] for each in field["prefixItems"]) + "]"
    if field["type"] == "array":
        return f"list of {_type(field['items'])}"
    bounds = f" {field['minimum']:,.0f} to {field['maximum']:,.0f}" if {"minimum", "maximum"} <= field.keys() else ""
    return f"{field.get('format', field['type'])}{bounds}"
