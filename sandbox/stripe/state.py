"""Every object the stand-in holds, in memory, with indexes and an undo journal.

Fields whose name starts with an underscore are ours (retry counters, a card's behaviour) and never
shown. Objects are plain dicts and keep their identity: undoing restores the contents in place.
"""

import marshal
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

# Look-ups that must not scan: (field, …) by kind of object.
INDEXED = {
    "charge": ("customer", "payment_intent"),
    "checkout.session": ("customer", "subscription", "payment_intent"),
    "credit_note": ("invoice",),
    "dispute": ("charge",),
    "invoice": ("customer", "_subscription"),
    "invoice_payment": ("invoice", "_intent"),
    "invoiceitem": ("customer",),
    "payment_intent": ("customer",),
    "payment_method": ("customer",),
    "price": ("product", "lookup_key"),
    "promotion_code": ("code",),
    "refund": ("charge", "payment_intent"),
    "subscription": ("customer",),
    "subscription_schedule": ("customer",),
}
# Kinds whose ids callers may choose: they get a name space of their own.
NAMED_BY_CALLER = ("coupon", "product")


def key_of(kind: str, id: str) -> str:
    return f"{kind}/{id}" if kind in NAMED_BY_CALLER else id


class State:
    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}
        self._order: dict[str, list[str]] = {}
        self._index: dict[tuple[str, str, str], list[str]] = {}
        self._entries: dict[str, tuple[tuple[str, str, str], ...]] = {}
        self._next = 1
        self._journal: list[tuple[str, str, Any]] = []
        self._touched: set[str] = set()

    # --- reading

    def find(self, kind: str, id: str) -> Json | None:
        found = self.objects.get(key_of(kind, id))
        return found if found is not None and found["object"] == kind else None

    def of_kind(self, kind: str) -> list[str]:
        """Keys of all objects of a kind, oldest first. Do not change the list."""
        return self._order.get(kind, [])

    def where(self, kind: str, field: str, value: str | None) -> list[str]:
        """Keys of the objects whose indexed `field` is `value`, oldest first."""
        return self._index.get((kind, field, value), []) if value else []

    def each(self, kind: str, field: str, value: str | None) -> Iterator[Json]:
        return (self.objects[key] for key in list(self.where(kind, field, value)))

    def position(self, keys: list[str], key: str) -> int:
        """Where `key` is, or would be, in a list of keys ordered by age."""
        return bisect_left(keys, self.objects[key]["_seq"], key=lambda k: self.objects[k]["_seq"])

    # --- changing

    def add(self, obj: Json) -> None:
        obj["_seq"] = self._next
        self._next += 1
        self.place(obj)
        key = key_of(obj["object"], obj["id"])
        self._journal.append(("add", key, None))
        self._touched.add(key)

    def place(self, obj: Json) -> None:
        """Take in an object that has its place in the order already."""
        key = key_of(obj["object"], obj["id"])
        self.objects[key] = obj
        self._next = max(self._next, obj["_seq"] + 1)
        self._insert(self._order.setdefault(obj["object"], []), key)
        self.reindex(obj)

    def edit(self, obj: Json) -> Json:
        """Announce that `obj` is about to change; gives it back."""
        key = key_of(obj["object"], obj["id"])
        if key not in self._touched:
            self._touched.add(key)
            self._journal.append(("edit", key, marshal.dumps(obj)))
        return obj

    def remove(self, obj: Json) -> None:
        key = key_of(obj["object"], obj["id"])
        self._take_out(key)
        self._journal.append(("remove", key, obj))

    def reindex(self, obj: Json) -> None:
        """Call after changing an indexed field of an object."""
        kind, key = obj["object"], key_of(obj["object"], obj["id"])
        wanted = tuple(
            (kind, field, obj[field]) for field in INDEXED.get(kind, ()) if obj.get(field)
        )
        had = self._entries.get(key, ())
        if wanted == had:
            return
        for entry in had:
            self._index[entry].remove(key)
        for entry in wanted:
            self._insert(self._index.setdefault(entry, []), key)
        self._entries[key] = wanted

    # --- undoing

    def savepoint(self) -> int:
        self._touched = set()
        return len(self._journal)

    def rollback(self, mark: int = 0) -> None:
        while len(self._journal) > mark:
            change, key, before = self._journal.pop()
            if change == "add":
                self._take_out(key)
            elif change == "remove":
                self.place(before)
            else:
                obj = self.objects[key]
                obj.clear()
                obj.update(marshal.loads(before))  # noqa: S302  our own bytes, never stored
                self.reindex(obj)
        self._touched = set()

    def commit(self) -> list[str]:
        """Forget how to undo; gives the keys that changed, appeared or went, each once."""
        changed = list(dict.fromkeys(key for _, key, _ in self._journal))
        self._journal.clear()
        self._touched = set()
        return changed

    # --- inside

    def _insert(self, keys: list[str], key: str) -> None:
        seq = self.objects[key]["_seq"]
        if not keys or self.objects[keys[-1]]["_seq"] < seq:
            keys.append(key)
        else:
            keys.insert(bisect_left(keys, seq, key=lambda k: self.objects[k]["_seq"]), key)

    def _take_out(self, key: str) -> None:
        obj = self.objects[key]
        self._order[obj["object"]].remove(key)
        for entry in self._entries.pop(key, ()):
            self._index[entry].remove(key)
        del self.objects[key]
