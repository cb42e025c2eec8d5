"""Words for `/openapi.json`: the few JSON schemas and parameters that many routes share."""

from __future__ import annotations

from arc.api.routes import Answer, Parameter, Schema

STRING: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}
TIMESTAMP: Schema = {"type": "string", "format": "date-time"}
ANYTHING: Schema = {}
BYTES: Schema = {"type": "string", "format": "binary"}


def obj(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    """A JSON object with these keys; others may appear in later versions."""
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": sorted(required)}


def array(items: Schema) -> Schema:
    """A JSON array."""
    return {"type": "array", "items": items}


def nullable(schema: Schema) -> Schema:
    """The schema, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def json_answer(about: str, schema: Schema) -> Answer:
    """An answer in JSON."""
    return Answer(about=about, content={"application/json": schema})


def empty_answer(about: str) -> Answer:
    """An answer without a body."""
    return Answer(about=about, content={})


ERROR = obj(
    {"success": {"type": "boolean", "const": False}, "error": STRING, "message": STRING, "code": STRING},
    {
        "refused_total": INTEGER,
        "refused": array(obj({"line": INTEGER, "reason": STRING, "text": STRING})),
        "written": INTEGER,
        "leader": nullable(obj({"name": STRING, "address": nullable(STRING)})),
    },
)
"""Every failure. ``error`` and ``message`` are the same sentence, ``code`` is for programs."""

DATABASE_NAME: Schema = {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_-]{0,63}$"}

DATABASE_HEADER = Parameter(
    name="x-arc-database", place="header", about="Database; beats `db` and `bucket`.", schema=DATABASE_NAME
)
