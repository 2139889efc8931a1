"""Request bodies and queries against a table of fields, refused in FastAPI's words (422)."""

from typing import Any
from urllib.parse import parse_qsl

import orjson

from sandbox.litellm.errors import Refusal, invalid

Fields = dict[str, str]
CONTAINERS: dict[str, tuple[type, str]] = {
    "str": (str, "Input should be a valid string"),
    "list": (list, "Input should be a valid list"),
    "dict": (dict, "Input should be a valid dictionary"),
}
TRUE = {"true", "1", "yes", "on", "t", "y"}
FALSE = {"false", "0", "no", "off", "f", "n"}


def parse_json(body: bytes) -> Any:
    """Raises Refusal: 422 for what is no JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid("json_invalid", ["body", error.pos], "JSON decode error") from None


def parse_object(body: bytes, fields: Fields, required: tuple[str, ...] = ()) -> dict[str, Any]:
    """A JSON object, its known fields converted and unknown ones dropped. Raises Refusal.

    Explicit nulls stay: at LiteLLM they clear a field, where one left out keeps it.
    """
    value = parse_json(body) if body else None
    if not isinstance(value, dict):
        if value is None:
            raise invalid("missing", ["body"], "Field required")
        raise invalid(
            "model_attributes_type",
            ["body"],
            "Input should be a valid dictionary or object to extract fields from",
        )
    return check_object(value, fields, required, ["body"])


def check_object(
    value: dict[str, Any], fields: Fields, required: tuple[str, ...], loc: list[str | int]
) -> dict[str, Any]:
    missing = [name for name in required if name not in value]
    if missing:
        raise invalid("missing", [*loc, missing[0]], "Field required")
    checked = {}
    for name, kind in fields.items():
        if name in value:
            given = value[name]
            checked[name] = None if given is None else _convert(given, kind, [*loc, name])
    return checked


def parse_query(query: bytes) -> dict[str, str]:
    return dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))


def query_int(
    query: dict[str, str], name: str, default: int, *, low: int = 1, high: int | None = None
) -> int:
    """Raises Refusal."""
    if name not in query:
        return default
    loc: list[str | int] = ["query", name]
    value: int = _convert(query[name], "int", loc)
    if value < low:
        text = f"Input should be greater than or equal to {low}"
        raise invalid("greater_than_equal", loc, text)
    if high is not None and value > high:
        raise invalid("less_than_equal", loc, f"Input should be less than or equal to {high}")
    return value


def _convert(value: Any, kind: str, loc: list[str | int]) -> Any:
    if kind in ("int", "limit"):
        number = _integer(value, loc)
        if kind == "limit" and number < 0:
            # 1.109 refuses what 1.106 still stores; the stricter answer finds our mistakes.
            text = "Input should be greater than or equal to 0"
            raise invalid("greater_than_equal", loc, text)
        return number
    if kind == "float":
        return _float(value, loc)
    if kind == "bool":
        return _boolean(value, loc)
    expected, text = CONTAINERS[kind]
    if not isinstance(value, expected):
        raise invalid(f"{kind if kind != 'str' else 'string'}_type", loc, text)
    return value


def _integer(value: Any, loc: list[str | int]) -> int:
    text = "Input should be a valid integer"
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            parsing = f"{text}, unable to parse string as an integer"
            raise invalid("int_parsing", loc, parsing) from None
    if isinstance(value, float):
        if not value.is_integer():
            fraction = f"{text}, got a number with a fractional part"
            raise invalid("int_from_float", loc, fraction)
        return int(value)
    if not isinstance(value, int):
        raise invalid("int_type", loc, text)
    return int(value)


def _float(value: Any, loc: list[str | int]) -> float:
    text = "Input should be a valid number"
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            parsing = f"{text}, unable to parse string as a number"
            raise invalid("float_parsing", loc, parsing) from None
    if not isinstance(value, int | float):
        raise invalid("float_type", loc, text)
    return float(value)


def _boolean(value: Any, loc: list[str | int]) -> bool:
    text = "Input should be a valid boolean"
    if isinstance(value, bool):
        return value
    word = str(value).lower() if isinstance(value, str | int) else ""
    if word in TRUE or word in FALSE:
        return word in TRUE
    raise _unparsed_boolean(value, loc, text)


def _unparsed_boolean(value: Any, loc: list[str | int], text: str) -> Refusal:
    if isinstance(value, str | int | float):
        parsing = f"{text}, unable to interpret input"
        return invalid("bool_parsing", loc, parsing)
    return invalid("bool_type", loc, text)
