"""People to be from the first minute on: a member of staff and a customer of each plan.

Everyone comes in by the door that real people use: signed up at Firebase's stand-in, subscribed
at Stripe's, from where webhooks tell the product. Repeatable: nobody is made twice, whoever changed
their password has the one on the screen again, and whose account was closed comes as somebody new.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import django
import httpx
import stripe

PASSWORD = "tesslate-demo"
STAFF_EMAIL = "staff@example.com"
CUSTOMERS = {"free": "free@example.com", "plus": "plus@example.com", "pro": "pro@example.com"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="where to write who can sign in (JSON)")
    arguments = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tesslate.settings")
    django.setup()
    people = {
        "staff": seed_staff(),
        "users": [seed_customer(email, plan) for plan, email in CUSTOMERS.items()],
    }
    if arguments.output:
        arguments.output.write_text(json.dumps(people, indent=2))


def seed_staff() -> dict[str, str]:
    from accounts.models import User

    if not User.objects.filter(email=STAFF_EMAIL).exists():
        User.objects.create_superuser(STAFF_EMAIL, PASSWORD, display_name="Sam Staff")
    return {"email": STAFF_EMAIL, "password": PASSWORD}


def seed_customer(email: str, plan: str) -> dict[str, str]:
    """Sign up and, but for the free plan, subscribe."""
    from accounts.errors import AccountDeleted

    with Firebase() as firebase:
        uid = firebase.person(email)
        try:
            user_id = first_visit(firebase.token(uid))
        except AccountDeleted:
            firebase.remove(uid)
            user_id = first_visit(firebase.token(firebase.person(email)))
    if plan != "free":
        subscribe(user_id, email, plan)
    return {"email": email, "password": PASSWORD, "plan": plan}


class Firebase:
    """The stand-in's own routes for what a console can do."""

    def __enter__(self) -> "Firebase":
        from django.conf import settings

        self._http = httpx.Client(
            base_url=f"{settings.FIREBASE_AUTH_URL}/sandbox",
            headers={"Authorization": f"Bearer {settings.FIREBASE_API_KEY}"},
            timeout=10,
        )
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()

    def person(self, email: str) -> str:
        """The uid of whoever signs in with this address and the demo's password."""
        found = self._ask("GET", "/users", params={"email": email})["users"]
        if found:
            uid = str(found[0]["localId"])
            self._ask("PATCH", f"/users/{uid}", json={"password": PASSWORD, "disabled": False})
            return uid
        name = email.split("@")[0].title()
        new = {"email": email, "password": PASSWORD, "displayName": name}
        return str(self._ask("POST", "/users", json=new)["localId"])

    def token(self, uid: str) -> str:
        """A fresh ID token."""
        return str(self._ask("POST", f"/users/{uid}/tokens", json={})["idToken"])

    def remove(self, uid: str) -> None:
        self._ask("DELETE", f"/users/{uid}")

    def _ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        answer = self._http.request(method, path, **options)
        answer.raise_for_status()
        return dict(answer.json())


def first_visit(token: str) -> int:
    """Become a user of the product as the first request with this token would make one.

    Raises AccountDeleted.
    """
    from accounts.firebase import verify_id_token
    from accounts.signin import user_for_identity

    return user_for_identity(identity=verify_id_token(token)).pk


def subscribe(user_id: int, email: str, plan: str) -> None:
    """Make sure that Stripe holds a live monthly subscription of this plan for this user."""
    from django.conf import settings

    from plans.models import Price

    price = Price.objects.get(plan__code=plan, interval="month", archived_at=None)
    client = stripe.StripeClient(
        settings.STRIPE_SECRET_KEY, base_addresses={"api": settings.STRIPE_API_URL}
    )
    metadata: dict[str, Any] = {"user_id": str(user_id)}
    known = client.v1.customers.list({"email": email}).data
    customer = next(
        # Not one of a closed account, which had the same address.
        (one for one in known if one.to_dict().get("metadata") == metadata),
        None,
    ) or client.v1.customers.create({"email": email, "metadata": metadata})
    running = client.v1.subscriptions.list({"customer": customer.id, "limit": 1}).data
    if not running:
        client.v1.subscriptions.create(
            {
                "customer": customer.id,
                "items": [{"price": price.stripe_price_id or ""}],
                "metadata": metadata,
                "default_payment_method": "pm_card_visa",
            }
        )


if __name__ == "__main__":
    main()
