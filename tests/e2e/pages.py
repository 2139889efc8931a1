"""Every page of the product, for whoever looks at all of them."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.e2e.people import ask, choose_model, pay, say, sign_in, staff_sign_in
from tests.e2e.product import Product


@dataclass(frozen=True, slots=True)
class Place:
    name: str
    path: str
    who: str = ""  # nobody, a plan's demo user, or staff
    # Brings the page into the state that is looked at.
    act: Callable[[Page], object] = lambda page: None


def press(name: str) -> Callable[[Page], object]:
    return lambda page: page.get_by_role("button", name=name).first.click()


def fail_to_sign_in(page: Page) -> None:
    page.get_by_label("E-mail address").fill("not an address")
    press("Sign in")(page)


def see_usage(page: Page) -> None:
    expect(page.locator("[data-usage]")).to_contain_text("This period")


def talk(page: Page) -> None:
    ask(page, "Write the code of a button, and list why it is like that")


def open_models(page: Page) -> None:
    page.evaluate("document.querySelector('[data-side]').open = true")


def be_refused(page: Page) -> None:
    open_models(page)  # on a phone they are folded away
    choose_model(page, "groq-llama-3.1-405b")
    say(page, "And the large one?")
    expect(page.get_by_role("button", name="Ask again")).to_be_visible()


def send_a_stale_form(page: Page) -> None:
    page.evaluate("document.querySelector('[name=csrfmiddlewaretoken]').value = 'stale'")
    press("Sign out")(page)


SITE = [
    Place("pricing", "/"),
    Place("pricing-yearly", "/?interval=year"),
    Place("checkout-left", "/?checkout=canceled"),
    Place("sign-in", "/sign-in"),
    Place("sign-in-expired", "/sign-in?expired=1&next=/account"),
    Place("sign-in-failed", "/sign-in", act=fail_to_sign_in),
    Place("sign-up", "/sign-up"),
    Place("reset-password", "/reset-password"),
    Place("new-password", "/reset-password?oobCode=used"),
    Place("confirm-address", "/reset-password?mode=verifyEmail&oobCode=used"),
    Place("not-found", "/nowhere"),
    Place("pricing-signed-in", "/", "plus"),
    Place("account-free", "/account", "free"),
    Place("account-pro", "/account", "pro"),
    Place("account-why", "/account", "pro", lambda page: page.get_by_text("Why this").click()),
    Place("new-token", "/account", "pro", press("New token")),
    Place("rotate-key", "/account", "pro", press("Rotate")),
    Place("delete-account", "/account", "pro", press("Delete my account")),
    Place("new-organization", "/account", "free", press("New organization")),
    Place("organization", "/organizations/{organization}", "pro"),
    Place("invite", "/organizations/{organization}", "pro", press("Invite somebody")),
    Place("team", "/organizations/{team}", "pro"),
    Place("team-overage", "/organizations/{team}", "pro", press("Change")),
    Place("account-overage", "/account", "pro", press("Change")),
    Place("leave-organization", "/organizations/{organization}", "pro", press("Leave")),
    Place("organization-of-others", "/organizations/{organization}", "free"),
    Place("stale-form", "/account", "plus", send_a_stale_form),
    Place("playground", "/playground", "free", see_usage),
    Place("models", "/playground", "plus", open_models),
    Place("conversation", "/playground", "plus", talk),
    Place("refusal", "/playground", "free", be_refused),
]
STAFF_DOORS = [Place("staff-login", "/admin/login/")]
STAFF = [
    Place("staff-home", "/admin/", "staff"),
    Place("staff-customer", "/admin/customers/{customer}", "staff"),
    Place("staff-view-as", "/admin/customers/{customer}/view", "staff"),
    Place("staff-grant", "/admin/customers/{customer}/do/grant", "staff"),
    Place("staff-suspend", "/admin/customers/{customer}/do/suspend", "staff"),
    Place("staff-organization", "/admin/organizations/{organization}", "staff"),
    Place("staff-mend", "/admin/mend/dead-events", "staff"),
    Place("staff-jobs", "/admin/jobs", "staff"),
    Place("staff-prompt-editor", "/admin/chatproxy/systemprompt/add/", "staff"),
    Place("staff-prompt-preview", "/admin/chatproxy/systemprompt/preview", "staff"),
    Place("staff-plan-matrix", "/admin/plan-matrix", "staff"),
    Place("staff-plan-limits", "/admin/plans/{plan}/limits", "staff"),
    Place("staff-map-price", "/admin/map-price/price_unknown", "staff"),
    Place("staff-margin", "/admin/margin", "staff"),
    Place("staff-what-if", "/admin/what-if", "staff"),
    Place("staff-usage-differences", "/admin/usage-differences", "staff"),
    Place("staff-security", "/admin/security", "staff"),
    Place("staff-enrol", "/admin/two-factor/enrol", "staff"),
    Place("staff-password", "/admin/password_change/", "staff"),
]
LISTS = {
    "users": "accounts/user",
    "organizations": "accounts/organization",
    "audit-log": "accounts/auditentry",
    "grants": "plans/plangrant",
    "subscriptions": "plans/subscription",
    "stripe-events": "plans/stripeevent",
    "problems": "plans/billingproblem",
    "plans": "plans/plan",
    "models": "plans/gatewaymodel",
    "prices": "plans/price",
    "prompts": "chatproxy/systemprompt",
    "requests": "chatproxy/chatrequest",
    "keys": "llmkeys/virtualkey",
    "plans-at-gateway": "llmkeys/planatgateway",
    "kill-switches": "llmkeys/killswitch",
    "key-history": "llmkeys/keyevent",
    "throttles": "plans/throttle",
    "comparisons": "plans/billingreconciliation",
    "usage": "llmkeys/usageentry",
}
STAFF += [Place(f"staff-{name}", f"/admin/{path}/", "staff") for name, path in LISTS.items()]
STAFF += [
    Place("staff-plan", "/admin/plans/plan/{plan}/change/", "staff"),
    Place("staff-kill-switch", "/admin/llmkeys/killswitch/add/", "staff"),
    Place("staff-compare", "/admin/plans/billingreconciliation/start/", "staff"),
    Place("staff-key", "/admin/llmkeys/virtualkey/{key}/change/", "staff"),
]


class Visitors:
    """One signed-in browser context for each kind of visitor, made when first needed."""

    def __init__(self, browser: Browser, product: Product, width: int, scheme: str) -> None:
        self.browser, self.product = browser, product
        self.width, self.scheme = width, scheme
        self.contexts: dict[str, BrowserContext] = {}

    def of(self, who: str) -> BrowserContext:
        if who not in self.contexts:
            context = self.browser.new_context(
                base_url=self.product.web,
                viewport={"width": self.width, "height": 900},
                color_scheme="dark" if self.scheme == "dark" else "light",
            )
            page = context.new_page()
            if who == "staff":
                staff_sign_in(page, self.product)
            elif who:
                user = self.product.users[who]
                sign_in(page, user["email"], user["password"])
            page.close()
            self.contexts[who] = context
        return self.contexts[who]

    def close(self) -> None:
        for context in self.contexts.values():
            context.close()


def addresses(visitors: Visitors) -> dict[str, str]:
    """Ids of things that there are in every copy, read off the lists."""
    page = visitors.of("staff").new_page()
    found = {}
    page.goto("/admin/llmkeys/virtualkey/?o=-1")
    found["key"] = _last_id(page.locator("a[href*='/llmkeys/virtualkey/']").all())
    page.goto("/admin/plans/plan/")
    found["plan"] = _last_id(page.locator("a[href*='/plans/plan/']").all())
    email = visitors.product.users["pro"]["email"]
    page.goto(f"/admin/search/?s={email}&extended=1")
    address = page.locator("a[href*='/admin/customers/']").first.get_attribute("href") or ""
    found["customer"] = address.rstrip("/").split("/")[-1]
    page.close()
    found["organization"] = str(organization_of(visitors.of("pro")))
    allow_overage(visitors.of("staff"), "Pro")
    found["team"] = str(team_of(visitors.of("pro")))
    return found


def allow_overage(context: BrowserContext, plan: str) -> None:
    page = context.new_page()
    page.goto("/admin/plans/plan/")
    page.get_by_role("link", name=plan, exact=True).click()
    page.get_by_label("Paid overage allowed").check()
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/admin/plans/plan/")
    page.close()


def team_of(context: BrowserContext) -> int:
    """An organization of this visitor that pays for seats, made when there is none."""
    page = context.new_page()
    page.goto("/account")
    found: int = page.evaluate(
        """async () => {
          const { call } = await import("/static/site/api.js");
          const { organizations } = await call("GET", "/api/organizations");
          const team = organizations.find(({ name }) => name === "Team");
          return (team || (await call("POST", "/api/organizations", { name: "Team" }))).id;
        }"""
    )
    page.goto(f"/organizations/{found}")
    if page.get_by_role("button", name="Check out").count():
        page.get_by_label("Plan", exact=True).select_option(label="Pro, $99 a month and seat")
        page.get_by_label("Seats", exact=True).fill("2")
        page.get_by_role("button", name="Check out").click()
        page.wait_for_url(re.compile("checkout|/c/pay"))
        pay(page)
        expect(page.get_by_text("of 2 taken")).to_be_visible()
    page.close()
    return found


def organization_of(context: BrowserContext) -> int:
    """One that this visitor owns, made when there is none."""
    page = context.new_page()
    page.goto("/account")
    found: int = page.evaluate(
        """async () => {
          const { call } = await import("/static/site/api.js");
          const { organizations } = await call("GET", "/api/organizations");
          const other = organizations.find(({ name }) => name !== "Team");
          if (other) return other.id;
          const made = await call("POST", "/api/organizations", { name: "Pro & Partners" });
          const to = { email: "partner@example.com", role: "member" };
          await call("POST", `/api/organizations/${made.id}/invitations`, to);
          return made.id;
        }"""
    )
    page.close()
    return found


def _last_id(links: list) -> str:  # type: ignore[type-arg]  # Playwright's own list
    for link in reversed(links):
        parts = (link.get_attribute("href") or "").split("?")[0].strip("/").split("/")
        if "change" in parts and parts[parts.index("change") - 1].isdigit():
            return str(parts[parts.index("change") - 1])
    raise LookupError("The list is empty")
