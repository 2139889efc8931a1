"""What closing an account takes out of this app's rows; the apps above clear theirs when they are
told of it (accounts.signals). What stays names the person by number alone."""

import re
from collections.abc import Collection, Iterable
from functools import reduce
from operator import or_
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import Q
from django.utils import timezone

from accounts.models import AuditEntry, BrowserSession, Invitation, User

ERASED = "[erased]"
# Texts about the person that entries of these actions hold, whatever is written in them.
PERSONAL_ACTIONS = ("user.", "token.", "apitoken.", "key.", "virtualkey.", "customernote.")
PERSONAL = frozenset({"email", "display_name", "suspension_reason", "name", "label", "text"})


def address_of_closed(user: User) -> str:
    return f"deleted-{user.pk}@deleted.invalid"


def erase_traces(user: User, *, organization_ids: Collection[int]) -> None:
    """Take addresses, former ones too, and names out of all that outlives the account but its own
    row, which must still hold them. Runs in the transaction that closes it.

    ``organization_ids``: those that the user has just left.
    """
    BrowserSession.objects.filter(user=user).delete()
    user.api_tokens.update(name="")
    entries = list(_entries(user, organization_ids))
    addresses = {user.email, *_addresses_in(entries)}
    _erase_from_trail(entries, user, addresses)
    _erase_from_admin_log(user, addresses)
    # Whoever closes an account wants no invitation to it either.
    invitations = Invitation.objects.filter(Q(email__in=addresses) | Q(accepted_by=user))
    invitations.filter(accepted_at=None, revoked_at=None).update(revoked_at=timezone.now())
    invitations.update(email=address_of_closed(user))


def _entries(user: User, organization_ids: Collection[int]) -> Iterable[AuditEntry]:
    """The user's own, and those of forms in which an organization's members were edited."""
    former = AuditEntry.objects.filter(user=user, organization__isnull=False)
    organizations = {*organization_ids, *former.values_list("organization_id", flat=True)}
    forms = Q(action__in=["organization.added", "organization.changed"])
    return AuditEntry.objects.filter(
        Q(user=user) | (forms & Q(organization_id__in=organizations))
    ).only("user_id", "action", "reason", "before", "after")


def _addresses_in(entries: Iterable[AuditEntry]) -> set[str]:
    known = [
        side["email"]
        for entry in entries
        for side in (entry.before, entry.after)
        if entry.action.startswith("user.") and isinstance(side, dict) and "email" in side
    ]
    return {address for address in known if isinstance(address, str) and "@" in address}


def _erase_from_trail(entries: Iterable[AuditEntry], user: User, addresses: set[str]) -> None:
    in_data = _any_of(addresses)
    in_reasons = _any_of(addresses | {user.display_name})
    changed = []
    for entry in entries:
        is_personal = entry.user_id == user.pk and entry.action.startswith(PERSONAL_ACTIONS)
        if entry.action == "user.profile_changed":  # name and address, and nothing else
            entry.before = entry.after = None
            changed.append(entry)
            continue
        found = (
            in_reasons.sub(ERASED, entry.reason),
            _without(entry.before, in_data, is_personal),
            _without(entry.after, in_data, is_personal),
        )
        if found != (entry.reason, entry.before, entry.after):
            entry.reason, entry.before, entry.after = found
            changed.append(entry)
    AuditEntry.objects.bulk_update(changed, ["reason", "before", "after"], batch_size=500)


def _erase_from_admin_log(user: User, addresses: set[str]) -> None:
    """Django's own log keeps the name that a row had when staff saved it."""
    LogEntry.objects.filter(
        content_type=ContentType.objects.get_for_model(User), object_id=str(user.pk)
    ).update(object_repr=ERASED)
    pattern = _any_of(addresses)
    names_them = reduce(
        or_,
        (
            Q(object_repr__icontains=address) | Q(change_message__icontains=address)
            for address in addresses
        ),
    )
    for entry in LogEntry.objects.filter(names_them):
        if pattern.search(entry.object_repr):
            entry.object_repr = ERASED
        entry.change_message = pattern.sub(ERASED, entry.change_message)
        entry.save(update_fields=["object_repr", "change_message"])


def _any_of(names: Iterable[str]) -> re.Pattern[str]:
    """Whole words, however they are written: "Ann" is not in "annual"."""
    listed = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True) if name)
    return re.compile(rf"(?<!\w)(?:{listed})(?!\w)", re.IGNORECASE)


def _without(value: Any, pattern: re.Pattern[str], is_personal: bool) -> Any:
    match value:
        case str():
            return pattern.sub(ERASED, value)
        case list():
            return [_without(item, pattern, is_personal) for item in value]
        case dict():
            return {
                name: ERASED
                if is_personal and name in PERSONAL and item
                else _without(item, pattern, is_personal)
                for name, item in value.items()
            }
    return value
