"""What the options of pipeline files say of themselves: the JSON Schema for editors, and the page of docs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from avatar_stream.running.config import PipelineFile

_HEAD = """# Options of pipeline files

Written by `avatar-stream check --options` from the classes of the options: change it there, at the field.
"""


def json_schema() -> dict[str, Any]:
    """The JSON Schema of pipeline files; made from the options of every stage there is."""
    schema = PipelineFile.model_json_schema() | {"title": "avatar_stream pipeline"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def options_page() -> str:
    """All options as Markdown: a table for the file's own keys, one for each section, one for each stage's type."""
    schema = json_schema()
    sections = [("The file", schema), *_sections(schema)]
    return _HEAD + "".join(f"\n## {title}\n\n{_table(section, schema)}" for title, section in sections)


def _sections(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, value in schema["properties"].items():
        variants = value.get("items", value).get("oneOf")
        if variants is None:
            section = _resolved(value, schema)
            if "properties" in section:
                yield f"`{name}`", section
            continue
        for variant in variants:
            if "properties" in variant:
                yield f"`{name}`: `{variant['title']}`", variant


def _table(section: dict[str, Any], schema: dict[str, Any]) -> str:
    lines = ["| key | default | what |", "|---|---|---|"]
    for name, value in section["properties"].items():
        if name == "type":
            continue
        default = f"`{json.dumps(value['default'])}`" if "default" in value else ""
        if name in section.get("required", ()):
            default = "needed"
        elif "properties" in _resolved(value, schema):
            default = "see below"
        what = " ".join(value.get("description", "").split())
        lines.append(f"| `{name}` | {default} | {what} |")
    return "\n".join(lines) + "\n" if len(lines) > 2 else "No options.\n"


def _resolved(value: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    # The section that a value is, or may be; itself where it is none.
    for variant in (value, *value.get("anyOf", ())):
        if "$ref" in variant:
            section: dict[str, Any] = schema["$defs"][variant["$ref"].rpartition("/")[2]]
            return section
    return value
