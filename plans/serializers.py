"""The shapes of the billing API."""

from typing import Any

from rest_framework import serializers


class PriceOut(serializers.Serializer[Any]):
    id = serializers.CharField(source="stripe_price_id", help_text="Goes to checkout.")
    interval = serializers.ChoiceField(choices=["month", "year"])
    unit_amount = serializers.IntegerField(help_text="In the currency's smallest unit.")
    currency = serializers.CharField()


class PlanModelOut(serializers.Serializer[Any]):
    id = serializers.CharField(source="name")
    title = serializers.CharField()


class PlanOut(serializers.Serializer[Any]):
    code = serializers.CharField()
    name = serializers.CharField()
    description = serializers.CharField()
    rank = serializers.IntegerField(help_text="A higher rank includes more.")
    is_default = serializers.BooleanField(help_text="What everyone has without paying.")
    rpm = serializers.IntegerField(help_text="Requests per minute.")
    tpm = serializers.IntegerField(help_text="Tokens per minute.")
    max_parallel_requests = serializers.IntegerField()
    budget_cents = serializers.IntegerField(help_text="Usage included per month, US cents.")
    trial_days = serializers.IntegerField()
    models = PlanModelOut(source="available_models", many=True)
    prices = PriceOut(source="prices_on_sale", many=True)


class PlanListOut(serializers.Serializer[Any]):
    plans = PlanOut(many=True)


class PlanNameOut(serializers.Serializer[Any]):
    code = serializers.CharField()
    name = serializers.CharField()


class ModelOut(serializers.Serializer[Any]):
    id = serializers.CharField(help_text="Goes to the chat endpoint as the model.")
    title = serializers.CharField()
    provider = serializers.CharField()
    description = serializers.CharField()
    context_window = serializers.IntegerField(allow_null=True)
    available = serializers.BooleanField(help_text="The caller may use it now.")
    unlocked_by = PlanNameOut(
        allow_null=True, help_text="The lowest plan on sale that includes it, if not available."
    )


class ModelListOut(serializers.Serializer[Any]):
    models = ModelOut(many=True)


class SubscriptionPriceOut(serializers.Serializer[Any]):
    id = serializers.CharField(source="stripe_price_id")
    interval = serializers.CharField()
    unit_amount = serializers.IntegerField()
    currency = serializers.CharField()


class GraceOut(serializers.Serializer[Any]):
    since = serializers.DateTimeField()
    ends_at = serializers.DateTimeField()
    limit_percent = serializers.IntegerField(help_text="Of the plan's limits, until then.")


class PendingChangeOut(serializers.Serializer[Any]):
    kind = serializers.CharField()
    plan = PlanNameOut(allow_null=True)
    at = serializers.DateTimeField(allow_null=True)


class SubscriptionOut(serializers.Serializer[Any]):
    id = serializers.CharField()
    status = serializers.CharField()
    meaning = serializers.CharField(help_text="The status in a sentence.")
    plan = PlanNameOut(allow_null=True)
    price = SubscriptionPriceOut(allow_null=True)
    quantity = serializers.IntegerField()
    period_start = serializers.DateTimeField(allow_null=True)
    period_end = serializers.DateTimeField(allow_null=True)
    renews_at = serializers.DateTimeField(allow_null=True)
    ends_at = serializers.DateTimeField(allow_null=True)
    trial_end = serializers.DateTimeField(allow_null=True)
    pending_change = PendingChangeOut(allow_null=True)
    grace = GraceOut(allow_null=True)


class BillingOut(serializers.Serializer[Any]):
    organization = serializers.IntegerField(allow_null=True)
    plan = PlanNameOut(help_text="What the caller has now, from whatever source.")
    source = serializers.CharField()  # type: ignore[assignment]
    subscription = SubscriptionOut(allow_null=True)
    checkout = serializers.ChoiceField(
        choices=[
            "open",
            "activating",
            "awaiting_payment",
            "payment_failed",
            "completed",
            "expired",
        ],
        allow_null=True,
        help_text="What became of the checkout named by session_id, or of the latest one.",
    )
    can_manage = serializers.BooleanField(help_text="The portal has something to show.")


class BillingQuery(serializers.Serializer[Any]):
    organization = serializers.IntegerField(required=False, min_value=1, max_value=2**62)
    session_id = serializers.CharField(required=False, max_length=255)


class CheckoutIn(serializers.Serializer[Any]):
    price = serializers.CharField(max_length=255)
    organization = serializers.IntegerField(
        required=False, allow_null=True, min_value=1, max_value=2**62
    )
    quantity = serializers.IntegerField(
        required=False, default=1, min_value=1, max_value=10_000, help_text="Seats."
    )


class PortalIn(serializers.Serializer[Any]):
    organization = serializers.IntegerField(
        required=False, allow_null=True, min_value=1, max_value=2**62
    )


class AddressOut(serializers.Serializer[Any]):
    url = serializers.URLField(help_text="Send the browser there.")
