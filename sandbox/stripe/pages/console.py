"""The console at `/`: what the stand-in holds, and buttons for what otherwise only time brings."""

import hmac
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from sandbox.stripe.errors import ApiError
from sandbox.stripe.pages import html
from sandbox.stripe.pages.console_view import ConsoleView
from sandbox.stripe.pages.html import Page, text

if TYPE_CHECKING:
    from sandbox.stripe.service import Service

Json = dict[str, Any]

DAY = 86_400


class ConsolePages:
    def __init__(self, service: "Service") -> None:
        self.service = service
        self.engine = service.engine
        self.view = ConsoleView(service)

    def show(self, *, error: str = "", done: str = "", status: int = 200) -> Page:
        with self.service.world.lock:
            body = self.view.body()
        return html.page("Console", body, kind="console", error=error, done=done, status=status)

    def event(self, id: str) -> Page:
        event = self.service.world.log.find(id)
        if event is None:
            return html.missing("such event")
        shown = orjson.dumps(event.as_json(), option=orjson.OPT_INDENT_2).decode()
        body = (
            f'<p><a href="/">Console</a></p><h1>{text(event.type)}</h1>'
            f'<div class="card"><pre>{text(shown)}</pre></div>'
        )
        return html.page(event.type, body)

    def act(self, action: str, form: Json) -> Page:
        token = str(form.get("token", ""))
        if not hmac.compare_digest(token, self.service.console_token):
            return self.show(error="This page is out of date. Try again.", status=403)
        actions: dict[str, Callable[[Json], str | Page]] = {
            "advance": self._advance,
            "past_renewal": self._past_renewal,
            "fail_next": self._fail_next,
            "portal": self._portal,
            "refund": self._refund,
            "dispute": self._dispute,
            "dispute_close": self._close_dispute,
            "warn": self._warn,
            "settle": self._settle,
            "switches": self._switches,
            "redeliver": self._redeliver,
            "settings": self._settings,
        }
        if action not in actions:
            return html.missing("such button")
        try:
            said = actions[action](form)
        except ApiError as refusal:
            return self.show(error=refusal.message, status=refusal.status)
        except (KeyError, ValueError) as problem:
            return self.show(error=f"That did not make sense: {problem}", status=400)
        self.engine.run_due()
        return said if isinstance(said, Page) else self.show(done=said)

    def _advance(self, form: Json) -> str:
        self.service.move_clock(self.engine.now() + int(form["seconds"]))
        return f"The clock says {html.instant(self.engine.now())}."

    def _past_renewal(self, form: Json) -> str:
        self.engine.advance_past_renewal(form["subscription"])
        self.service.move_clock(self.engine.now())
        return f"The renewal is through. The clock says {html.instant(self.engine.now())}."

    def _fail_next(self, form: Json) -> str:
        self.engine.fail_payments(form["customer"], 1)
        return "The customer's next payment will be declined."

    def _portal(self, form: Json) -> Page:
        given = {"customer": form["customer"], "return_url": f"{self.service.world.base_url}/"}
        session = self.engine.request("POST", "/v1/billing_portal/sessions", given)
        return html.redirect(session["url"])

    def _refund(self, form: Json) -> str:
        self.engine.refund(form["charge"])
        return "The charge is refunded."

    def _dispute(self, form: Json) -> str:
        self.engine.dispute(form["charge"])
        return "The charge is disputed."

    def _close_dispute(self, form: Json) -> str:
        self.engine.move_dispute(form["dispute"], form["status"])
        return f"The dispute is {form['status']}."

    def _warn(self, form: Json) -> str:
        self.engine.early_fraud_warning(form["charge"])
        return "An early fraud warning has been sent."

    def _settle(self, form: Json) -> str:
        self.engine.settle_debit(form["intent"], well=form["outcome"] == "succeeded")
        return "The bank has answered."

    def _switches(self, form: Json) -> str:
        self.service.queue.faults.update(
            {
                "duplicate": float(form.get("duplicate") or 0),
                "drop": float(form.get("drop") or 0),
                "delay": (float(form.get("delay_from") or 0), float(form.get("delay_to") or 0)),
                "reorder": "reorder" in form,
                "paused": "paused" in form,
            }
        )
        self.service.queue.wake()
        return "Deliveries behave as told."

    def _redeliver(self, form: Json) -> str:
        made = self.service.queue.redeliver(form["event"])
        return f"Sent again: {len(made)}." if made else "No endpoint wants that event."

    def _settings(self, form: Json) -> str:
        self.service.change_behaviour(
            {"dunning_end": form["dunning_end"], "draft_seconds": int(form["draft_seconds"])}
        )
        return "Billing settings changed."
