"""Organizations, with their members and open invitations."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Count, QuerySet
from django.forms import BaseInlineFormSet
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline

from accounts.errors import LastOwner
from accounts.models import Invitation, Membership, Organization
from accounts.organizations import add_member, change_role, remove_member
from tesslate.lib.adminlists import DaysFilter
from tesslate.lib.staffactions import staff_cause


class MembershipFormSet(BaseInlineFormSet[Membership, Organization, Any]):
    def clean(self) -> None:
        """The rule of accounts.organizations, said where it can still be mended."""
        super().clean()
        roles = [
            form.cleaned_data.get("role")
            for form in self.forms
            if form.cleaned_data.get("user") and not form.cleaned_data.get("DELETE")
        ]
        if roles and Membership.Role.OWNER not in roles:
            raise ValidationError(LastOwner.message)


class MembershipForm(forms.ModelForm[Membership]):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # A row is one person's: another person is another row.
        self.fields["user"].disabled = self.instance.pk is not None


class MembershipInline(TabularInline):  # type: ignore[misc]
    model = Membership
    form = MembershipForm
    formset = MembershipFormSet
    autocomplete_fields = ["user"]
    fields = ["user", "role", "joined_at"]
    readonly_fields = ["joined_at"]
    extra = 0


class InvitationInline(TabularInline):  # type: ignore[misc]
    model = Invitation
    fields = ["email", "role", "invited_by", "created_at", "expires_at", "sent_at"]
    readonly_fields = fields
    extra = 0
    can_delete = False
    verbose_name_plural = "open invitations"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Invitation]:
        rows: QuerySet[Invitation] = super().get_queryset(request)
        return rows.filter(accepted_at=None, revoked_at=None).select_related("invited_by")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Organization)
class OrganizationAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = ["name", "member_count", "owner_emails", "created_at"]
    list_filter = [("created_at", DaysFilter)]
    search_fields = ["name", "members__email", "customer__stripe_customer_id"]
    search_help_text = "Name, a member's e-mail, Stripe customer id"
    readonly_fields = ["created_at"]
    inlines = [MembershipInline, InvitationInline]
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Organization]:
        rows: QuerySet[Organization] = super().get_queryset(request)
        return rows.annotate(members_now=Count("memberships", distinct=True)).prefetch_related(
            "memberships__user"
        )

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Payments and the ledger point at it.
        return False

    @admin.display(description="members", ordering="members_now")
    def member_count(self, organization: Any) -> int:
        count: int = organization.members_now
        return count

    @admin.display(description="owners")
    def owner_emails(self, organization: Organization) -> str:
        owners = [
            membership.user.email
            for membership in organization.memberships.all()
            if membership.role == Membership.Role.OWNER
        ]
        return ", ".join(owners) or "nobody"

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Memberships change through the services: the apps above have to hear of it."""
        if formset.model is not Membership:
            super().save_formset(request, form, formset, change)
            return
        cause = staff_cause(request)
        # The formset's own bookkeeping, which the change history is made from.
        formset.save(commit=False)
        organization = form.instance
        for membership in formset.new_objects:
            add_member(
                organization=organization, user=membership.user, role=membership.role, cause=cause
            )
        # Before anybody steps down, so that handing over in one go needs no order.
        for membership, _ in sorted(
            formset.changed_objects, key=lambda pair: pair[0].role != Membership.Role.OWNER
        ):
            change_role(
                organization=organization,
                user_id=membership.user_id,
                role=membership.role,
                cause=cause,
            )
        for membership in formset.deleted_objects:
            remove_member(organization=organization, user_id=membership.user_id, cause=cause)
