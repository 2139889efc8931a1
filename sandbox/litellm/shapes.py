"""Records in the shapes LiteLLM answers with (1.106.2), down to the fields nobody uses.

One key has three: what `/key/generate` echoes, the row of `/key/update` and `/key/info`, and the
object of `/key/list` and `/key/block`.
"""

from typing import Any

from sandbox.litellm.durations import iso
from sandbox.litellm.records import ADMIN_USER, AccessGroup, Budget, Key, Team, User

Json = dict[str, Any]

# What else /key/generate echoes; here always unset.
ECHO_NULLS = [
    *["agent_id", "budget_limits", "mcp_rpm_limit", "tag_rpm_limit", "guardrails", "policies"],
    *["prompts", "object_permission", "default_estimated_output_tokens"],
    *["default_estimated_output_tokens_per_model", "end_user_budget_id", "tags"],
    *["disable_global_guardrails", "enable_prompt_caching", "throttle_on_budget_exceeded"],
    *["allowed_passthrough_routes", "denied_passthrough_routes", "allowed_vector_store_indexes"],
    *["organization_id", "project_id", "litellm_budget_table"],
]
METADATA_FIELDS = [
    *["model_rpm_limit", "model_tpm_limit", "rpm_limit_type", "tpm_limit_type", "enforced_params"]
]
ROW_NULLS = [
    *["agent_id", "project_id", "organization_id", "object_permission_id", "rotation_interval"],
    *["last_rotation_at", "key_rotation_at", "budget_limits", "object_permission"],
]
BUDGET_NULLS = [
    *["organization", "projects", "keys", "end_users", "tags", "model_access_groups"],
    *["team_membership", "organization_membership"],
]
USER_NULLS = [
    *["verified_subjects", "team_id", "sso_user_id", "organization_id", "object_permission_id"],
    *["password_reset_required", "last_breach_check_at", "litellm_organization_table"],
    *["invitations_created", "invitations_updated", "invitations_user", "object_permission"],
]


def key_echo(key: Key, request: Json, value: str) -> Json:
    """The answer to /key/generate: what was asked for, which an existing row may not be."""
    metadata = key.metadata or {}
    return {
        **dict.fromkeys(ECHO_NULLS),
        **{name: metadata.get(name) for name in METADATA_FIELDS},
        "key_alias": key.key_alias,
        "duration": None,
        "models": key.models,
        "spend": key.spend,
        "max_budget": key.max_budget,
        "user_id": key.user_id,
        "team_id": key.team_id,
        "max_parallel_requests": key.max_parallel_requests,
        "metadata": metadata,
        "tpm_limit": key.tpm_limit,
        "rpm_limit": key.rpm_limit,
        "tpd_limit": key.tpd_limit,
        "budget_duration": key.budget_duration,
        "allowed_cache_controls": [],
        "config": key.config,
        "permissions": key.permissions,
        "model_max_budget": {},
        "budget_fallbacks": {},
        "blocked": request.get("blocked"),
        "aliases": key.aliases,
        "key": value,
        "budget_id": key.budget_id,
        "allowed_routes": key.allowed_routes,
        "router_settings": key.router_settings,
        "access_group_ids": key.access_group_ids,
        "key_name": key.key_name,
        "key_type": key.key_type,
        "expires": iso(key.expires, zone="Z"),
        "token_id": key.token,
        "token": key.token,
        "created_by": ADMIN_USER,
        "updated_by": ADMIN_USER,
        "created_at": iso(key.created_at, zone="Z"),
        "updated_at": iso(key.updated_at, zone="Z"),
    }


def key_row(key: Key, *, zone: str = "+00:00") -> Json:
    return {
        **dict.fromkeys(ROW_NULLS),
        "key_name": key.key_name,
        "key_alias": key.key_alias,
        "soft_budget_cooldown": False,
        "spend": key.spend,
        "total_spend": key.total_spend,
        "expires": iso(key.expires, zone=zone),
        "models": key.models,
        "aliases": key.aliases,
        "config": key.config,
        "router_settings": key.router_settings,
        "user_id": key.user_id,
        "team_id": key.team_id,
        "permissions": key.permissions,
        "max_parallel_requests": key.max_parallel_requests,
        "metadata": key.metadata,
        "blocked": key.blocked,
        "tpm_limit": key.tpm_limit,
        "rpm_limit": key.rpm_limit,
        "tpd_limit": key.tpd_limit,
        "max_budget": key.max_budget,
        "budget_duration": key.budget_duration,
        "budget_reset_at": iso(key.budget_reset_at, zone=zone),
        "allowed_cache_controls": [],
        "allowed_routes": key.allowed_routes,
        "key_type": key.key_type,
        "policies": [],
        "access_group_ids": key.access_group_ids,
        "model_spend": {},
        "model_max_budget": {},
        "budget_fallbacks": {},
        "budget_id": key.budget_id,
        "created_at": iso(key.created_at, zone=zone),
        "created_by": ADMIN_USER,
        "updated_at": iso(key.updated_at, zone=zone),
        "updated_by": ADMIN_USER,
        "settings_updated_at": iso(key.settings_updated_at, zone=zone),
        "last_active": iso(key.last_active, zone=zone),
        "rotation_count": 0,
        "auto_rotate": False,
        "litellm_budget_table": None,
        "litellm_organization_table": None,
        "litellm_project_table": None,
        "jwt_key_mappings": None,
    }


