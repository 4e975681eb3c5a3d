"""The endpoints and their pydantic models -> an OpenAPI 3.1 description, and a page that shows it."""

import html
import json
import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from trtbert.serve.endpoints import Endpoint
from trtbert.version import __version__

_ERRORS = {
    "400": "The request is wrong; the message says how.",
    "401": "No API key, or a wrong one.",
    "404": "No such model or path.",
    "413": "Too many bytes, texts or tokens.",
    "429": "The queue is full; Retry-After says when to ask again.",
    "503": "Too many open requests, no answer in time, or the server is stopping; Retry-After says when to ask again.",
}
_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>trtbert: API</title><style>
body{{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}}
pre{{overflow:auto;border:1px solid #8888;border-radius:6px;padding:.8rem}}h2,h3{{overflow-wrap:anywhere}}code{{font-size:.95em}}
</style></head><body><h1>trtbert {version}: API</h1><p>As <a href="/openapi.json">openapi.json</a>.
<a href="/">Try a model</a>.</p>{sections}<h2>Schemas</h2>{schemas}</body></html>"""


def describe(endpoints: Sequence[Endpoint], models: Sequence[str], *, has_keys: bool) -> dict[str, Any]:
    """The description of a server of these models, as JSON's own types."""
    bodies: dict[type[BaseModel], JsonSchemaMode] = {endpoint.request: "validation" for endpoint in endpoints if endpoint.request}
    bodies |= {endpoint.response: "serialization" for endpoint in endpoints if endpoint.response}
    refs, definitions = models_json_schema(list(bodies.items()), ref_template="#/components/schemas/{model}")
    schemas = {body: refs[body, mode] for body, mode in bodies.items()}
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schemas, models)
        if endpoint.request and "model" in endpoint.request.model_fields:
            definitions["$defs"][endpoint.request.__name__]["properties"]["model"]["enum"] = sorted(models)
    security = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}} if has_keys else {}
    return {
        "openapi": "3.1.0",
        "info": {"title": "trtbert", "version": __version__, "description": "Answers of compiled encoders."},
        "paths": paths,
        "components": {"schemas": definitions.get("$defs", {}), **security},
        "security": [{"key": []}] if has_keys else [],
    }


def page(description: dict[str, Any]) -> str:
    """The description as HTML that needs nothing else."""
    sections = [
        f"<h2>{method.upper()} <code>{html.escape(path)}</code></h2><p>{html.escape(operation['summary'])}</p>{_bodies(operation)}"
        for path, operations in description["paths"].items()
        for method, operation in operations.items()
    ]
    schemas = [
        f'<h3 id="{html.escape(name)}">{html.escape(name)}</h3><pre>{html.escape(json.dumps(schema, indent=2))}</pre>'
        for name, schema in description["components"]["schemas"].items()
    ]
    return _PAGE.format(version=__version__, sections="".join(sections), schemas="".join(schemas))


def _operation(endpoint: Endpoint, schemas: dict[Any, Any], models: Sequence[str]) -> dict[str, Any]:
    content = {"application/json": {"schema": schemas[endpoint.response]}} if endpoint.response else {}
    operation: dict[str, Any] = {
        "summary": (endpoint.answer.__doc__ or "").strip(),
        "operationId": re.sub(r"\W+", "_", f"{endpoint.method} {endpoint.path}").strip("_").lower(),
        "responses": {
            "200": {"description": "Done.", "content": content},
            **{status: {"description": text} for status, text in _ERRORS.items()},
        },
    }
    if parameters := re.findall(r"{(\w+)}", endpoint.path):
        known = {"name": sorted(models), "version": ["1"]}
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "enum": known[name]}} for name in parameters
        ]
    if endpoint.request:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schemas[endpoint.request]}}}
    if endpoint.is_public:
        operation["security"] = []
    return operation


def _bodies(operation: dict[str, Any]) -> str:
    contents = (("takes", operation.get("requestBody", {})), ("gives", operation["responses"]["200"]))
    lines = []
    for word, body in contents:
        reference = body.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "")
        if name := html.escape(reference.rpartition("/")[2]):
            lines.append(f'{word} <a href="#{name}">{name}</a>')
    return f"<p>{', '.join(lines)}</p>" if lines else ""
