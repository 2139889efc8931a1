"""Metadata: merged key by key; an empty value takes a key out, an empty whole takes all out."""

from typing import Any

from sandbox.stripe.errors import InvalidRequest

Json = dict[str, Any]

MAX_KEYS, MAX_KEY, MAX_VALUE = 50, 40, 500


def merged(current: Json | None, params: Json) -> Json:
    """What `metadata` becomes under these request parameters."""
    if "metadata" not in params:
        return dict(current or {})
    if params["metadata"] is None:
        return {}
    result = {**(current or {}), **params["metadata"]}
    result = {name: value for name, value in result.items() if value is not None}
    if len(result) > MAX_KEYS:
        raise InvalidRequest("You can have up to 50 keys.", param="metadata")
    for name, value in result.items():
        if len(name) > MAX_KEY or len(value) > MAX_VALUE:
            raise InvalidRequest(
                f"Metadata keys can be up to {MAX_KEY} and values up to {MAX_VALUE} characters.",
                param=f"metadata[{name}]",
            )
    return result
