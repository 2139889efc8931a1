"""The table of API addresses. Resource modules put their handlers in with `@route`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from sandbox.stripe import params as parameters
from sandbox.stripe.errors import Missing

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]
# (world, checked parameters, ids from the path …) → what the API answers, rendered
Handler = Callable[..., Json]


class Route(NamedTuple):
    handler: Handler
    params: str | None  # the client's name of the parameter type, or None for no parameters
    transaction: bool  # False: the handler looks after its own


# By method, number of steps and the step after /v1, so that few patterns are left to compare.
_TABLE: dict[tuple[str, int, str], list[tuple[tuple[str, ...], Route]]] = {}


def route(
    method: str, path: str, params: str | None = None, *, transaction: bool = True
) -> Callable[[Handler], Handler]:
    steps = tuple(path.strip("/").split("/"))

    def put(handler: Handler) -> Handler:
        rows = _TABLE.setdefault((method, len(steps), steps[1]), [])
        rows.append((steps, Route(handler, params, transaction and method != "GET")))
        rows.sort(key=lambda row: sum(step.startswith("{") for step in row[0]))
        return handler

    return put


def match(method: str, path: str) -> tuple[Route, list[str]]:
    steps = path.strip("/").split("/")
    resource = steps[1] if len(steps) > 1 else ""
    for pattern, found in _TABLE.get((method, len(steps), resource), ()):
        ids: list[str] = []
        for want, got in zip(pattern, steps, strict=True):
            if want[0] == "{":
                ids.append(got)
            elif want != got:
                break
        else:
            return found, ids
    raise Missing(
        f"Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs or we "
        "can help at https://support.stripe.com/."
    )


def call(world: "World", found: Route, ids: list[str], given: Json) -> Json:
    """Check the parameters and run the handler, in a transaction where it has one."""
    check = parameters.spec(found.params) if found.params else parameters.nothing
    checked = check(given, "")
    checked.pop("expand", None)
    if not found.transaction:
        return found.handler(world, checked, *ids)
    with world.transaction():
        return found.handler(world, checked, *ids)
