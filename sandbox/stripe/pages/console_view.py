"""What the console shows."""

from typing import TYPE_CHECKING, Any

from sandbox.stripe.billing import refunds, renewals
from sandbox.stripe.pages import html
from sandbox.stripe.pages.html import amount, badge, button, text

if TYPE_CHECKING:
    from sandbox.stripe.service import Service

Json = dict[str, Any]

DAY = 86_400
ROWS = 25
ENDED = ("canceled", "incomplete_expired")


class ConsoleView:
    def __init__(self, service: "Service") -> None:
        self.service = service
        self.world = service.world

    def body(self) -> str:
        return (
            "<h1>Stripe stand-in</h1>"
            f'<div class="columns">{self._clock()}{self._settings()}</div>'
            f"{self._customers()}{self._sessions()}{self._charges()}"
            f"{self._switches()}{self._deliveries()}{self._events()}{self._prices()}"
        )

    def _newest(self, kind: str, count: int = ROWS) -> list[Json]:
        state = self.world.state
        return [state.objects[key] for key in state.of_kind(kind)[-count:][::-1]]

    def _press(self, action: str, label: str, **fields: object) -> str:
        token = self.service.console_token
        return button(f"/console/{action}", label, fields={"token": token, **fields})

    def _clock(self) -> str:
        due = self.world.next_due()
        ahead = f"Next by itself: {html.instant(due)}" if due else "Nothing is planned."
        buttons = "".join(
            self._press("advance", label, seconds=seconds)
            for label, seconds in (
                ("An hour on", 3600), ("A day on", DAY), ("A week on", 7 * DAY),
                ("A month on", 31 * DAY),
            )
        )  # fmt: skip
        return (
            f'<section class="card"><h2>Clock</h2><p>{html.instant(self.world.now())}<br>'
            f'<span class="soft">{ahead}</span></p><div class="row">{buttons}</div></section>'
        )

    def _settings(self) -> str:
        rules = self.world.behaviour
        options = "".join(
            f'<option value="{value}"{" selected" if rules.dunning_end == value else ""}>'
            f"{label}</option>"
            for value, label in (
                ("cancel", "cancel it"), ("unpaid", "mark it unpaid"), ("past_due", "leave it"),
            )
        )  # fmt: skip
        return (
            '<section class="card"><h2>Billing settings</h2>'
            '<form method="post" action="/console/settings">'
            f'{html.hidden(token=self.service.console_token)}<div class="row">'
            f'<label>After the last retry<select name="dunning_end">{options}</select></label>'
            '<label>Renewal stays draft (s)<input type="number" name="draft_seconds" min="0" '
            f'value="{rules.draft_seconds}"></label><button type="submit">Save</button></div>'
            "</form></section>"
        )

    def _customers(self) -> str:
        rows = []
        for customer in self._newest("customer"):
            if customer.get("deleted"):
                continue
            held = list(self.world.state.each("subscription", "customer", customer["id"]))
            plans = "<br>".join(self._plan(sub) for sub in held[-3:]) or "–"
            buttons = self._press("portal", "Portal", customer=customer["id"])
            buttons += self._press("fail_next", "Fail next payment", customer=customer["id"])
            for sub in held:
                if sub["status"] not in (*ENDED, "incomplete", "paused"):
                    buttons += self._press(
                        "past_renewal", "To the period's end", subscription=sub["id"]
                    )
            failing = self.world.failures_left(customer["id"])
            note = f"<br><span class='badge bad'>next {failing} fail</span>" if failing else ""
            rows.append(
                f"<tr><td>{text(customer['email'] or '–')}<br><code>{customer['id']}</code>{note}"
                f"</td><td>{plans}</td><td>{buttons}</td></tr>"
            )
        heads = ("Customer", "Subscriptions", "Actions")
        return self._section("Customers", html.table(heads, rows, "Nobody yet."))

    def _plan(self, sub: Json) -> str:
        names = []
        for item in sub["items"]:
            price = self.world.get("price", item["price"])
            product = self.world.find("product", price["product"])
            names.append(text(product["name"] if product else price["id"]))
        when = "" if sub["status"] in ENDED else f" until {html.day(renewals.period_end(sub))}"
        return f"{', '.join(names)} {badge(sub['status'])}{when}"

    def _sessions(self) -> str:
        rows = []
        for session in self._newest("checkout.session", 10):
            link = "–"
            if session["url"]:
                link = f'<a href="/c/pay/{session["id"]}">Open the page</a>'
            total = amount(session["amount_total"], session["currency"])
            rows.append(
                f"<tr><td><code>{session['id'][:24]}…</code></td><td>{badge(session['status'])}</td>"
                f"<td>{text(session['payment_status'])}</td><td>{link}</td>"
                f'<td class="number">{total}</td></tr>'
            )
        heads = ("Checkout", "Status", "Payment", "Page", "Total#")
        return self._section("Checkout sessions", html.table(heads, rows, "None yet."))

    def _charges(self) -> str:
        rows = []
        for charge in self._newest("charge"):
            status = "refunded" if charge["refunded"] else charge["status"]
            rows.append(
                f"<tr><td><code>{charge['id']}</code></td><td>{badge(status)}</td>"
                f"<td>{html.day(charge['created'])}</td>"
                f'<td class="number">{amount(charge["amount"], charge["currency"])}</td>'
                f"<td>{self._charge_buttons(charge)}</td></tr>"
            )
        heads = ("Charge", "Status", "Date", "Amount#", "Actions")
        return self._section("Charges", html.table(heads, rows, "No money has moved."))

    def _charge_buttons(self, charge: Json) -> str:
        if charge["status"] == "pending":
            intent = charge["payment_intent"]
            return self._press(
                "settle", "Bank pays", intent=intent, outcome="succeeded"
            ) + self._press("settle", "Bank returns it", intent=intent, outcome="failed")
        if charge["status"] != "succeeded":
            return ""
        buttons = ""
        if not charge["refunded"]:
            buttons += self._press("refund", "Refund", charge=charge["id"])
        disputes = list(self.world.state.each("dispute", "charge", charge["id"]))
        if not disputes:
            buttons += self._press("dispute", "Dispute", charge=charge["id"])
            buttons += self._press("warn", "Fraud warning", charge=charge["id"])
        for dispute in disputes:
            if dispute["status"] in refunds.OPEN:
                for status in ("won", "lost"):
                    buttons += self._press(
                        "dispute_close", f"Dispute {status}", dispute=dispute["id"], status=status
                    )
        return buttons

    def _switches(self) -> str:
        now = self.service.queue.faults
        numbers = (
            ("duplicate", "Duplicate (0–1)", now.duplicate),
            ("drop", "Drop (0–1)", now.drop),
            ("delay_from", "Delay from (s)", now.delay[0]),
            ("delay_to", "Delay to (s)", now.delay[1]),
        )
        fields = "".join(
            f'<label>{label}<input type="number" name="{name}" min="0" step="any" '
            f'value="{value:g}"></label>'
            for name, label, value in numbers
        )
        boxes = "".join(
            f'<label class="check"><input type="checkbox" name="{name}" value="on"'
            f"{' checked' if on else ''}>{label}</label>"
            for name, label, on in (
                ("reorder", "Reorder", now.reorder),
                ("paused", "Paused", now.paused),
            )
        )
        return self._section(
            "How events are delivered",
            f'<form method="post" action="/console/switches">'
            f'{html.hidden(token=self.service.console_token)}<div class="row">{fields}{boxes}'
            '<button type="submit">Apply</button></div></form>',
        )

    def _deliveries(self) -> str:
        counts = self.service.queue.counts()
        said = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in counts.items())
        rows = []
        for delivery in self.service.queue.log(limit=ROWS):
            last = delivery["attempts"][-1] if delivery["attempts"] else None
            answer = "–"
            if last:
                took = f"{last['milliseconds']:.0f} ms"
                answer = f"{last['status'] or text(last['error'])}, {took}"
            rows.append(
                f'<tr><td><a href="/events/{delivery["event"]}">{text(delivery["type"])}</a></td>'
                f"<td>{badge(delivery['state'])}</td><td>{answer}</td>"
                f'<td class="number">{len(delivery["attempts"])}</td>'
                f"<td>{self._press('redeliver', 'Again', event=delivery['event'])}</td></tr>"
            )
        heads = ("Event", "State", "Last answer", "Attempts#", "Actions")
        listed = html.table(heads, rows, "Nothing has been delivered.")
        return self._section("Deliveries", f'<p class="soft">{said}</p>{listed}')

    def _events(self) -> str:
        rows = []
        for event, _ in zip(self.world.log.newest_first(), range(ROWS), strict=False):
            rows.append(
                f'<tr><td><a href="/events/{event.id}">{text(event.type)}</a></td>'
                f"<td>{html.instant(event.created)}</td><td><code>{event.id}</code></td></tr>"
            )
        listed = html.table(("Event", "Moment", "Id"), rows, "Nothing has happened.")
        return self._section(f"Events ({len(self.world.log)})", listed)

    def _prices(self) -> str:
        rows = []
        for price in self._newest("price", 50):
            product = self.world.find("product", price["product"])
            cost = amount(price["unit_amount"], price["currency"])
            cost += f" {html.every(price['recurring'])}"
            state = badge("active") if price["active"] else badge("archived")
            rows.append(
                f"<tr><td>{text(product['name'] if product else '–')}</td><td>{cost}</td>"
                f"<td>{state}</td><td>{text(price['lookup_key'] or '–')}</td>"
                f"<td><code>{price['id']}</code></td></tr>"
            )
        heads = ("Product", "Price", "State", "Lookup key", "Id")
        return self._section("Prices", html.table(heads, rows, "No prices yet."))

    def _section(self, title: str, body: str) -> str:
        return f'<section class="card"><h2>{text(title)}</h2>{body}</section>'
