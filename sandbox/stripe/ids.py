"""Identifiers that look like Stripe's. One seed gives one sequence, so that histories replay."""

import random

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

PREFIX = {
    "balance_transaction": "txn_1",
    "billing.meter": "mtr_test_61",
    "billing_portal.configuration": "bpc_1",
    "billing_portal.session": "bps_1",
    "charge": "ch_3",
    "checkout.session": "cs_test_a1",
    "coupon": "",
    "credit_note": "cn_1",
    "credit_note_line_item": "cnli_1",
    "customer": "cus_",
    "discount": "di_1",
    "dispute": "du_1",
    "event": "evt_1",
    "invoice": "in_1",
    "invoice_payment": "inpay_1",
    "invoiceitem": "ii_1",
    "item": "li_1",
    "line_item": "il_1",
    "payment_intent": "pi_3",
    "payment_method": "pm_1",
    "price": "price_1",
    "product": "prod_",
    "promotion_code": "promo_1",
    "radar.early_fraud_warning": "issfr_1",
    "refund": "re_3",
    "setup_intent": "seti_1",
    "subscription": "sub_1",
    "subscription_item": "si_",
    "subscription_schedule": "sub_sched_1",
    "test_helpers.test_clock": "clock_1",
    "webhook_endpoint": "we_1",
}
LENGTH = {"customer": 14, "product": 14, "subscription_item": 14, "coupon": 8,
          "checkout.session": 56}  # fmt: skip


class IdSource:
    def __init__(self, seed: int | None = None) -> None:
        self._random = random.Random(seed)

    def text(self, length: int) -> str:
        return "".join(self._random.choices(ALPHABET, k=length))

    def new(self, kind: str) -> str:
        # Hexadecimal, not the whole alphabet: ten times as fast, and ids are made all the time.
        length = LENGTH.get(kind, 22)
        return f"{PREFIX[kind]}{self._random.getrandbits(4 * length):0{length}x}"
