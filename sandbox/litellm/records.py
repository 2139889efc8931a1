"""What the gateway stores: keys, the budget rows they share, users, teams, access groups."""

import hashlib
import time
from dataclasses import dataclass, field
from typing import Any

# Whom LiteLLM names for what the master key did.
ADMIN_USER = "default_user_id"


def hash_of(value: str) -> str:
    """How LiteLLM stores a key: SHA-256, hex."""
    return hashlib.sha256(value.encode()).hexdigest()


def token_of(key_or_hash: str) -> str:
    """Calls that name a key accept its value or its hash."""
    return hash_of(key_or_hash) if key_or_hash.startswith("sk-") else key_or_hash


@dataclass(slots=True, kw_only=True)
class Key:
    """Moments are seconds since 1970; None is not set."""

    token: str
    key_name: str
    key_alias: str | None = None
    user_id: str | None = None
    team_id: str | None = None
    models: list[str] = field(default_factory=list)
    spend: float = 0.0
    total_spend: float = 0.0
    max_budget: float | None = None
    budget_id: str | None = None
    budget_duration: str | None = None
    budget_reset_at: float | None = None
    rpm_limit: int | None = None
    tpm_limit: int | None = None
    tpd_limit: int | None = None
    max_parallel_requests: int | None = None
    expires: float | None = None
    blocked: bool | None = None
    metadata: dict[str, Any] | None = field(default_factory=dict)
    allowed_routes: list[str] = field(default_factory=list)
    key_type: str = "default"
    access_group_ids: list[str] = field(default_factory=list)
    aliases: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    permissions: dict[str, Any] = field(default_factory=dict)
    router_settings: dict[str, Any] = field(default_factory=dict)
    created_at: float = field(default_factory=time.time)
    updated_at: float = field(default_factory=time.time)
    settings_updated_at: float | None = None
    last_active: float | None = None
    deleted_at: float | None = None


@dataclass(slots=True, kw_only=True)
class Budget:
    """A row that keys share through budget_id: it applies where the key has no value itself.

    LiteLLM's look-up of a key does not read max_parallel_requests from here.
    """

    budget_id: str
    max_budget: float | None = None
    soft_budget: float | None = None
    max_parallel_requests: int | None = None
    tpm_limit: int | None = None
    rpm_limit: int | None = None
    tpd_limit: int | None = None
    budget_duration: str | None = None
    budget_reset_at: float | None = None
    created_at: float = field(default_factory=time.time)
    updated_at: float = field(default_factory=time.time)


@dataclass(slots=True, kw_only=True)
class User:
    user_id: str
    user_email: str | None = None
    user_alias: str | None = None
    user_role: str | None = None
    models: list[str] = field(default_factory=list)
    spend: float = 0.0
    max_budget: float | None = None
    budget_duration: str | None = None
    budget_reset_at: float | None = None
    rpm_limit: int | None = None
    tpm_limit: int | None = None
    max_parallel_requests: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    created_at: float = field(default_factory=time.time)
    updated_at: float = field(default_factory=time.time)


@dataclass(slots=True, kw_only=True)
class Team:
    team_id: str
    team_alias: str | None = None
    models: list[str] = field(default_factory=list)
    spend: float = 0.0
    max_budget: float | None = None
    rpm_limit: int | None = None
    tpm_limit: int | None = None
    max_parallel_requests: int | None = None
    blocked: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)
    members: list[str] = field(default_factory=list)
    created_at: float = field(default_factory=time.time)
    updated_at: float = field(default_factory=time.time)


@dataclass(slots=True, kw_only=True)
class AccessGroup:
    """A list of models that keys name by its id; unlike config groups, edited at run time."""

    access_group_id: str
    access_group_name: str
    description: str | None = None
    access_model_names: list[str] = field(default_factory=list)
    created_at: float = field(default_factory=time.time)
    updated_at: float = field(default_factory=time.time)
