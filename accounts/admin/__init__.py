"""People, organizations, their tokens, and what was done: as staff see them."""

from accounts.admin import organizations, records, users

__all__ = ["organizations", "records", "users"]