def key_info(key: Key, budget: Budget | None) -> Json:
    row = key_row(key)
    if budget is not None:
        row["litellm_budget_table"] = budget_row(budget, zone="+00:00")
    row["status"] = "active"
    if key.deleted_at is not None:
        row["deleted_at"] = iso(key.deleted_at)
        row["deleted_by"] = ADMIN_USER
        row["status"] = "deleted"
    return row


def key_object(key: Key, budget: Budget | None = None) -> Json:
    """A row as /key/list shows it, and /key/block."""
    row = {"token": key.token, **key_row(key, zone="Z"), "org_id": None}
    if budget is not None:
        row["litellm_budget_table"] = budget_row(budget)
    if key.deleted_at is not None:
        row["deleted_at"] = iso(key.deleted_at, zone="Z")
    return row


def budget_row(budget: Budget, *, zone: str = "Z") -> Json:
    return {
        "budget_id": budget.budget_id,
        "max_budget": budget.max_budget,
        "soft_budget": budget.soft_budget,
        "max_parallel_requests": budget.max_parallel_requests,
        "tpm_limit": budget.tpm_limit,
        "rpm_limit": budget.rpm_limit,
        "tpd_limit": budget.tpd_limit,
        "model_max_budget": None,
        "budget_duration": budget.budget_duration,
        "budget_reset_at": iso(budget.budget_reset_at, zone=zone),
        "allowed_models": [],
        "temp_budget_increase": None,
        "temp_budget_expiry": None,
        "created_at": iso(budget.created_at, zone=zone),
        "created_by": ADMIN_USER,
        "updated_at": iso(budget.updated_at, zone=zone),
        "updated_by": ADMIN_USER,
        **dict.fromkeys(BUDGET_NULLS),
    }


def user_row(user: User) -> Json:
    return {
        **dict.fromkeys(USER_NULLS),
        "user_id": user.user_id,
        "user_alias": user.user_alias,
        "teams": [],
        "user_role": user.user_role,
        "max_budget": user.max_budget,
        "spend": user.spend,
        "user_email": user.user_email,
        "models": user.models,
        "metadata": user.metadata,
        "max_parallel_requests": user.max_parallel_requests,
        "tpm_limit": user.tpm_limit,
        "rpm_limit": user.rpm_limit,
        "budget_duration": user.budget_duration,
        "budget_reset_at": iso(user.budget_reset_at, zone="Z"),
        "allowed_cache_controls": [],
        "policies": [],
        "model_spend": {},
        "model_max_budget": {},
        "created_at": iso(user.created_at, zone="Z"),
        "updated_at": iso(user.updated_at, zone="Z"),
        "organization_memberships": None,
    }


def team_row(team: Team) -> Json:
    members = [ADMIN_USER, *team.members]
    return {
        "team_alias": team.team_alias,
        "team_id": team.team_id,
        "organization_id": None,
        "admins": [],
        "members": [],
        "members_with_roles": [
            {"user_id": name, "user_email": None, "role": "user" if number else "admin"}
            for number, name in enumerate(members)
        ],
        "metadata": team.metadata,
        "tpm_limit": team.tpm_limit,
        "rpm_limit": team.rpm_limit,
        "max_budget": team.max_budget,
        "budget_duration": None,
        "models": team.models,
        "blocked": team.blocked,
        "spend": team.spend,
        "max_parallel_requests": team.max_parallel_requests,
        "access_group_ids": [],
        "updated_at": iso(team.updated_at, zone="Z"),
        "created_at": iso(team.created_at, zone="Z"),
    }


def group_row(group: AccessGroup, tokens: list[str]) -> Json:
    return {
        "access_group_id": group.access_group_id,
        "access_group_name": group.access_group_name,
        "description": group.description,
        "access_model_names": group.access_model_names,
        "access_mcp_server_ids": [],
        "access_agent_ids": [],
        "assigned_team_ids": [],
        "assigned_key_ids": tokens,
        "created_at": iso(group.created_at, zone="Z"),
        "created_by": ADMIN_USER,
        "updated_at": iso(group.updated_at, zone="Z"),
        "updated_by": ADMIN_USER,
    }
