"""Request parameters: form decoding, and checking them as strictly as Stripe does.

What an endpoint takes is not written down here: it is read from the official client's own parameter
types (`stripe.params`), so a parameter that the pinned API version does not know is refused, with
Stripe's words, before it can be relied on.
"""

import importlib
import inspect
import re
import sys
import types
from collections.abc import Callable
from functools import cache
from typing import Any, ForwardRef, Literal, NotRequired, Required, Union, get_args, get_origin
from urllib.parse import parse_qsl

from stripe._request_options import RequestOptions
from typing_extensions import is_typeddict

from sandbox.stripe.errors import InvalidRequest

Json = dict[str, Any]
Check = Callable[[Any, str], Any]

_KEYS = re.compile(r"\[([^\]]*)\]")
_OPTIONS = set(RequestOptions.__annotations__)


# --- decoding


def decode_form(text: str) -> Json:
    """`a[b][0]=x&a[b][1]=y` → `{"a": {"b": ["x", "y"]}}`; all leaves are strings."""
    root: Json = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        head = name.split("[", 1)[0]
        _put(root, [head, *_KEYS.findall(name[len(head) :])], value)
    return {name: _lists(value) for name, value in root.items()}


def _put(node: Json, keys: list[str], value: str) -> None:
    for key in keys[:-1]:
        child = node.setdefault(key or str(len(node)), {})
        if not isinstance(child, dict):
            raise InvalidRequest(f"Invalid hash: {keys[0]}", param=keys[0])
        node = child
    node[keys[-1] or str(len(node))] = value


