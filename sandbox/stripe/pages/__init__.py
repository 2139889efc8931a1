"""The pages that Stripe hosts: checkout, billing portal, invoices. And a console of our own.

Plain forms, no scripts. What a page does, a POST of the same fields does:

POST /c/pay/{session}              method (pm_card_…), email, name; answer (3-D Secure): passed,
                                   failed
POST /c/promotion/{session}        code
POST /p/session/{token}/{button}   cancel, cancel_now, resume (subscription); change (subscription,
                                   price, quantity); method (method); fail_next; pay (invoice)
POST /i/{invoice}                  method; answer
"""

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from sandbox.stripe.pages import html
from sandbox.stripe.pages.checkout import CheckoutPages
from sandbox.stripe.pages.console import ConsolePages
from sandbox.stripe.pages.html import Page
from sandbox.stripe.pages.invoice import InvoicePages
from sandbox.stripe.pages.portal import PortalPages

if TYPE_CHECKING:
    from sandbox.stripe.service import Service


class Pages:
    def __init__(self, service: "Service") -> None:
        self.world = service.world
        self.checkout = CheckoutPages(service.world)
        self.portal = PortalPages(service.engine)
        self.invoice = InvoicePages(service.world)
        self.console = ConsolePages(service)

    def handle(self, method: str, path: str, body: str) -> Page:
        form = dict(parse_qsl(body, keep_blank_values=True))
        with self.world.lock:
            page = self._route("GET" if method == "HEAD" else method, path, form)
            if method == "POST":
                self.world.run_due()
            return page

    def _route(self, method: str, path: str, form: dict[str, str]) -> Page:
        match (method, *path.strip("/").split("/")):
            case ("GET", ""):
                return self.console.show()
            case ("GET", "events", id):
                return self.console.event(id)
            case ("POST", "console", action):
                return self.console.act(action, form)
            case ("GET", "c", "pay", id):
                return self.checkout.show(id)
            case ("POST", "c", "pay", id):
                return self.checkout.pay(id, form)
            case ("POST", "c", "promotion", id):
                return self.checkout.promote(id, form)
            case ("GET", "p", "session", token):
                return self.portal.show(token)
            case ("POST", "p", "session", token, action):
                return self.portal.act(token, action, form)
            case ("GET", "i", id) | ("GET", "i", id, "pdf"):
                return self.invoice.show(id)
            case ("POST", "i", id):
                return self.invoice.pay(id, form)
        return html.missing("such page")
