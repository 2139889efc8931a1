"""The Stripe stand-in: API, hosted pages, lifecycle engine and signed webhook delivery.

It speaks the 2026-10-28.endive shapes that the official `stripe` client of the product expects, so
that the product runs unchanged against it. `engine.StripeEngine` is the whole of it as a plain
Python object; `api.Api` puts Stripe's HTTP interface on top, `app.build_app` adds the pages, the
control interface and delivery, and `python -m sandbox.stripe` serves that.
"""
