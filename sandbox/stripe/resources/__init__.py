"""The API's resources: one module each, handlers registered with `routing.route`."""

import importlib

MODULES = (
    "account",
    "catalogue",
    "checkout",
    "coupons",
    "customers",
    "invoices",
    "meters",
    "payments",
    "portal",
    "schedules",
    "subscriptions",
)


def load_all() -> None:
    for name in MODULES:
        importlib.import_module(f"{__name__}.{name}")
