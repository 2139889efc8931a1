"""The billing portal page."""

from typing import TYPE_CHECKING, Any

from sandbox.stripe.billing import amounts, collection, methods
from sandbox.stripe.errors import ApiError, InvalidRequest
from sandbox.stripe.pages import html
from sandbox.stripe.pages.html import Page, amount, badge, button, text

if TYPE_CHECKING:
    from sandbox.stripe.engine import StripeEngine

Json = dict[str, Any]

PREFIX = "test_"
SHOWN = (*collection.LIVE, "paused", "incomplete")
# Beside the methods of checkout: one that can be saved and then fails every charge.
FAILING = "pm_card_chargeCustomerFail"


class PortalPages:
    def __init__(self, engine: "StripeEngine") -> None:
        self.engine = engine
        self.world = engine.world

    def _session(self, token: str) -> Json | None:
        return self.world.find("billing_portal.session", token.removeprefix(PREFIX))

    def show(self, token: str, *, error: str = "", done: str = "", status: int = 200) -> Page:
        session = self._session(token)
        if session is None:
            return html.missing("such portal session")
        customer = self.world.get("customer", session["customer"])
        if customer.get("deleted"):
            return html.missing("such customer any more")
        held = list(self.world.state.each("subscription", "customer", customer["id"]))
        cards = [self._subscription(token, sub) for sub in held if sub["status"] in SHOWN]
        ended = [sub for sub in held if sub["status"] not in SHOWN]
        plans = "".join(cards) or '<section class="card"><h2>No current plan</h2></section>'
        body = (
            f"<h1>Billing</h1><p class='soft'>{text(customer['email'] or customer['id'])}</p>"
            f"{plans}{self._method(token, customer)}{self._invoices(token, customer)}"
            f"{self._ended(ended)}"
        )
        nav = ""
        if session["return_url"]:
            nav = f'<a href="{text(session["return_url"])}">Return to the site</a>'
        return html.page(
            "Billing", body, kind="portal", nav=nav, error=error, done=done, status=status
        )

    def act(self, token: str, action: str, form: Json) -> Page:
        """Press a button: cancel, cancel_now, resume, change, method, fail_next, pay."""
        session = self._session(token)
        if session is None:
            return html.missing("such portal session")
        actions = {
            "cancel": self._cancel,
            "cancel_now": self._cancel_now,
            "resume": self._resume,
            "change": self._change,
            "method": self._use_method,
            "fail_next": self._fail_next,
            "pay": self._pay,
        }
        if action not in actions:
            return html.missing("such button")
        try:
            said = actions[action](session, form)
        except ApiError as refusal:
            return self.show(token, error=refusal.message, status=refusal.status)
        follow = ((session["flow"] or {}).get("after_completion") or {}).get("redirect")
        if follow:
            return html.redirect(follow["return_url"])
        return self.show(token, done=said)

    # --- what the buttons do

    def _own(self, session: Json, kind: str, id: str) -> Json:
        held = self.world.get(kind, id)
        if held["customer"] != session["customer"]:
            raise InvalidRequest(f"No such {kind}: '{id}'", code="resource_missing")
        return held

    def _cancel(self, session: Json, form: Json) -> str:
        """At the period's end. In flexible billing mode the portal sets a date, not the flag."""
        sub = self._own(session, "subscription", form.get("subscription", ""))
        if sub["billing_mode"]["type"] == "flexible":
            self.engine.update_subscription(sub["id"], cancel_at="max_period_end")
        else:
            self.engine.update_subscription(sub["id"], cancel_at_period_end=True)
        return "Your plan stays until the end of the period and then ends."

    def _cancel_now(self, session: Json, form: Json) -> str:
        sub = self._own(session, "subscription", form.get("subscription", ""))
        self.engine.cancel(sub["id"])
        return "Your plan has ended."

    def _resume(self, session: Json, form: Json) -> str:
        sub = self._own(session, "subscription", form.get("subscription", ""))
        if sub["status"] == "paused":
            self.engine.resume(sub["id"])
        else:
            self.engine.uncancel(sub["id"])
        return "Your plan goes on."

    def _change(self, session: Json, form: Json) -> str:
        """To another price, as the portal's configuration says: at once or at the period's end."""
        sub = self._own(session, "subscription", form.get("subscription", ""))
        item = sub["items"][0]
        price = form.get("price") or item["price"]
        quantity = int(form["quantity"]) if str(form.get("quantity", "")).isdigit() else None
        configuration = self.world.get("billing_portal.configuration", session["configuration"])
        rules = configuration["features"]["subscription_update"]
        wanted = quantity or item.get("quantity") or 1
        if self._is_less(item, price, wanted) and _later(rules):
            self._schedule(sub, price, wanted)
            return "Your plan changes at the end of the period."
        self.engine.change_price(
            sub["id"],
            price,
            quantity=quantity,
            proration_behavior=rules["proration_behavior"],
            payment_behavior="error_if_incomplete",
        )
        return "Your plan has changed."

    def _is_less(self, item: Json, price: str, quantity: int) -> bool:
        old = amounts.total(self.world.get("price", item["price"]), item.get("quantity") or 0)
        return amounts.total(self.world.get("price", price), quantity) < old

    def _schedule(self, sub: Json, price: str, quantity: int) -> None:
        base = "/v1/subscription_schedules"
        id = sub["schedule"]
        if not id:
            id = self.engine.request("POST", base, {"from_subscription": sub["id"]})["id"]
        phase = self.engine.object(id)["phases"][0]
        now = {
            "items": [{"price": i["price"], "quantity": i["quantity"]} for i in phase["items"]],
            "start_date": phase["start_date"],
            "end_date": phase["end_date"],
        }
        then = {"items": [{"price": price, "quantity": quantity}], "proration_behavior": "none"}
        self.engine.request("POST", f"{base}/{id}", {"phases": [now, then]})

    def _use_method(self, session: Json, form: Json) -> str:
        chosen = form.get("method", "pm_card_visa")
        self.engine.use_method(session["customer"], chosen)
        method = self.world.get("customer", session["customer"])["invoice_settings"][
            "default_payment_method"
        ]
        for sub in self.world.state.each("subscription", "customer", session["customer"]):
            if sub["status"] in SHOWN and sub["default_payment_method"]:
                self.engine.update_subscription(sub["id"], default_payment_method=method)
        return "Your payment method has changed."

    def _fail_next(self, session: Json, form: Json) -> str:
        self.engine.fail_payments(session["customer"], 1)
        return "The next payment will be declined."

    def _pay(self, session: Json, form: Json) -> str:
        invoice = self._own(session, "invoice", form.get("invoice", ""))
        self.engine.pay_invoice(invoice["id"])
        return "The invoice is paid. Thank you."

    # --- parts of the page

    def _subscription(self, token: str, sub: Json) -> str:
        item = sub["items"][0]
        price = self.world.get("price", item["price"])
        product = self.world.find("product", price["product"])
        name = product["name"] if product else "Plan"
        quantity = item.get("quantity")
        each = f"{quantity} × " if quantity and quantity > 1 else ""
        ends = sub["cancel_at"]
        moment = min(i["current_period_end"] for i in sub["items"])
        when = f"Ends on {html.day(ends)}" if ends else f"Renews on {html.day(moment)}"
        if sub["status"] == "trialing" and not ends:
            when = f"Trial until {html.day(sub['trial_end'])}"
        return (
            f'<section class="card"><h2>{text(name)} {badge(sub["status"])}</h2>'
            f"<p>{each}{amount(price['unit_amount'], price['currency'])} "
            f"{html.every(price['recurring'])}<br><span class='soft'>{when}</span></p>"
            f"{self._plan_form(token, sub, item, price)}{self._ending(token, sub)}</section>"
        )

    def _plan_form(self, token: str, sub: Json, item: Json, current: Json) -> str:
        state = self.world.state
        offered = [state.objects[key] for key in state.of_kind("price")]
        options = "".join(
            f'<option value="{price["id"]}"'
            f"{' selected' if price is current else ''}>{self._offer(price)}</option>"
            for price in offered
            if price is current
            or (price["active"] and price["recurring"] and price["currency"] == sub["currency"])
        )
        return (
            f'<form method="post" action="/p/session/{token}/change">'
            f'{html.hidden(subscription=sub["id"])}<div class="row">'
            f'<label>Plan<select name="price">{options}</select></label>'
            '<label style="flex:0 1 7rem">Quantity<input type="number" name="quantity" min="1" '
            f'max="10000" value="{item.get("quantity", 1)}"></label>'
            '<button type="submit" class="primary">Change plan</button></div></form>'
        )

    def _offer(self, price: Json) -> str:
        product = self.world.find("product", price["product"])
        name = text(product["name"]) if product else price["id"]
        cost = amount(price["unit_amount"], price["currency"])
        return f"{name}, {cost} {html.every(price['recurring'])}"

    def _ending(self, token: str, sub: Json) -> str:
        base, named = f"/p/session/{token}", {"subscription": sub["id"]}
        buttons = []
        if sub["status"] == "paused" or sub["cancel_at"]:
            buttons.append(button(f"{base}/resume", "Keep my plan", fields=named))
        if not sub["cancel_at"]:
            buttons.append(
                button(f"{base}/cancel", "Cancel at the end of the period", fields=named)
            )
        buttons.append(button(f"{base}/cancel_now", "Cancel now", style="danger", fields=named))
        return f'<div class="row" style="margin-top:1rem">{"".join(buttons)}</div>'

    def _method(self, token: str, customer: Json) -> str:
        held = list(self.world.state.each("subscription", "customer", customer["id"]))
        live = next((sub for sub in held if sub["status"] in SHOWN), None)
        current = methods.label(methods.default_for(self.world, customer, live))
        options = "".join(
            f'<option value="{value}">{name} ({effect})</option>'
            for value, name, effect in (
                *html.METHODS[:3],
                (FAILING, "Visa •••• 0341", "fails the next payments"),
                *html.METHODS[5:],
            )
        )
        base = f"/p/session/{token}"
        return (
            f'<section class="card"><h2>Payment method</h2><p>{text(current)}</p>'
            f'<form method="post" action="{base}/method"><div class="row">'
            f'<label>Use another<select name="method">{options}</select></label>'
            '<button type="submit">Save</button></div></form>'
            f'<div style="margin-top:.6rem">{button(f"{base}/fail_next", "Fail the next payment")}'
            "</div></section>"
        )

    def _invoices(self, token: str, customer: Json) -> str:
        held = list(self.world.state.each("invoice", "customer", customer["id"]))[::-1]
        rows = []
        for invoice in held[:24]:
            pay = ""
            if invoice["status"] == "open":
                pay = button(f"/p/session/{token}/pay", "Pay", fields={"invoice": invoice["id"]})
            number = text(invoice["number"] or "Draft")
            rows.append(
                f'<tr><td><a href="/i/{invoice["id"]}">{number}</a></td>'
                f"<td>{html.day(invoice['created'])}</td><td>{badge(invoice['status'])} {pay}</td>"
                f'<td class="number">{amount(invoice["total"], invoice["currency"])}</td></tr>'
            )
        listed = html.table(("Invoice", "Date", "Status", "Amount#"), rows, "No invoices yet.")
        return f'<section class="card"><h2>Invoices</h2>{listed}</section>'

    def _ended(self, ended: list[Json]) -> str:
        if not ended:
            return ""
        rows = [
            f"<tr><td><code>{sub['id']}</code></td><td>{badge(sub['status'])}</td>"
            f"<td>{html.day(sub['ended_at'])}</td></tr>"
            for sub in ended[::-1]
        ]
        listed = html.table(("Subscription", "Status", "Ended"), rows, "")
        return f'<section class="card"><h2>Past plans</h2>{listed}</section>'


def _later(rules: Json) -> bool:
    conditions = (rules.get("schedule_at_period_end") or {}).get("conditions") or []
    return any(condition["type"] == "decreasing_item_amount" for condition in conditions)