def _lists(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    children = {key: _lists(value) for key, value in node.items()}
    if children and all(key.isdigit() for key in children):
        return [children[key] for key in sorted(children, key=int)]
    return children


# --- checking


@cache
def spec(name: str) -> Check:
    """The check for an endpoint's parameters, by the client's name for them: `CustomerCreateParams`
    or, in a sub-package, `checkout.SessionCreateParams`. The word in front of "Params" decides."""
    package, _, short = name.rpartition(".")
    words = re.findall(r"[A-Z][a-z]*", short)
    module = "_".join(word.lower() for word in words)
    place = f"stripe.params.{package}." if package else "stripe.params."
    return _fields(getattr(importlib.import_module(f"{place}_{module}"), short))


def nothing(params: Any, path: str = "") -> Any:
    """For endpoints without parameters beyond `expand`."""
    return _hash({"expand": (_list(_text), False)}, params, path)


def _fields(declared: type) -> Check:
    module = sys.modules[declared.__module__]
    # The client's request options (api_key, idempotency_key, …) travel as headers.
    options = RequestOptions in getattr(declared, "__orig_bases__", ())
    checks: dict[str, tuple[Check, bool]] = {}
    for name, annotation in inspect.get_annotations(declared).items():
        if name in _OPTIONS and options:
            continue
        marker: Any = get_origin(annotation)
        required = marker is not NotRequired
        wrapped = marker in (NotRequired, Required)
        inner = get_args(annotation)[0] if wrapped else annotation
        checks[name.rstrip("_")] = (_lazy(inner, module), required)
    return lambda value, path: _hash(checks, value, path)


def _lazy(annotation: Any, module: types.ModuleType) -> Check:
    """Types refer to each other by name and some are deep: resolve one when it is first used."""
    made: list[Check] = []

    def check(value: Any, path: str) -> Any:
        if not made:
            made.append(_check_of(annotation, module))
        return made[0](value, path)

    return check


def _check_of(annotation: Any, module: types.ModuleType) -> Check:
    if isinstance(annotation, ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        # The text is the installed client's own annotation.
        return _check_of(eval(annotation, vars(module)), module)  # noqa: S307
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return _union(get_args(annotation), module)
    if origin is Literal:
        return _literal(get_args(annotation))
    if origin is list:
        return _list(_lazy(get_args(annotation)[0], module))
    if origin is dict:
        return _mapping(_lazy(get_args(annotation)[1], module))
    if is_typeddict(annotation):
        return _fields(annotation)
    return _SIMPLE.get(annotation, _text)


def _union(members: tuple[Any, ...], module: types.ModuleType) -> Check:
    """`Literal[""]` among the members means that an empty value unsets; `str` beside literals only
    says that the client lets future values through, so the literals are what the API takes."""
    words: list[Any] = []
    others: list[Any] = []
    for member in members:
        target = member.__forward_arg__ if isinstance(member, ForwardRef) else member
        if isinstance(target, str):
            target = eval(target, vars(module))  # noqa: S307
        if get_origin(target) is Literal:
            words.extend(get_args(target))
        elif "UntypedStripeObject" not in str(target):
            others.append(target)
    unsettable = "" in words
    words = [word for word in words if word != ""]
    if words and others == [str]:
        others = []
    checks = [_check_of(other, module) for other in others]

    def check(value: Any, path: str) -> Any:
        if value == "" and unsettable:
            return None
        if value in words:
            return value
        if words and not checks:
            return _literal(tuple(words))(value, path)
        wants_scalar = not isinstance(value, (dict, list))
        fitting = [c for c, o in zip(checks, others, strict=True) if (o in _SIMPLE) == wants_scalar]
        return (fitting or checks)[0](value, path)

    return check


def _hash(checks: dict[str, tuple[Check, bool]], value: Any, path: str) -> Json:
    if not isinstance(value, dict):
        raise InvalidRequest("Invalid object", param=path)
    checked: Json = {}
    for name, given in value.items():
        where = f"{path}[{name}]" if path else name
        if name not in checks:
            raise InvalidRequest(
                f"Received unknown parameter: {where}", code="parameter_unknown", param=where
            )
        checked[name] = checks[name][0](given, where)
    for name, (_, required) in checks.items():
        if required and name not in value:
            where = f"{path}[{name}]" if path else name
            raise InvalidRequest(
                f"Missing required param: {where}.", code="parameter_missing", param=where
            )
    return checked


def _list(check: Check) -> Check:
    def checked(value: Any, path: str) -> Any:
        if value == "":
            return []
        if not isinstance(value, list):
            raise InvalidRequest("Invalid array", param=path)
        return [check(child, f"{path}[{index}]") for index, child in enumerate(value)]

    return checked


def _mapping(check: Check) -> Check:
    def checked(value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            raise InvalidRequest("Invalid object", param=path)
        # An empty value takes its key out (https://docs.stripe.com/api/metadata).
        return {
            name: None if child == "" else check(child, f"{path}[{name}]")
            for name, child in value.items()
        }

    return checked


def _literal(words: tuple[Any, ...]) -> Check:
    def checked(value: Any, path: str) -> Any:
        if value in words:
            return value
        if value in ("true", "false") and (value == "true") in words:
            return value == "true"
        listed = ", ".join(map(str, words[:-1])) + (" or " if len(words) > 1 else "")
        raise InvalidRequest(f"Invalid {path}: must be one of {listed}{words[-1]}", param=path)

    return checked


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequest("Invalid string", param=path)
    if value == "":
        field = path.split("[", maxsplit=1)[0]
        raise InvalidRequest(
            f"You passed an empty string for '{path}'. We assume empty values are an attempt to "
            f"unset a parameter; however '{field}' cannot be unset. You should remove '{path}' "
            "from your request or supply a non-empty value.",
            code="parameter_invalid_empty",
            param=path,
        )
    return value


def _integer(value: Any, path: str) -> int:
    if not re.fullmatch(r"-?\d{1,18}", str(value)):
        raise InvalidRequest(
            f"Invalid integer: {value}", code="parameter_invalid_integer", param=path
        )
    return int(value)


def _number(value: Any, path: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InvalidRequest(f"Invalid decimal: {value}", param=path) from None


def _boolean(value: Any, path: str) -> bool:
    if value in ("true", "false", True, False):
        return value in ("true", True)
    raise InvalidRequest(f"Invalid boolean: {value}", param=path)


def _anything(value: Any, path: str) -> Any:
    return value


_SIMPLE: dict[Any, Check] = {
    str: _text,
    int: _integer,
    float: _number,
    bool: _boolean,
    Any: _anything,
    type(None): _anything,
}


def plain(params: Any) -> Any:
    """Values as Python callers write them, as the checks expect them: None unsets."""
    if isinstance(params, dict):
        return {name: plain(value) for name, value in params.items()}
    if isinstance(params, (list, tuple)):
        return [plain(value) for value in params]
    return "" if params is None else params


def encode_form(params: Any, path: str = "") -> list[tuple[str, str]]:
    """The other way round, for callers inside the process: plain values → form pairs."""
    pairs: list[tuple[str, str]] = []
    if isinstance(params, dict):
        for name, value in params.items():
            pairs += encode_form(value, f"{path}[{name}]" if path else name)
    elif isinstance(params, (list, tuple)):
        for index, value in enumerate(params):
            pairs += encode_form(value, f"{path}[{index}]")
    elif isinstance(params, bool):
        pairs.append((path, "true" if params else "false"))
    else:
        pairs.append((path, "" if params is None else str(params)))
    return pairs
