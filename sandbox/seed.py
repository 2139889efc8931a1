"""People to be from the first minute on: a member of staff and a customer of each plan.

Everyone comes in by the door that real people use: signed up at Firebase's stand-in, subscribed
at Stripe's, from where webhooks tell the product. Repeatable: nobody is made twice.
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
    token = sign_in(email)
    user_id = first_visit(token)
    if plan != "free":
        subscribe(user_id, email, plan)
    return {"email": email, "password": PASSWORD, "plan": plan}


def sign_in(email: str) -> str:
    """A fresh ID token; the person is created first where there is none."""
    from django.conf import settings

    base, key = settings.FIREBASE_AUTH_URL, settings.FIREBASE_API_KEY
    with httpx.Client(timeout=10) as http:
        person = {"email": email, "password": PASSWORD, "displayName": email.split("@")[0].title()}
        created = http.post(
            f"{base}/sandbox/users", json=person, headers={"Authorization": f"Bearer {key}"}
        )
        if created.is_error and "EMAIL_EXISTS" not in created.text:
            created.raise_for_status()
        answer = http.post(
            f"{base}/v1/accounts:signInWithPassword",
            params={"key": key},
            json={"email": email, "password": PASSWORD, "returnSecureToken": True},
        )
        answer.raise_for_status()
        return str(answer.json()["idToken"])


def first_visit(token: str) -> int:
    """Become a user of the product as the first request with this token would make one."""
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
    known = client.v1.customers.list({"email": email, "limit": 1}).data
    customer = (
        known[0] if known else client.v1.customers.create({"email": email, "metadata": metadata})
    )
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
