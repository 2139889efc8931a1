"""Stripe's cursor pagination: newest first, `starting_after` and `ending_before` are object ids."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from sandbox.stripe.errors import InvalidRequest, Missing
from sandbox.stripe.rendering import render
from sandbox.stripe.shapes import listing
from sandbox.stripe.state import key_of

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]
Wanted = Callable[[Json], bool]

DEFAULT_LIMIT, MAX_LIMIT = 10, 100


def limit_of(params: Json) -> int:
    limit: int = params.get("limit", DEFAULT_LIMIT)
    if not 1 <= limit <= MAX_LIMIT:
        side, bound = ("greater", 1) if limit < 1 else ("less", MAX_LIMIT)
        raise InvalidRequest(
            f"This value must be {side} than or equal to {bound}.",
            code="parameter_invalid_integer",
            param="limit",
        )
    return limit


def within(moment: int, bounds: Any) -> bool:
    """Does `moment` fit a `created`-style filter: a number, or any of gt, gte, lt, lte?"""
    if bounds is None:
        return True
    if isinstance(bounds, int):
        return moment == bounds
    above = max(bounds.get("gt", moment - 1) + 1, bounds.get("gte", moment))
    below = min(bounds.get("lt", moment + 1) - 1, bounds.get("lte", moment))
    return bool(above <= moment <= below)


def page(
    world: "World",
    kind: str,
    params: Json,
    url: str,
    *,
    keys: list[str] | None = None,
    wanted: Wanted = lambda obj: True,
    noun: str | None = None,
) -> Json:
    """One page of a kind of object (or of `keys`, oldest first) as Stripe's list shape."""
    ordered = world.state.of_kind(kind) if keys is None else keys
    limit = limit_of(params)
    state = world.state

    def fits(obj: Json) -> bool:
        return within(obj.get("created", 0), params.get("created")) and wanted(obj)

    def cursor(param: str) -> int:
        key = key_of(kind, params[param])
        if key not in state.objects:
            raise Missing.thing(noun or kind.replace("_", " "), params[param], param)
        return state.position(ordered, key)

    def at(positions: range) -> Iterator[Json]:
        return (state.objects[ordered[position]] for position in positions)

    backwards = "ending_before" in params
    if backwards:
        start = cursor("ending_before") + 1
        candidates = at(range(start, len(ordered)))
    else:
        end = cursor("starting_after") if "starting_after" in params else len(ordered)
        candidates = at(range(end - 1, -1, -1))
    found = list(islice(filter(fits, candidates), limit + 1))
    shown = found[:limit][::-1] if backwards else found[:limit]
    return listing([render(world, obj) for obj in shown], url, has_more=len(found) > limit)


def list_page(items: list[Json], params: Json, url: str) -> Json:
    """One page of objects that are at hand, already rendered and in the order to show."""
    limit, ids = limit_of(params), [item["id"] for item in items]
    start, end = 0, len(items)
    if "starting_after" in params and params["starting_after"] in ids:
        start = ids.index(params["starting_after"]) + 1
    if "ending_before" in params and params["ending_before"] in ids:
        end = ids.index(params["ending_before"])
        first = max(start, end - limit)
        return listing(items[first:end], url, has_more=first > start)
    return listing(items[start:end][:limit], url, has_more=end - start > limit)
