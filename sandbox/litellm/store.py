"""Everything the gateway knows, in memory, with the journal behind it."""

import time
from typing import Any, TypeVar

from sandbox.litellm.records import AccessGroup, Budget, Key, Team, User
from sandbox.litellm.spend import SpendLog
from sandbox.litellm.views import View
from sandbox.state import Journal

Record = TypeVar("Record", Key, Budget, User, Team, AccessGroup)


class Store:
    """Records by id. Whoever changes one calls the matching `save_…`.

    Management calls commit before they answer. Spend is committed a moment later.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.keys: dict[str, Key] = _load(journal, "key", Key)
        self.deleted: dict[str, Key] = _load(journal, "deleted", Key)
        self.budgets: dict[str, Budget] = _load(journal, "budget", Budget)
        self.users: dict[str, User] = _load(journal, "user", User)
        self.teams: dict[str, Team] = _load(journal, "team", Team)
        self.groups: dict[str, AccessGroup] = _load(journal, "group", AccessGroup)
        self.spend = SpendLog(journal)
        # What a key may do now, worked out when it is next used; see views.py.
        self.views: dict[str, View] = {}
        self.tokens_by_alias: dict[str, dict[str, None]] = {}
        self.tokens_by_user: dict[str, dict[str, None]] = {}
        self.tokens_by_team: dict[str, dict[str, None]] = {}
        self.newest_first: list[Key] | None = None
        for key in self.keys.values():
            self._index(key)

    def add_key(self, key: Key) -> None:
        self.keys[key.token] = key
        self._index(key)
        self.newest_first = None
        self.save_key(key)

    def save_key(self, key: Key) -> None:
        self.views.pop(key.token, None)
        self.journal.put("key", key.token, lambda: key)
        self.journal.commit()

    def save_spend(self, key: Key) -> None:
        """Note spend, which many requests add to: journalled, but not one by one."""
        self.journal.put("key", key.token, lambda: key)

    def rename_key(self, key: Key, alias: str | None) -> None:
        self._unindex(key)
        key.key_alias = alias
        self._index(key)

    def move_key(self, key: Key, *, user_id: str | None, team_id: str | None) -> None:
        """Give the key to another user or team."""
        self._unindex(key)
        key.user_id, key.team_id = user_id, team_id
        self._index(key)

    def delete_key(self, key: Key) -> None:
        del self.keys[key.token]
        self._unindex(key)
        self.newest_first = None
        self.views.pop(key.token, None)
        key.deleted_at = time.time()
        self.deleted[key.token] = key
        self.journal.delete("key", key.token)
        self.journal.put("deleted", key.token, lambda: key)

    def listed(self) -> list[Key]:
        """The living keys, newest first."""
        if self.newest_first is None:
            keys = sorted(self.keys.values(), key=lambda key: key.created_at)
            self.newest_first = keys[::-1]
        return self.newest_first

    def keys_of_user(self, user_id: str) -> list[Key]:
        return [self.keys[token] for token in reversed(self.tokens_by_user.get(user_id, {}))]

    def keys_of_team(self, team_id: str) -> list[Key]:
        return [self.keys[token] for token in reversed(self.tokens_by_team.get(team_id, {}))]

    def save_budget(self, budget: Budget) -> None:
        self.budgets[budget.budget_id] = budget
        self._save_shared("budget", budget.budget_id, budget)

    def save_user(self, user: User) -> None:
        self.users[user.user_id] = user
        self._save_shared("user", user.user_id, user)

    def save_team(self, team: Team) -> None:
        self.teams[team.team_id] = team
        self._save_shared("team", team.team_id, team)

    def save_group(self, group: AccessGroup) -> None:
        self.groups[group.access_group_id] = group
        self._save_shared("group", group.access_group_id, group)

    def delete_shared(self, kind: str, row_id: str) -> None:
        self.views.clear()
        self.journal.delete(kind, row_id)
        self.journal.commit()

    def clear(self) -> None:
        """Forget everything."""
        tables: tuple[dict[str, Any], ...] = (
            self.keys,
            self.deleted,
            self.budgets,
            self.users,
            self.teams,
            self.groups,
            self.views,
            self.tokens_by_alias,
            self.tokens_by_user,
            self.tokens_by_team,
        )
        for table in tables:
            table.clear()
        self.newest_first = None
        self.journal.clear()
        self.spend.clear()

    def _save_shared(self, kind: str, row_id: str, record: object) -> None:
        # It may bear on any number of keys.
        self.views.clear()
        self.journal.put(kind, row_id, lambda: record)
        self.journal.commit()

    def _index(self, key: Key) -> None:
        for index, name in self._indexes(key):
            index.setdefault(name, {})[key.token] = None

    def _unindex(self, key: Key) -> None:
        for index, name in self._indexes(key):
            tokens = index.get(name, {})
            tokens.pop(key.token, None)
            if not tokens:
                index.pop(name, None)

    def _indexes(self, key: Key) -> list[tuple[dict[str, dict[str, None]], str]]:
        places = (
            (self.tokens_by_alias, key.key_alias),
            (self.tokens_by_user, key.user_id),
            (self.tokens_by_team, key.team_id),
        )
        return [(index, name) for index, name in places if name is not None]


def _load(journal: Journal, kind: str, make: type[Record]) -> dict[str, Record]:
    return {row_id: make(**row) for row_id, row in journal.load(kind)}
