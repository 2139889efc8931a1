"""A gateway in memory, at the wire: what the real one answers to management calls (GATEWAY.md),
with faults at the edge. Its state is open to tests, which play staff at the gateway with it."""

import hashlib
import json
import threading
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import httpx

MASTER_KEY = "sk-test-master-key"

Row = dict[str, Any]
# Called with the request before it has its effect; may raise, answer, or return None to go on.
Fault = Callable[[httpx.Request], httpx.Response | None]

KEY_FIELDS: Row = {
    "key_alias": None,
    "models": [],
    "team_id": None,
    "budget_id": None,
    "max_budget": None,
    "rpm_limit": None,
    "tpm_limit": None,
    "max_parallel_requests": None,
    "blocked": None,
    "expires": None,
    "budget_duration": None,
    "user_id": None,
    "metadata": {},
    "spend": 0.0,
}
READS = {"/key/info", "/key/list", "/v1/models", "/budget/info", "/spend/logs/v2"}


class Wire(httpx.BaseTransport):
    """The transport of a LiteLLMClient, and the gateway behind it."""

    def __init__(self) -> None:
        self.keys: dict[str, Row] = {}
        self.deleted: dict[str, Row] = {}
        self.teams: dict[str, Row] = {}
        self.budgets: dict[str, Row] = {}
        self.models = {"small", "large", "huge"}
        self.master_keys = {MASTER_KEY}
        # Every request that arrived, as (path, body or query).
        self.calls: list[tuple[str, Row]] = []
        # Before the effect, and after it: an answer that never arrives.
        self.before: Fault | None = None
        self.after: Fault | None = None
        # Keys that are still served from an old copy, as a cache would.
        self.stale: dict[str, Row] = {}
        self._lock = threading.RLock()

    # For tests

    def writes(self, path: str = "") -> list[tuple[str, Row]]:
        """The calls that could change something, of one path or of all."""
        probes = self.calls
        return [c for c in probes if c[0] not in READS and c[1] != {} and path in c[0]]

    def forget_calls(self) -> None:
        self.calls.clear()

    def key_of(self, key: Any) -> Row:
        return self.keys[key.key_hash]

    def works(self, secret: str) -> bool:
        return self._models_of(secret).status_code == 200

    # Transport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else {}
        query = dict(request.url.params)
        path = request.url.path
        with self._lock:
            self.calls.append((path, body or query))
            before = self.before
        if before is not None and (answer := before(request)) is not None:
            return answer
        with self._lock:
            answer = self._route(path, request, body, query)
        if self.after is not None and (other := self.after(request)) is not None:
            return other
        return answer

    def _route(self, path: str, request: httpx.Request, body: Row, query: Row) -> httpx.Response:
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if path == "/v1/models" and bearer not in self.master_keys:
            return self._models_of(bearer)
        if bearer not in self.master_keys:
            return problem(401, "token_not_found_in_db", "Invalid proxy server token", "key")
        handler = getattr(self, "_" + path.strip("/").replace("/", "_"), None)
        if handler is None:
            return problem(404, "not_found", f"no route {path}")
        answer: httpx.Response = handler({**query, **body})
        return answer

    def _v1_models(self, args: Row) -> httpx.Response:
        return ok({"data": [{"id": name} for name in sorted(self.models)]})

    def _models_of(self, secret: str) -> httpx.Response:
        token = digest(secret)
        row = self.stale.get(token) or self.keys.get(token)
        if row is None:
            return problem(401, "token_not_found_in_db", "Unable to find token", "key")
        if row["blocked"]:
            return problem(401, "auth_error", "Key is blocked.")
        if row["max_budget"] is not None and row["spend"] >= row["max_budget"]:
            return problem(422, "budget_exceeded", "Budget has been exceeded!")
        names = set(row["models"])
        if "all-team-models" in names:
            team = self.teams.get(row["team_id"])
            if team is None:
                return problem(404, "auth_error", "Team doesn't exist in db.")
            names = set(team["models"])
        names = self.models if not names else names & self.models
        return ok({"data": [{"id": name} for name in sorted(names)]})

    # Keys

    def _key_generate(self, args: Row) -> httpx.Response:
        token = digest(args["key"])
        alias = args.get("key_alias")
        if alias and any(row["key_alias"] == alias for row in self.keys.values()):
            return problem(400, "bad_request_error", "Key with alias already exists.", "key_alias")
        if args.get("budget_id") and args["budget_id"] not in self.budgets:
            return problem(500, "internal_server_error", "{'error': 'Internal Server Error.'}")
        row = {**deepcopy(KEY_FIELDS), **{k: v for k, v in args.items() if k in KEY_FIELDS}}
        row["token"] = token
        row["allowed_routes"] = ["llm_api_routes"] if args.get("key_type") == "llm_api" else []
        self.keys.setdefault(token, row)
        return ok({**deepcopy(row), "key": args["key"]})

    def _key_update(self, args: Row) -> httpx.Response:
        row = self.keys.get(args["key"])
        if row is None:
            return problem(404, "not_found_error", "Key not found.")
        if args.get("budget_id") and args["budget_id"] not in self.budgets:
            return problem(400, "bad_request_error", "Foreign key constraint failed: budget_id")
        alias = args.get("key_alias")
        if alias and any(o is not row and o["key_alias"] == alias for o in self.keys.values()):
            return problem(400, "bad_request_error", "Key with alias already exists.", "key_alias")
        for name, value in args.items():
            if name == "duration" and value is None:
                row["expires"] = None
            elif name in KEY_FIELDS or name == "allowed_routes":
                row[name] = value
        return ok({"key": args["key"], **deepcopy(row)})

    def _key_info(self, args: Row) -> httpx.Response:
        row = self.keys.get(args["key"])
        if row is not None:
            return ok({"key": args["key"], "info": {**deepcopy(row), "status": "active"}})
        if args["key"] in self.deleted:
            row = self.deleted[args["key"]]
            return ok({"key": args["key"], "info": {**deepcopy(row), "status": "deleted"}})
        return problem(404, "not_found_error", "Key not found in database")

    def _key_delete(self, args: Row) -> httpx.Response:
        found = [token for token in args["keys"] if token in self.keys]
        if not found:
            return problem(404, "not_found_error", "Key not found")
        for token in found:
            self.deleted[token] = self.keys.pop(token)
        return ok({"deleted_keys": args["keys"]})

    def _key_list(self, args: Row) -> httpx.Response:
        rows = [r for r in self.keys.values() if args.get("key_alias") in (None, r["key_alias"])]
        page, size = int(args["page"]), int(args["size"])
        return ok(
            {
                "keys": deepcopy(rows[(page - 1) * size : page * size]),
                "total_count": len(rows),
                "current_page": page,
                "total_pages": -(-len(rows) // size),
            }
        )

    # What keys share

    def _team_new(self, args: Row) -> httpx.Response:
        if args["team_id"] in self.teams:
            return problem(400, "internal_server_error", "Team id already exists.")
        row = {"blocked": False, "max_budget": None, "rpm_limit": None, "tpm_limit": None, **args}
        self.teams[args["team_id"]] = row
        return ok(deepcopy(row))

    def _team_update(self, args: Row) -> httpx.Response:
        row = self.teams.get(args["team_id"])
        if row is None:
            return problem(404, "internal_server_error", "Team not found")
        row.update(args)
        return ok({"team_id": args["team_id"], "data": deepcopy(row)})

    def _budget_new(self, args: Row) -> httpx.Response:
        if args["budget_id"] in self.budgets:
            text = f"Budget with id '{args['budget_id']}' already exists."
            return httpx.Response(400, json={"detail": {"error": text}})
        self.budgets[args["budget_id"]] = {"max_budget": None, **args}
        return ok(deepcopy(self.budgets[args["budget_id"]]))

    def _budget_update(self, args: Row) -> httpx.Response:
        row = self.budgets.get(args["budget_id"])
        if row is None:
            return httpx.Response(200, content=b"null")
        row.update(args)
        return ok(deepcopy(row))

    def _budget_info(self, args: Row) -> httpx.Response:
        return httpx.Response(
            200, json=[self.budgets[b] for b in args["budgets"] if b in self.budgets]
        )


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def ok(body: Row) -> httpx.Response:
    return httpx.Response(200, json=body)


def problem(status: int, type_: str, message: str, param: str | None = None) -> httpx.Response:
    error = {"message": message, "type": type_, "param": param, "code": str(status)}
    return httpx.Response(status, json={"error": error})
