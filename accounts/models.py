"""Who uses the platform, on whose behalf, and what was done to them."""

from datetime import datetime
from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.contrib.postgres.fields import ArrayField
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone

from tesslate.lib.cause import Cause
from tesslate.lib.text import one_line


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        user = self.model(email=email.strip().lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(email=(username or "").strip().lower())


class User(AbstractBaseUser, PermissionsMixin):
    """A person. Customers sign in through Firebase and have no password here; staff have one."""

    # Always lower case: two spellings of one address are one account.
    email = models.EmailField(max_length=254, unique=True)
    # Empty for staff who only use the admin. Never reassigned to another person.
    firebase_uid = models.CharField(max_length=128, unique=True, null=True, blank=True)
    display_name = models.CharField(max_length=200, blank=True)
    # Issue time of the token that name and address were taken from: an older one changes nothing.
    profile_as_of = models.DateTimeField(null=True, blank=True)
    is_staff = models.BooleanField("staff", default=False)
    # Django's own switch: may sign in at all.
    is_active = models.BooleanField("active", default=True)
    # Set while access to models is withdrawn (abuse, dispute): the key is blocked, sign-in works.
    suspended_at = models.DateTimeField(null=True, blank=True)
    suspension_reason = models.CharField(max_length=500, blank=True)
    # The account is closed: keys are retired, personal data erased, the ledger kept.
    deleted_at = models.DateTimeField(null=True, blank=True)
    # Firebase's own account of a closed one is deleted (accounts.erasure); null while it is not, or
    # is left to its holder.
    identity_erased_at = models.DateTimeField(null=True, blank=True)
    date_joined = models.DateTimeField(default=timezone.now)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(email=Lower("email")), name="user_email_is_lower_case"
            ),
        ]

    def __str__(self) -> str:
        return self.email

    def get_full_name(self) -> str:
        return self.display_name or self.email

    def get_short_name(self) -> str:
        return self.get_full_name()

    @property
    def may_use_models(self) -> bool:
        return self.is_active and self.suspended_at is None and self.deleted_at is None


class Organization(models.Model):
    """A company or team that may hold a subscription for its members."""

    name = models.CharField(max_length=200)
    members = models.ManyToManyField(User, through="Membership", related_name="organizations")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        self.name = one_line(self.name)


class Membership(models.Model):
    class Role(models.TextChoices):
        OWNER = "owner", "Owner"
        MEMBER = "member", "Member"

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="memberships"
    )
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role, default=Role.MEMBER)
    # Seats go to memberships in this order (then by id): who joined first keeps theirs.
    joined_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "user"], name="membership_once_per_organization"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.organization} ({self.role})"


class Invitation(models.Model):
    """An offer to join an organization, sent by e-mail as a link that works once."""

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="invitations"
    )
    # Lower case. Only an account with this address may accept.
    email = models.EmailField(max_length=254)
    role = models.CharField(max_length=10, choices=Membership.Role, default=Membership.Role.MEMBER)
    # SHA-256 of the link's token: the link itself is nowhere but in the mail.
    token_hash = models.CharField(max_length=64, unique=True)
    invited_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    # When the mail server took it; empty if it did not, then the owner sends it again.
    sent_at = models.DateTimeField(null=True, blank=True)
    accepted_at = models.DateTimeField(null=True, blank=True)
    accepted_by = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "email"],
                condition=models.Q(accepted_at=None, revoked_at=None),
                name="invitation_one_open_per_address",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.email} to {self.organization}"


class ApiToken(models.Model):
    """A personal API token (`tk-…`): lets programs act for a user, within its scopes."""

    class Scope(models.TextChoices):
        CHAT = "chat", "Chat"
        USAGE_READ = "usage:read", "Read usage"

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=100)
    # The first characters, by which people tell their tokens apart.
    prefix = models.CharField(max_length=16)
    # SHA-256 of the token, which is shown once and kept nowhere.
    token_hash = models.CharField(max_length=64, unique=True)
    scopes = ArrayField(models.CharField(max_length=20, choices=Scope))
    created_at = models.DateTimeField(default=timezone.now)
    # Empty for a token that lasts until it is revoked.
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    # To the minute or so: not every use is written.
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        verbose_name = "API token"
        indexes = [models.Index(fields=["user", "-id"], name="api_token_by_user")]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    def is_valid_at(self, moment: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or moment < self.expires_at)


class AuditEntry(models.Model):
    """One thing that was done, by whom or what, and why. Written once, never changed."""

    at = models.DateTimeField(default=timezone.now, db_index=True)
    # The person or thing it was done to, for that customer's page.
    user = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="audit_entries"
    )
    organization = models.ForeignKey(
        Organization, on_delete=models.SET_NULL, null=True, blank=True, related_name="audit_entries"
    )
    actor = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="acts"
    )
    # tesslate.lib.cause.Cause, flattened.
    cause_kind = models.CharField(max_length=10)
    cause_reference = models.CharField(max_length=255, blank=True)
    # Dotted and in the past tense: "key.rotated", "subscription.changed".
    action = models.CharField(max_length=60, db_index=True)
    target_type = models.CharField(max_length=60, blank=True)
    target_id = models.CharField(max_length=255, blank=True)
    reason = models.TextField(blank=True)
    before = models.JSONField(null=True, blank=True)
    after = models.JSONField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "audit entries"
        ordering = ["-at", "-id"]
        indexes = [
            models.Index(fields=["user", "-at"], name="audit_by_user"),
            models.Index(fields=["target_type", "target_id"], name="audit_by_target"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.target_type} {self.target_id}".strip()

    @property
    def cause(self) -> Cause:
        return Cause(self.cause_kind, self.cause_reference, self.actor_id)


class BrowserSession(AbstractBaseSession):
    """A session cookie's other half. Lists name it by ``public_id``, for its key opens it."""

    # The beginning of the key's SHA-256.
    public_id = models.CharField(max_length=32, unique=True, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, null=True, related_name="sessions")
    agent = models.CharField(max_length=300, blank=True)
    address = models.GenericIPAddressField(null=True, blank=True)
    # Sessions are saved on signing in and when something in them changes, not on every request.
    saved_at = models.DateTimeField(default=timezone.now)

    class Meta(AbstractBaseSession.Meta):
        indexes = [models.Index(fields=["user", "-saved_at"], name="session_by_user")]

    @classmethod
    def get_session_store_class(cls) -> type[SessionBase]:
        from accounts.sessions import SessionStore

        return SessionStore
