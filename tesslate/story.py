"""The main job as a customer lives it, told over HTTP alone: no model, no task, no database.

Used by ``manage.py demo``. Each step prints what was observed and how long it took; the
gateway is asked directly, because what it says is what counts.
"""

import json
import re
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin

import httpx

FREE_MODEL = "basic-chat"
PRO_MODEL = "llama-4-maverick"
PLAN = "pro"


class StoryFailed(Exception):
    """A step did not go as it must; the message says which and what was seen instead."""


@dataclass(frozen=True)
class Endpoints:
    """Where everything is: what ``make run`` wrote."""

    web: str
    gateway: str
    stripe_api: str
    stripe_secret_key: str
    firebase_api: str
    firebase_api_key: str
    litellm_master_key: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises StoryFailed when nothing is running there."""
        try:
            found = json.loads(path.read_text())
            return cls(**{field.name: found[field.name] for field in fields(cls)})
        except FileNotFoundError:
            raise StoryFailed(f"{path} is not there. Start the system first: make run") from None
        except (ValueError, KeyError) as problem:
            raise StoryFailed(f"{path} is not what make run writes: {problem}") from None


@dataclass(frozen=True)
class Reply:
    """One chat answer: time to the first token (milliseconds), chunks, text."""

    first_token_ms: float
    chunks: int
    text: str


class Story:
    def __init__(
        self, endpoints: Endpoints, say: Callable[[str], Any], *, patience: float = 30.0
    ) -> None:
        self.at = endpoints
        self.say = say
        self.patience = patience
        self.http = httpx.Client(timeout=30, follow_redirects=True)
        self.email = f"demo-{secrets.token_hex(4)}@example.com"
        self.token = ""
        self.user_id = 0
        self.begun = datetime.now(UTC)
        self.step_number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.http.close()

    def tell(self) -> None:
        """Every step in order. Raises StoryFailed at the first that goes wrong."""
        self._step("Sign up with Firebase", self.sign_up)
        self._step("A key appears at the gateway, with the free plan", self.first_key)
        self._step(f"Chat with {FREE_MODEL}", lambda: self.chat_streams(FREE_MODEL))
        self._step(f"{PRO_MODEL} is refused on the free plan", self.refused)
        paid_at = self._step(f"Pay for the {PLAN} plan on Stripe's page", self.pay)
        self._step("Webhook, plan, key: the gateway allows it", lambda: self.upgraded(paid_at))
        self._step(f"Chat with {PRO_MODEL}", lambda: self.chat_streams(PRO_MODEL))
        self._step("The usage is on the books", self.usage_counted)
        self._step("Cancel at once in the billing portal", self.cancel)
        self._step("Back on the free plan, at the gateway too", self.downgraded)
        self._step(f"{PRO_MODEL} is refused again", self.refused)

    # Steps. Each returns what to say about it, alone or with a value for a later step.

    def sign_up(self) -> str:
        answer = self._json(
            "POST",
            f"{self.at.firebase_api}/v1/accounts:signUp?key={self.at.firebase_api_key}",
            json={
                "email": self.email,
                "password": secrets.token_urlsafe(12),
                "returnSecureToken": True,
            },
        )
        self.token = answer["idToken"]
        me = self._me()
        self.user_id = me["user"]["id"]
        return f"{self.email} is user {self.user_id}, plan {me['entitlement']['plan']['code']}"

    def first_key(self) -> str:
        self._until("the key is in step", lambda: self._me()["key"]["in_step"])
        return self._gateway_says()

    def chat_streams(self, model: str) -> str:
        reply = self._chat(model)
        if reply.chunks < 3:
            raise StoryFailed(f"{model} answered in {reply.chunks} chunks: that is no stream")
        words = " ".join(reply.text.split())
        return (
            f"first token after {reply.first_token_ms:.0f} ms, {reply.chunks} chunks: "
            f"“{words[:60]}…”"
        )

    def refused(self) -> str:
        response = self.http.post(
            f"{self.at.web}/api/proxy/chat", headers=self._auth(), json=self._question(PRO_MODEL)
        )
        error = response.json().get("error", {}) if response.status_code == 403 else {}
        if error.get("code") != "model_not_in_plan":
            raise StoryFailed(f"expected 403 model_not_in_plan, got {_short(response)}")
        return f"403 {error['code']}: {error['message']}"

    def pay(self) -> tuple[str, float]:
        plans = self._json("GET", f"{self.at.web}/api/plans")
        plan = next(plan for plan in plans["plans"] if plan["code"] == PLAN)
        price = next(price for price in plan["prices"] if price["interval"] == "month")
        session = self._json(
            "POST",
            f"{self.at.web}/api/billing/checkout",
            headers=self._auth(),
            json={"price": price["id"]},
        )
        page = self.http.get(session["url"])
        paid_at = time.perf_counter()
        self._submit(page, r"/c/pay/")
        return f"paid {price['unit_amount'] / 100:.2f} {price['currency'].upper()}", paid_at

    def upgraded(self, paid_at: float) -> str:
        self._until("the gateway has the new plan", lambda: PLAN in self._gateway_plan(), 0.02)
        at_gateway = (time.perf_counter() - paid_at) * 1000
        self._until("we have seen it", lambda: self._me()["key"]["in_step"])
        me = self._me()
        if me["entitlement"]["plan"]["code"] != PLAN:
            raise StoryFailed(f"/api/me still says {me['entitlement']['plan']['code']}")
        return f"{at_gateway:.0f} ms after paying. {self._gateway_says()}"

    def usage_counted(self) -> str:
        def counted() -> dict[str, Any]:
            rows = self._json(
                "GET",
                f"{self.at.web}/api/usage",
                params={"group_by": "model", "from": self.begun.isoformat()},
                headers=self._auth(),
            )["data"]
            return {row["model"]: row for row in rows if row["total_tokens"] > 0}

        self._until(
            "both chats are counted", lambda: {FREE_MODEL, PRO_MODEL} <= set(counted()), 0.2
        )
        return ", ".join(
            f"{model}: {row['total_tokens']} tokens, ${row['cost']}"
            for model, row in sorted(counted().items())
        )

    def cancel(self) -> str:
        portal = self._json("POST", f"{self.at.web}/api/billing/portal", headers=self._auth())
        page = self.http.get(portal["url"])
        self._submit(page, r"cancel[_-]?now")
        return "subscription ended by the customer"

    def downgraded(self) -> str:
        self._until("the gateway is back on free", lambda: "free" in self._gateway_plan(), 0.05)
        self._until("we have seen it", lambda: self._me()["key"]["in_step"])
        return self._gateway_says()

    # How to get there.

    def _step(self, title: str, act: Callable[[], Any]) -> Any:
        self.step_number += 1
        started = time.perf_counter()
        try:
            result = act()
        except httpx.HTTPError as problem:
            raise StoryFailed(f"Step {self.step_number}, {title}: {problem!r}") from None
        except StoryFailed as problem:
            raise StoryFailed(f"Step {self.step_number}, {title}: {problem}") from None
        elapsed = (time.perf_counter() - started) * 1000
        observed, value = result if isinstance(result, tuple) else (result, None)
        self.say(f"{self.step_number:2}. {title}  [{elapsed:.0f} ms]\n    {observed}")
        return value

    def _auth(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def _me(self) -> dict[str, Any]:
        return self._json("GET", f"{self.at.web}/api/me", headers=self._auth())

    def _json(self, method: str, url: str, **kwargs: Any) -> dict[str, Any]:
        response = self.http.request(method, url, **kwargs)
        if response.is_error:
            raise StoryFailed(f"{method} {response.url.path} answered {_short(response)}")
        answer: dict[str, Any] = response.json()
        return answer

    def _until(self, what: str, holds: Callable[[], bool], pause: float = 0.1) -> None:
        deadline = time.monotonic() + self.patience
        while not holds():
            if time.monotonic() > deadline:
                raise StoryFailed(f"waited {self.patience:.0f} s in vain until {what}")
            time.sleep(pause)

    def _question(self, model: str) -> dict[str, Any]:
        return {
            "selectedModelId": model,
            "messages": [{"role": "user", "content": "What does a gateway do, in brief?"}],
            "max_tokens": 120,
        }

    def _chat(self, model: str) -> Reply:
        started = time.perf_counter()
        first_token_ms, chunks, text = 0.0, 0, ""
        with self.http.stream(
            "POST",
            f"{self.at.web}/api/proxy/chat",
            headers=self._auth(),
            json=self._question(model),
        ) as response:
            if response.is_error:
                response.read()
                raise StoryFailed(f"{model} answered {_short(response)}")
            for content in _contents(response.iter_lines()):
                first_token_ms = first_token_ms or (time.perf_counter() - started) * 1000
                chunks += 1
                text += content
        return Reply(first_token_ms, chunks, text)

    def _gateway_key(self) -> dict[str, Any]:
        """This user's key as the gateway lists it (never its value)."""
        listing = self._json(
            "GET",
            f"{self.at.gateway}/key/list",
            params={"return_full_object": "true", "size": 100, "sort_by": "created_at"},
            headers={"Authorization": f"Bearer {self.at.litellm_master_key}"},
        )
        keys = [key for key in listing["keys"] if key["metadata"].get("user") == self.user_id]
        if len(keys) != 1:
            raise StoryFailed(f"the gateway holds {len(keys)} keys for this user, not one")
        found: dict[str, Any] = keys[0]
        return found

    def _gateway_plan(self) -> str:
        return str(self._gateway_key().get("metadata", {}).get("plan", ""))

    def _gateway_says(self) -> str:
        key = self._gateway_key()
        shared = key.get("litellm_budget_table") or {}
        return (
            f"gateway: {key['key_name']} in {key['team_id']}, {shared.get('rpm_limit')} requests "
            f"and {shared.get('tpm_limit')} tokens a minute, "
            f"${key['spend']:.6f} of ${key['max_budget']:.2f} spent"
        )

    def _submit(self, page: httpx.Response, pattern: str) -> None:
        """Press the button of the form whose action or button matches, as a browser would."""
        for form in re.findall(r"<form\b.*?</form>", page.text, re.S):
            if re.search(pattern, form):
                break
        else:
            raise StoryFailed(f"no form for {pattern} on {page.url.path}")
        action = re.search(r"<form\b[^>]*\baction=\"([^\"]*)\"", form)
        response = self.http.post(
            urljoin(str(page.url), action[1] if action else ""), data=_defaults(form)
        )
        if response.is_error and response.url.path.startswith("/c/"):
            raise StoryFailed(f"the hosted page answered {response.status_code}")


