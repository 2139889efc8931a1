"""Values that fit a JSON schema: arguments of tool calls and answers in JSON."""

from typing import Any

Schema = dict[str, Any]
DEEPEST = 8
FORMATS = {
    "date": "2026-01-15",
    "time": "09:30:00Z",
    "date-time": "2026-01-15T09:30:00Z",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def instance(schema: object, text: str, root: Schema | None = None, depth: int = 0) -> Any:
    """A plain value of the schema; strings are made of `text`. Deterministic."""
    if not isinstance(schema, dict) or depth > DEEPEST:
        return text
    root = root or schema
    if "$ref" in schema:
        return instance(_resolve(str(schema["$ref"]), root), text, root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for union in ("anyOf", "oneOf", "allOf"):
        if schema.get(union):
            return instance(schema[union][0], text, root, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    if kind == "object":
        properties = schema.get("properties") or {}
        return {name: instance(part, text, root, depth + 1) for name, part in properties.items()}
    if kind == "array":
        count = max(1, int(schema.get("minItems", 1)))
        return [instance(schema.get("items", {}), text, root, depth + 1)] * count
    return _scalar(schema, str(kind), text)


def _scalar(schema: Schema, kind: str, text: str) -> Any:
    if kind == "string":
        return FORMATS.get(schema.get("format", ""), text[: schema.get("maxLength", 200)])
    if kind in ("integer", "number"):
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
        value = min(low, schema.get("maximum", low))
        return int(value) if kind == "integer" else float(value)
    return {"boolean": True, "null": None}.get(kind, text)


def _resolve(reference: str, root: Schema) -> Any:
    target: Any = root
    for step in reference.removeprefix("#/").split("/"):
        target = target.get(step, {}) if isinstance(target, dict) else {}
    return target
