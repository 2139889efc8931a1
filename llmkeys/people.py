"""Find the person that staff or a command name."""

from django.core.management.base import CommandError

from accounts.models import User
from tesslate.lib.text import whole_number


def find_user(name: str) -> User | None:
    """By id or e-mail address."""
    by_id = User.objects.filter(pk=whole_number(name) or 0).first()
    return by_id or User.objects.filter(email=name.strip().lower()).first()


def user_named(name: str) -> User:
    """By e-mail address or id. Raises CommandError."""
    user = find_user(name)
    if user is None:
        raise CommandError(f"There is no user {name}.")
    return user
