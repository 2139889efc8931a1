"""What staff can do for one customer: each act says beforehand what it will do, asks for a reason
where one is owed, and calls the service that also everyone else calls."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.utils import timezone

from accounts.models import User
from accounts.services import delete_account, reinstate_user, sign_out_everywhere, suspend_user
from llmkeys.models import VirtualKey
from llmkeys.rotation import revoke_key, rotate_key
from llmkeys.services import block_key, heal_key, reset_spend, unblock_key
from plans.grants import grant_plan
from plans.inbox import replay
from plans.models import Customer, Plan, StripeEvent
from plans.selectors import orphaned_by
from tesslate.lib.cause import Cause
from tesslate.staffroom import two_factor

LONGEST_GRANT_DAYS = 366


class ActionForm(forms.Form):
    """Nothing to fill in."""

    def __init__(self, *args: Any, customer: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.customer = customer
        self.prepare()

    def prepare(self) -> None:
        """Fit choices to the customer."""


class ReasonForm(ActionForm):
    reason = forms.CharField(
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="For the audit log: the next one will ask why.",
    )


class KeyField(forms.ModelChoiceField[VirtualKey]):
    def label_from_instance(self, key: VirtualKey) -> str:
        if key.lifecycle != VirtualKey.Lifecycle.RETIRING:
            return f"…{key.last_four} · {key.label}"
        end = f" until {key.retire_at:%d %B, %H:%M} UTC" if key.retire_at else ""
        return f"…{key.last_four} · {key.label}, replaced already, works{end}"


class KeyForm(ActionForm):
    key = KeyField(VirtualKey.objects.none(), empty_label=None)

    def prepare(self) -> None:
        field = self.fields["key"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = self.keys().filter(user=self.customer)

    def keys(self) -> QuerySet[VirtualKey]:
        """Those that it can be done to."""
        return VirtualKey.live.all()


class ActiveKeyForm(KeyForm):
    def keys(self) -> QuerySet[VirtualKey]:
        return VirtualKey.objects.filter(lifecycle=VirtualKey.Lifecycle.ACTIVE)


class KeyReasonForm(KeyForm, ReasonForm):
    field_order = ["key", "reason"]


class GrantForm(ReasonForm):
    plan = forms.ModelChoiceField(Plan.objects.filter(archived_at=None), empty_label=None)
    days = forms.IntegerField(
        min_value=1, max_value=LONGEST_GRANT_DAYS, initial=14, help_text="It ends by itself."
    )
    field_order = ["plan", "days", "reason"]


@dataclass(frozen=True, slots=True)
class Action:
    name: str
    label: str
    # What will happen, in full sentences.
    promise: str
    permission: str
    run: Callable[[User, dict[str, Any], Cause], str]
    form: type[ActionForm] = ActionForm
    # Hurts when done by mistake: the button is red.
    is_harsh: bool = False
    # Cannot be taken back, or takes everything away: asks for the password once more.
    is_grave: bool = False
    # What staff should know of this customer before, each in a sentence.
    warnings: Callable[[User], list[str]] = lambda customer: []

    def is_for(self, customer: User) -> bool:
        """Would it do anything to this customer?"""
        match self.name:
            case "suspend":
                return customer.suspended_at is None and customer.deleted_at is None
            case "reinstate":
                return customer.suspended_at is not None and customer.deleted_at is None
            case "sign-out":
                return not customer.is_staff
            case "remove-factor":
                return customer.is_staff and two_factor.has_device(customer)
            case "close":
                return customer.deleted_at is None and not customer.is_staff
            case _:
                return customer.deleted_at is None


def _grant(customer: User, data: dict[str, Any], cause: Cause) -> str:
    ends_at = timezone.now() + timedelta(days=data["days"])
    grant_plan(
        user=customer, plan=data["plan"], ends_at=ends_at, reason=data["reason"], cause=cause
    )
    return f"{data['plan']} granted until {ends_at:%d %B %Y}."


def _rotate(customer: User, data: dict[str, Any], cause: Cause) -> str:
    new = rotate_key(key=data["key"], cause=cause)
    return f"Key …{data['key'].last_four} is being replaced by …{new.last_four}."


def _block(customer: User, data: dict[str, Any], cause: Cause) -> str:
    block_key(key=data["key"], reason=data["reason"], cause=cause)
    return f"Key …{data['key'].last_four} is being blocked."


def _unblock(customer: User, data: dict[str, Any], cause: Cause) -> str:
    unblock_key(key=data["key"], cause=cause)
    return f"Key …{data['key'].last_four} is being put back into use."


def _revoke(customer: User, data: dict[str, Any], cause: Cause) -> str:
    key = data["key"]
    before = VirtualKey.live.filter(replaced_by=key).first()
    new = revoke_key(key=key, reason=data["reason"], cause=cause)
    gone = f"Key …{key.last_four} is being removed"
    if before is not None:
        gone += f", and with it …{before.last_four}, which it had replaced"
    return f"{gone}; …{new.last_four} takes its place." if new else f"{gone}."


def _reset(customer: User, data: dict[str, Any], cause: Cause) -> str:
    reset_spend(user=customer, reason=data["reason"], cause=cause)
    return "The budget of this period starts afresh."


def _resync(customer: User, data: dict[str, Any], cause: Cause) -> str:
    heal_key(user_id=customer.pk, cause=cause)
    return "The keys are being compared with the gateway."


def _replay(customer: User, data: dict[str, Any], cause: Cause) -> str:
    payer = Customer.objects.filter(user=customer).exclude(stripe_customer_id=None).first()
    if payer is None:
        return "There is no customer at Stripe, so there is no event."
    events = StripeEvent.objects.filter(stripe_customer_id=payer.stripe_customer_id or "")
    count = replay(events=events.only("pk"), cause=cause)
    return f"{count} event{'' if count == 1 else 's'} will be processed again."


def _suspend(customer: User, data: dict[str, Any], cause: Cause) -> str:
    suspend_user(user_id=customer.pk, reason=data["reason"], cause=cause)
    return f"{customer} may use no model until reinstated."


def _reinstate(customer: User, data: dict[str, Any], cause: Cause) -> str:
    reinstate_user(user_id=customer.pk, reason=data["reason"], cause=cause)
    return f"{customer} may use models again."


def _sign_out(customer: User, data: dict[str, Any], cause: Cause) -> str:
    sign_out_everywhere(user_id=customer.pk, cause=cause)
    return f"{customer} is signed out of every browser."


def _remove_factor(customer: User, data: dict[str, Any], cause: Cause) -> str:
    assert cause.actor_id is not None
    actor = User.objects.get(pk=cause.actor_id)
    two_factor.remove(customer, actor=actor)
    return f"{customer} signs in with the password alone until they set up a new device."


def _go_on_charging(customer: User) -> list[str]:
    """Staff may close the account all the same: who wants to be forgotten need not wait."""
    return [
        f"{subscription.stripe_subscription_id} of {subscription.customer} would go on charging "
        "with nobody left who can cancel it. Cancel it at Stripe first, and refund what is due."
        for subscription in orphaned_by(customer).select_related(
            "customer__user", "customer__organization"
        )
    ]


def _close(customer: User, data: dict[str, Any], cause: Cause) -> str:
    delete_account(user_id=customer.pk, reason=data["reason"], cause=cause)
    return "The account is closed and erased."


CHANGE_KEY = "llmkeys.change_virtualkey"
CHANGE_USER = "accounts.change_user"
ACTIONS: dict[str, Action] = {
    action.name: action
    for action in (
        Action(
            "grant",
            "Grant a plan",
            "The customer has this plan until the day given, free of charge, and falls back to "
            "what they pay for afterwards. A higher plan that they pay for still wins.",
            "plans.add_plangrant",
            _grant,
            GrantForm,
        ),
        Action(
            "resync",
            "Resync with the gateway",
            "Reads this customer's keys back from the gateway and puts right what differs. "
            "Nothing changes for the customer when all is well.",
            CHANGE_KEY,
            _resync,
        ),
        Action(
            "replay",
            "Replay Stripe events",
            "Processes all events about this customer once more. Each only makes us read "
            "Stripe's present state again, so repeating them is safe.",
            "plans.change_stripeevent",
            _replay,
        ),
        Action(
            "rotate",
            "Rotate a key",
            "Makes a new key and uses it at once. The old one goes on working for the overlap, "
            "then it is removed. Spend carries over.",
            CHANGE_KEY,
            _rotate,
            ActiveKeyForm,
        ),
        Action(
            "reset-limits",
            "Reset the budget",
            "What was spent in this period counts as nothing at the gateway. The ledger keeps "
            "every request, and we pay for what is used again.",
            CHANGE_KEY,
            _reset,
            ReasonForm,
        ),
        Action(
            "block",
            "Block a key",
            "The gateway refuses this key until it is unblocked. The customer's chats fail.",
            CHANGE_KEY,
            _block,
            KeyReasonForm,
            is_harsh=True,
        ),
        Action(
            "unblock",
            "Unblock a key",
            "The gateway accepts this key again, as far as plan and account allow.",
            CHANGE_KEY,
            _unblock,
            KeyForm,
        ),
        Action(
            "revoke",
            "Revoke a leaked key",
            "The gateway forgets this key at once and for good, and a probe proves it. A new key "
            "takes its place; there is no overlap.",
            CHANGE_KEY,
            _revoke,
            KeyReasonForm,
            is_harsh=True,
            is_grave=True,
        ),
        Action(
            "suspend",
            "Suspend the customer",
            "Every key is blocked. Signing in and paying go on as before.",
            CHANGE_USER,
            _suspend,
            ReasonForm,
            is_harsh=True,
            is_grave=True,
        ),
        Action(
            "reinstate",
            "Reinstate the customer",
            "The keys work again, as far as the plan allows.",
            CHANGE_USER,
            _reinstate,
            ReasonForm,
        ),
        Action(
            "sign-out",
            "Sign out everywhere",
            "Ends all browser sessions of this customer. Keys and API tokens go on working.",
            CHANGE_USER,
            _sign_out,
            is_harsh=True,
        ),
        Action(
            "close",
            "Close and erase for good",
            "Keys and sessions end, personal data is erased. The ledger stays, without a name. "
            "This cannot be taken back.",
            "accounts.delete_user",
            _close,
            ReasonForm,
            is_harsh=True,
            is_grave=True,
            warnings=_go_on_charging,
        ),
        Action(
            "remove-factor",
            "Remove the second factor",
            "For a colleague who lost device and recovery codes. Make sure that it is them who "
            "asks: call back, do not answer a mail.",
            "accounts.delete_user",
            _remove_factor,
            is_harsh=True,
            is_grave=True,
        ),
    )
}


def actions_for(staff: User, customer: User) -> list[Action]:
    return [
        action
        for action in ACTIONS.values()
        if staff.has_perm(action.permission) and action.is_for(customer)
    ]
