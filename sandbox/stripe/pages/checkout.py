"""The hosted checkout page."""

from typing import TYPE_CHECKING, Any

from sandbox.stripe.billing import checkout
from sandbox.stripe.billing.methods import TEST_METHODS
from sandbox.stripe.errors import ApiError, CardDeclined
from sandbox.stripe.pages import html
from sandbox.stripe.pages.html import Page, amount, text

if TYPE_CHECKING:
    from sandbox.stripe.world import World

Json = dict[str, Any]


class CheckoutPages:
    def __init__(self, world: "World") -> None:
        self.world = world

    def show(
        self, id: str, *, error: str = "", form: Json | None = None, status: int = 200
    ) -> Page:
        session = self.world.find("checkout.session", id)
        if session is None:
            return html.missing("such checkout")
        if session["status"] != "open":
            return self._closed(session)
        body = (
            f'<div class="columns">{self._summary(session)}'
            f"{self._payment(session, form or {})}</div>"
        )
        nav = ""
        if session["cancel_url"]:
            nav = f'<a href="{text(session["cancel_url"])}">Cancel and go back</a>'
        return html.page("Checkout", body, kind="checkout", nav=nav, error=error, status=status)

    def pay(self, id: str, form: Json) -> Page:
        """Pay, as the form on the page does: `method`, `email`, `name`."""
        session = self.world.find("checkout.session", id)
        if session is None:
            return html.missing("such checkout")
        method = form.get("method", "pm_card_visa")
        if method not in TEST_METHODS:
            return self.show(id, error="Choose one of the test methods.", form=form, status=400)
        if not session["customer"] and not (form.get("email") or session["customer_email"]):
            return self.show(id, error="Enter your e-mail address.", form=form, status=400)
        try:
            with self.world.transaction():
                checkout.complete(
                    self.world,
                    session,
                    method=method,
                    email=form.get("email"),
                    name=form.get("name"),
                    passed=form.get("answer") == "passed",
                )
        except CardDeclined as refusal:
            if refusal.code == "authentication_required":
                return self._authenticate(session, method, form)
            return self.show(id, error=refusal.message, form=form, status=402)
        except ApiError as refusal:
            return self.show(id, error=refusal.message, form=form, status=refusal.status)
        return self._onwards(session)

    def promote(self, id: str, form: Json) -> Page:
        session = self.world.find("checkout.session", id)
        if session is None:
            return html.missing("such checkout")
        typed = str(form.get("code", ""))
        try:
            with self.world.transaction():
                known = checkout.enter_code(self.world, session, typed)
        except ApiError as refusal:
            return self.show(id, error=refusal.message, status=refusal.status)
        if not known:
            return self.show(id, error=f"The code {typed} is invalid.", status=400)
        return html.redirect(f"/c/pay/{id}")

    # --- parts

    def _authenticate(self, session: Json, method: str, form: Json) -> Page:
        if form.get("answer") == "failed":
            problem = "We could not authenticate your card. Choose another payment method."
            return self.show(session["id"], error=problem, form=form, status=402)
        fields = {"method": method, "email": form.get("email", ""), "name": form.get("name", "")}
        body = html.authentication(f"/c/pay/{session['id']}", "Tesslate sandbox", **fields)
        return html.page("Authentication", body)

    def _onwards(self, session: Json) -> Page:
        if session["success_url"]:
            return html.redirect(
                session["success_url"].replace(checkout.PLACEHOLDER, session["id"])
            )
        return self._closed(session)

    def _closed(self, session: Json) -> Page:
        if session["status"] == "expired":
            back = session["cancel_url"]
            said = "This checkout has expired. Start again where you came from."
        else:
            back = (session["success_url"] or "").replace(checkout.PLACEHOLDER, session["id"])
            said = "This checkout is complete. Thank you."
        link = f'<p><a class="button" href="{text(back)}">Go back</a></p>' if back else ""
        body = f'<div class="card"><h1>All done here</h1><p>{said}</p>{link}</div>'
        return html.page("Checkout", body)

    def _summary(self, session: Json) -> str:
        if session["mode"] == "setup":
            return '<section class="card"><h1>Save a payment method</h1></section>'
        currency = session["currency"]
        lines = session["_line_items"]
        rows = "".join(
            f"<dt>{text(line['description'])}"
            f'<span class="hint">{line["quantity"]} × {self._unit(line)}</span></dt>'
            f"<dd>{amount(line['amount_subtotal'], currency)}</dd>"
            for line in lines
        )
        off = session["total_details"]["amount_discount"]
        if off:
            rows += (
                f"<dt>Discount ({text(self._code(session))})</dt><dd>−{amount(off, currency)}</dd>"
            )
        heading = "Subscribe to" if session["mode"] == "subscription" else "Pay for"
        return (
            '<section class="card" aria-labelledby="what">'
            f'<h1 id="what">{heading} {text(lines[0]["description"])}</h1>'
            f'<p class="amount">{amount(self._regular(lines), currency)} '
            f'<span class="soft" style="font-size:1rem">{self._rhythm(lines)}</span></p>'
            f'{self._trial(session)}<dl class="sums">{rows}<dt class="total">Total due today</dt>'
            f'<dd class="total">{amount(session["amount_total"], currency)}</dd></dl>'
            f"{self._promotion(session)}</section>"
        )

    def _price(self, line: Json) -> Json:
        return self.world.get("price", line["price"])

    def _unit(self, line: Json) -> str:
        price = self._price(line)
        return f"{amount(price['unit_amount'], price['currency'])} {html.every(price['recurring'])}"

    def _rhythm(self, lines: list[Json]) -> str:
        rhythms = [html.every(self._price(line)["recurring"]) for line in lines]
        return next((rhythm for rhythm in rhythms if rhythm), "")

    def _regular(self, lines: list[Json]) -> int:
        return sum(
            (self._price(line)["unit_amount"] or 0) * (line["quantity"] or 0) for line in lines
        )

    def _trial(self, session: Json) -> str:
        days = checkout.trial_days(session)
        return f"<p>{days} days free, then billed. Cancel any time.</p>" if days else ""

    def _code(self, session: Json) -> str:
        entry = session["_discounts"][0]
        if entry.get("promotion_code"):
            code: str = self.world.get("promotion_code", entry["promotion_code"])["code"]
            return code
        return str(entry["coupon"])

    def _promotion(self, session: Json) -> str:
        if not session["allow_promotion_codes"]:
            return ""
        held = self._code(session) if session["_discounts"] else ""
        label = "Apply" if not held else "Change"
        return (
            f'<form method="post" action="/c/promotion/{session["id"]}"><div class="row" '
            'style="margin-top:1rem"><label>Promotion code'
            f'<input type="text" name="code" value="{text(held)}" autocomplete="off"></label>'
            f'<button type="submit">{label}</button></div></form>'
        )

    def _payment(self, session: Json, form: Json) -> str:
        customer = self.world.find("customer", session["customer"])
        email = (customer or {}).get("email") or session["customer_email"] or form.get("email", "")
        fixed = " readonly" if customer else " required"
        return (
            '<section class="card" aria-labelledby="how"><h2 id="how">Payment details</h2>'
            f'<form method="post" action="/c/pay/{session["id"]}">'
            f'<label>E-mail<input type="email" name="email" value="{text(email)}" '
            f'autocomplete="email"{fixed}></label>'
            f"{self._methods(session, form)}"
            f'<button type="submit" class="primary wide">{self._verb(session)}</button>'
            "</form></section>"
        )

    def _methods(self, session: Json, form: Json) -> str:
        if not checkout.needs_method(session):
            return "<p>Nothing is due today, and no payment method is needed.</p>"
        return html.method_choice(form.get("method", "pm_card_visa"))

    def _verb(self, session: Json) -> str:
        if session["mode"] == "setup":
            return "Save payment method"
        if session["mode"] == "subscription" and checkout.trial_days(session):
            return "Start trial"
        if session["mode"] == "subscription":
            return "Subscribe"
        return f"Pay {amount(session['amount_total'], session['currency'])}"