def _defaults(form: str) -> dict[str, str]:
    """What a browser would post when nobody touches the form."""
    data: dict[str, str] = {}
    for tag in re.findall(r"<input\b[^>]*>", form):
        attributes = dict(re.findall(r"(\w+)=\"([^\"]*)\"", tag))
        chosen = attributes.get("type") not in {"radio", "checkbox"} or " checked" in tag
        if "name" in attributes and chosen:
            data[attributes["name"]] = attributes.get("value", "on")
    button = re.search(r"<button\b[^>]*\bname=\"(\w+)\"[^>]*\bvalue=\"([^\"]*)\"", form)
    if button:
        data[button[1]] = button[2]
    return data


def _contents(lines: Iterator[str]) -> Iterator[str]:
    """The text of each content chunk. Raises StoryFailed on an error event or a missing end."""
    for line in lines:
        if line == "data: [DONE]":
            return
        if not line.startswith("data: "):
            continue
        chunk = json.loads(line[6:])
        if "error" in chunk:
            raise StoryFailed(f"the stream broke: {chunk['error']}")
        for choice in chunk.get("choices", []):
            if content := choice.get("delta", {}).get("content"):
                yield content
    raise StoryFailed("the stream ended without [DONE]")


def _short(response: httpx.Response) -> str:
    return f"{response.status_code}: {response.text[:300]}"
