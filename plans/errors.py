"""What can go wrong in billing.

ApiError (for callers)
    UnknownPrice        400  unknown_price
    AlreadySubscribed   409  already_subscribed
    NothingToManage     409  no_billing_account
    SubscriptionRunning 409  subscription_running
    NotAnOwner          403  not_an_owner
    BillingUnavailable  503  billing_unavailable
    BillingRefused      502  billing_refused
StripeError (for workers and commands; see plans.stripe_client)
    StripeUnavailable   the outcome is unknown or it is Stripe's bad day: try again
    StripeRejected      Stripe understood and refused: trying again changes nothing
"""

from tesslate.lib.errors import ApiError, Conflict, InvalidRequest, PermissionDenied, Unavailable


class UnknownPrice(InvalidRequest):
    code = "unknown_price"
    message = "This price is not on sale."


class AlreadySubscribed(Conflict):
    code = "already_subscribed"
    message = "You have a subscription already. Change it in the billing portal."


class NothingToManage(Conflict):
    code = "no_billing_account"
    message = "There is nothing to manage yet: you have not bought anything."


class SubscriptionRunning(Conflict):
    code = "subscription_running"
    message = "Cancel your subscription first: a closed account could not stop its payments."


class NotAnOwner(PermissionDenied):
    code = "not_an_owner"
    message = "Only an owner of the organization may manage its billing."


class BillingUnavailable(Unavailable):
    code = "billing_unavailable"
    message = "The payment provider does not answer at the moment. Try again shortly."


class BillingRefused(ApiError):
    status_code = 502
    code = "billing_refused"
    message = "The payment provider refused the request. We have been told."


class OverageNotOffered(ApiError):
    status_code = 409
    type = "conflict_error"
    code = "overage_not_offered"
    message = "Your plan does not offer usage beyond what it includes."


class StripeError(Exception):
    """A call to Stripe did not succeed. The text is safe to log and to show to staff."""


class StripeUnavailable(StripeError):
    """No answer, a rate limit or a fault at Stripe: the outcome may be unknown. Try again."""


class StripeRejected(StripeError):
    """Stripe understood and refused. ``code`` is Stripe's own word, where it gave one."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code
