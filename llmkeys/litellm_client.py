"""The gateway's management API, as far as we use it, over HTTP.

Keys are named by the SHA-256 of their value everywhere but in their creation and in probes: what
names a key ends up in access logs. Nothing here logs a request body.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from llmkeys.litellm_errors import (
    LiteLLMRejected,
    LiteLLMUnavailable,
    MasterKeyRefused,
    Problem,
    read_problem,
)
from tesslate.lib import tracing

logger = logging.getLogger(__name__)

MAX_PAGE = 100
# Rows of the daily table that one page of activity may sum up.
MOST_ACTIVITY = 1000
# A failure of one of these kinds before anything was sent has had no effect.
NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class KeyPage:
    """One page of the gateway's keys, ours or not, as LiteLLM describes them."""

    rows: list[Json]
    page: int
    total_pages: int
    total_count: int


@dataclass(frozen=True, slots=True)
class Probe:
    """What a key could do at one moment, by its own account.

    ``models`` is empty for a key that is refused (unknown, blocked, expired, over budget).
    """

    status: int
    models: frozenset[str]

    @property
    def is_refused(self) -> bool:
        return self.status in (401, 403, 404, 422)


class LiteLLMClient:
    """Management calls against one gateway. Safe to share between threads.

    ``master_keys``: any of them may be the valid one while they are being exchanged; the one that
    worked last is tried first.
    """

    def __init__(
        self,
        *,
        url: str,
        master_keys: Sequence[str],
        timeout: float,
        concurrency: int,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url
        self._master_keys = list(master_keys)
        self._http = httpx.Client(
            base_url=url,
            timeout=httpx.Timeout(timeout, connect=min(timeout, 5)),
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
            transport=transport,
        )

    def close(self) -> None:
        self._http.close()

    # Keys

    def create_key(self, secret: str, fields: Mapping[str, Any]) -> Json:
        """Make a key with the value that we chose.

        A value that the gateway already knows is accepted and changes nothing, while the answer
        repeats the request: after a call whose outcome is unknown, read before creating.
        """
        return self._object("POST", "/key/generate", {**fields, "key": secret})

    def get_key(self, key_hash: str) -> Json | None:
        """The key's row, or None when it is unknown. Deleted keys answer too, and count as
        unknown."""
        row = self._key_info(key_hash)
        return None if row is None or row.get("status") == "deleted" else row

    def get_deleted_key(self, key_hash: str) -> Json | None:
        """What LiteLLM's archive keeps of a deleted key, its spend included; None for others."""
        row = self._key_info(key_hash)
        return row if row is not None and row.get("status") == "deleted" else None

    def _key_info(self, key_hash: str) -> Json | None:
        try:
            answer = self._object("GET", "/key/info", params={"key": key_hash})
        except LiteLLMRejected as refusal:
            if refusal.is_missing:
                return None
            raise
        row = answer.get("info")
        if not isinstance(row, dict):
            raise LiteLLMUnavailable("/key/info answered without a key")
        return {"token": key_hash, **row}

    def update_key(self, key_hash: str, fields: Mapping[str, Any]) -> Json:
        """Change the given fields and no others; the answer is the whole row.

        ``metadata`` is replaced, None clears. Raises LiteLLMRejected (404) for an unknown key.
        """
        return self._object("POST", "/key/update", {**fields, "key": key_hash})

    def delete_key(self, key_hash: str) -> None:
        """Make sure that the gateway no longer accepts this key; an unknown one counts as gone."""
        try:
            self._object("POST", "/key/delete", {"keys": [key_hash]})
        except LiteLLMRejected as refusal:
            if not refusal.is_missing:
                raise

    def list_keys(self, page: int, *, size: int = MAX_PAGE, alias: str | None = None) -> KeyPage:
        """Keys in order of creation, so that new ones do not shift the pages already read."""
        params: dict[str, Any] = {
            "page": page,
            "size": size,
            "return_full_object": "true",
            "sort_by": "created_at",
            "sort_order": "asc",
        }
        if alias is not None:
            params["key_alias"] = alias
        answer = self._object("GET", "/key/list", params=params)
        match answer:
            case {"keys": list(rows), "total_pages": int(pages), "total_count": int(total)}:
                return KeyPage([row for row in rows if isinstance(row, dict)], page, pages, total)
        raise LiteLLMUnavailable("/key/list answered without keys")

    # What keys share

    def create_team(self, team_id: str, fields: Mapping[str, Any]) -> Json:
        return self._object("POST", "/team/new", {**fields, "team_id": team_id})

    def update_team(self, team_id: str, fields: Mapping[str, Any]) -> Json | None:
        """Change the given fields; the row, or None for an unknown team.

        With no fields this reads: /team/info would list every key of the team as well.
        """
        try:
            answer = self._object("POST", "/team/update", {**fields, "team_id": team_id})
        except LiteLLMRejected as refusal:
            if refusal.is_missing:
                return None
            raise
        row = answer.get("data")
        if not isinstance(row, dict):
            raise LiteLLMUnavailable("/team/update answered without a team", outcome_unknown=True)
        return row

    def create_budget(self, budget_id: str, fields: Mapping[str, Any]) -> Json:
        return self._object("POST", "/budget/new", {**fields, "budget_id": budget_id})

    def update_budget(self, budget_id: str, fields: Mapping[str, Any]) -> Json | None:
        """Change the given fields; the row, or None for an unknown id (a 200 with ``null``)."""
        answer = self._call("POST", "/budget/update", {**fields, "budget_id": budget_id})
        return answer if isinstance(answer, dict) and answer else None

    def get_budget(self, budget_id: str) -> Json | None:
        answer = self._call("POST", "/budget/info", {"budgets": [budget_id]})
        if not isinstance(answer, list):
            raise LiteLLMUnavailable("/budget/info answered without a list")
        return next((row for row in answer if isinstance(row, dict)), None)

    # Looking

    def check(self) -> None:
        """Raise unless the gateway answers, its database works and it accepts a master key."""
        self.list_keys(1, size=1)

    def accepts(self, master_key: str) -> bool:
        """Whether the gateway takes this value as a master key. Raises LiteLLMUnavailable."""
        response = self._send("GET", "/key/list", master_key, None, {"page": 1, "size": 1})
        if response.status_code in (401, 403):
            return False
        self._answer(response, writes=False)
        return True

    def model_names(self) -> frozenset[str]:
        """Every model that the gateway serves."""
        answer = self._object("GET", "/v1/models")
        return frozenset(_model_ids(answer))

    def spend_log_page(self, start: str, end: str, page: int) -> list[Json]:
        """One page of the spend log, newest first, all keys.

        ``start`` and ``end`` as ``YYYY-MM-DD HH:MM:SS`` in UTC, both included; up to MAX_PAGE
        rows. A page beyond the last is empty.
        """
        params = {"start_date": start, "end_date": end, "page": page, "page_size": MAX_PAGE}
        answer = self._object("GET", "/spend/logs/v2", params=params)
        rows = answer.get("data")
        if not isinstance(rows, list):
            raise LiteLLMUnavailable("/spend/logs/v2 answered without rows")
        return [row for row in rows if isinstance(row, dict)]

    def daily_activity_page(self, first: str, last: str, page: int) -> tuple[list[Json], bool]:
        """One page of the daily sums of ``first`` to ``last`` (``YYYY-MM-DD``), newest day first,
        and whether there is another. Sums of a page are of that page alone: add them up."""
        params = {"start_date": first, "end_date": last, "page": page, "page_size": MOST_ACTIVITY}
        answer = self._object("GET", "/user/daily/activity", params=params)
        match answer:
            case {"results": list(days), "metadata": {"has_more": bool(more)}}:
                return [day for day in days if isinstance(day, dict)], more
        raise LiteLLMUnavailable("/user/daily/activity answered without days")

    def probe(self, secret: str) -> Probe:
        """Ask, as the key itself and on a connection of its own, which models it may call.

        A new connection may reach another process of the gateway than the one that took the
        change. Raises LiteLLMUnavailable.
        """
        headers = {"Connection": "close"}
        response = self._send("GET", "/v1/models", secret, None, None, headers)
        if response.status_code == 200:
            return Probe(200, frozenset(_model_ids(_json(response))))
        if response.status_code in (401, 403, 404, 422):
            return Probe(response.status_code, frozenset())
        raise LiteLLMUnavailable(f"/v1/models answered {response.status_code} to a probe")

    # Transport

    def _object(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Json:
        answer = self._call(method, path, body, params)
        if not isinstance(answer, dict):
            raise LiteLLMUnavailable(f"{path} answered no object", outcome_unknown=body is not None)
        return answer

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Any:
        """Send with each master key until one is accepted.

        While the gateway's processes are restarted with a new one, each call may reach one that
        knows the other: where there are several, each is tried twice, back and forth.
        """
        known = list(self._master_keys)
        for master_key in known + known[::-1] if len(known) > 1 else known:
            response = self._send(method, path, master_key, body, params)
            if response.status_code != 401:
                self._prefer(master_key)
                return self._answer(response, writes=body is not None)
        raise MasterKeyRefused(f"{self.url} accepts none of LITELLM_MASTER_KEYS")

    def _prefer(self, master_key: str) -> None:
        if self._master_keys[0] != master_key:
            self._master_keys.sort(key=lambda known: known != master_key)

    def _send(
        self,
        method: str,
        path: str,
        bearer: str,
        body: Mapping[str, Any] | None,
        params: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        try:
            with tracing.asking(method, path, self._http.base_url.host) as asked:
                response = self._http.request(
                    method,
                    path,
                    content=None if body is None else orjson.dumps(dict(body), default=float),
                    params=params,
                    headers={
                        "Authorization": f"Bearer {bearer}",
                        "Content-Type": "application/json",
                        **asked.headers,
                        **(headers or {}),
                    },
                )
                asked.status = response.status_code
                return response
        except NEVER_SENT as error:
            raise LiteLLMUnavailable(f"{path}: {type(error).__name__}") from None
        except httpx.HTTPError as error:
            # The exception's own text may quote the request; its type says enough.
            raise LiteLLMUnavailable(
                f"{path}: {type(error).__name__}", outcome_unknown=body is not None
            ) from None

    def _answer(self, response: httpx.Response, *, writes: bool) -> Any:
        status = response.status_code
        if status < 300:
            try:
                return _json(response)
            except LiteLLMUnavailable as nonsense:
                raise LiteLLMUnavailable(str(nonsense), outcome_unknown=writes) from None
        try:
            problem = read_problem(_json(response), response.reason_phrase)
        except LiteLLMUnavailable:
            problem = Problem(response.reason_phrase)
        if status == 429 or status in (502, 503, 504):
            raise LiteLLMUnavailable(
                f"{status}: {problem.message}",
                outcome_unknown=writes and status in (502, 504),
                retry_after=_seconds(response.headers.get("retry-after")),
            )
        if status >= 500 or status == 408:
            raise LiteLLMUnavailable(f"{status}: {problem.message}", outcome_unknown=writes)
        raise LiteLLMRejected(status, problem)


def _json(response: httpx.Response) -> Any:
    try:
        return orjson.loads(response.content)
    except orjson.JSONDecodeError:
        path = response.request.url.path
        raise LiteLLMUnavailable(
            f"{path} answered {response.status_code} with something that is not JSON"
        ) from None


def _model_ids(answer: Any) -> list[str]:
    match answer:
        case {"data": list(rows)}:
            return [str(row["id"]) for row in rows if isinstance(row, dict) and "id" in row]
    raise LiteLLMUnavailable("/v1/models answered without models")


def _seconds(value: str | None) -> float | None:
    try:
        return None if value is None else max(0.0, float(value))
    except ValueError:
        return None
