"""The OpenAPI document: what every operation has in common."""

from typing import Any

ERROR_SCHEMA = {
    "type": "object",
    "description": "The one error shape. `code` is stable, one per cause.",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["type", "code", "message", "param"],
            "additionalProperties": True,
            "properties": {
                "type": {"type": "string", "examples": ["invalid_request_error"]},
                "code": {"type": "string", "examples": ["invalid_request"]},
                "message": {"type": "string", "description": "For people; may change."},
                "param": {
                    "type": ["string", "null"],
                    "description": "The request field at fault.",
                },
            },
        }
    },
}


def add_errors(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """drf-spectacular postprocessing hook: every operation may answer with the error shape."""
    result.setdefault("components", {}).setdefault("schemas", {})["Error"] = ERROR_SCHEMA
    for path in result.get("paths", {}).values():
        for operation in path.values():
            operation["responses"].setdefault(
                "default",
                {
                    "description": "An error.",
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/Error"}}
                    },
                },
            )
    return result
