"""People: found by whatever staff have of them, suspended and reinstated for a reason."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from accounts.errors import LastOwner
from accounts.models import User
from accounts.services import delete_account, reinstate_user, suspend_user
from accounts.signals import accounts_changed
from tesslate.lib.adminlists import DaysFilter
from tesslate.lib.reauthentication import AsksPassword, bound_to
from tesslate.lib.staffactions import asks, given_reason, staff_cause


class NewUserForm(UserCreationForm):  # type: ignore[misc]
    class Meta:
        model = User
        fields = ["email"]

    def clean_email(self) -> str:
        return str(self.cleaned_data["email"]).lower()


# What makes somebody a colleague, and how powerful a one.
POWERS = ("is_staff", "is_superuser", "groups")


class PersonForm(AsksPassword, UserChangeForm):  # type: ignore[misc]
    grave = POWERS


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("suspended", "Suspended"), ("off", "Switched off"), ("deleted", "Deleted")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> QuerySet[User]:
        match self.value():
            case "suspended":
                return queryset.filter(suspended_at__isnull=False, deleted_at=None)
            case "off":
                return queryset.filter(is_active=False, deleted_at=None)
            case "deleted":
                return queryset.filter(deleted_at__isnull=False)
        return queryset


Act = Callable[..., bool]


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):  # type: ignore[misc, type-arg]
    form = PersonForm
    add_form = NewUserForm
    change_password_form = AdminPasswordChangeForm

    list_display = ["email", "display_name", "state", "is_staff", "date_joined", "last_login"]
    list_filter = [StateFilter, "is_staff", ("date_joined", DaysFilter), ("last_login", DaysFilter)]
    search_fields = ["email", "display_name", "firebase_uid", "customer__stripe_customer_id"]
    search_help_text = "E-mail, name, Firebase uid, Stripe customer id"
    ordering = ["-id"]
    show_full_result_count = False
    actions = ["suspend", "reinstate", "close"]
    filter_horizontal = ["groups"]
    # A person's history stays: closing an account erases who it belonged to.
    readonly_fields = [
        "firebase_uid",
        "suspended_at",
        "suspension_reason",
        "deleted_at",
        "identity_erased_at",
        "last_login",
        "date_joined",
        "profile_as_of",
    ]
    fieldsets = [
        (None, {"fields": ["email", "display_name", "password"]}),
        (
            "State",
            {
                "fields": [
                    "is_active",
                    "suspended_at",
                    "suspension_reason",
                    "deleted_at",
                    "identity_erased_at",
                ]
            },
        ),
        ("Staff", {"fields": ["is_staff", "is_superuser", "groups"]}),
        (
            "Sign-in",
            {"fields": ["firebase_uid", "date_joined", "last_login", "profile_as_of"]},
        ),
    ]
    add_fieldsets = [(None, {"fields": ["email", "password1", "password2"]})]

    @display(label={"active": "success", "suspended": "danger", "switched off": "danger"})  # type: ignore[untyped-decorator]
    def state(self, user: User) -> str:
        if user.deleted_at is not None:
            return "deleted"
        if not user.is_active:
            return "switched off"
        return "active" if user.suspended_at is None else "suspended"

    def view_on_site(self, user: User) -> str:
        return reverse("admin:customer", args=[user.pk])

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        fields = [*super().get_readonly_fields(request, obj)]
        return fields if request.user.is_superuser else [*fields, *POWERS]

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        """A change of powers takes the password of whoever makes it."""
        sections = super().get_fieldsets(request, obj)
        if obj is None or not request.user.is_superuser:
            return sections
        return [
            (title, {**shown, "fields": [*shown["fields"], "password_again"]})
            if title == "Staff"
            else (title, shown)
            for title, shown in sections
        ]

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> type[Any]:
        form = super().get_form(request, obj, change=change, **kwargs)
        return form if obj is None else bound_to(request, form)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Who may change users could otherwise give themselves a colleague's powers. Of a closed
        account nothing is left to change."""
        if obj is not None and obj.deleted_at is not None:
            return False
        if obj is not None and obj.is_staff and not request.user.is_superuser:
            return False
        return bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False

    def has_close_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("accounts.delete_user"))

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            if not change or "is_active" in form.changed_data:
                accounts_changed.send(User, user_ids=[obj.pk], cause=staff_cause(request))

    @admin.action(description="Suspend: block all keys", permissions=["change"])
    @asks("Every key is blocked. Signing in and paying go on as before.", reason=True)
    def suspend(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._act(request, queryset, "Suspended", suspend_user)

    @admin.action(description="Reinstate", permissions=["change"])
    @asks("The keys work again, as far as the plan allows.", reason=True)
    def reinstate(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._act(request, queryset, "Reinstated", reinstate_user)

    @admin.action(description="Close and erase for good", permissions=["close"])
    @asks(
        "Keys and sessions end, personal data is erased. The ledger stays, without a name. A "
        "subscription that is not canceled goes on charging, and the front page says so. This "
        "cannot be taken back.",
        reason=True,
        password=True,
    )
    def close(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        self._act(request, queryset, "Closed", delete_account)

    def _act(self, request: HttpRequest, queryset: QuerySet[User], done: str, act: Act) -> None:
        """Do it to each. Staff are for superusers to deal with."""
        if not request.user.is_superuser:
            queryset = queryset.filter(is_staff=False)
        reason, count, refused = given_reason(request), 0, []
        chosen = list(queryset)
        for user in chosen:
            try:
                count += act(user_id=user.pk, reason=reason, cause=staff_cause(request))
            except LastOwner as error:
                refused.append(f"{user}: {error.message}")
        self.message_user(request, f"{done}: {count} of {len(chosen)}.")
        for line in refused:
            self.message_user(request, line, messages.ERROR)
