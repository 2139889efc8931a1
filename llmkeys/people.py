"""Find the person that a command names."""

from django.core.management.base import CommandError

from accounts.models import User


def user_named(name: str) -> User:
    """By e-mail address or id. Raises CommandError."""
    by_id = User.objects.filter(pk=int(name)) if name.isdigit() else User.objects.none()
    user = by_id.first() or User.objects.filter(email=name.strip().lower()).first()
    if user is None:
        raise CommandError(f"There is no user {name}.")
    return user
