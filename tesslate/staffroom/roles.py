"""Who on the staff may do what: five roles, as groups with the fewest permissions that do.

The table is code, written to the database after every migration: a change of a role is reviewed
like any other change. For exceptions make another group; these five are set back.

Actions ask for the permission of the model that they change: rotating a key is
``llmkeys.change_virtualkey``, replaying an event ``plans.change_stripeevent``.
"""

from collections.abc import Iterable

from django.contrib.auth.models import Group, Permission

# What one must see to answer a customer.
CASEWORK = (
    *("accounts.user", "accounts.organization", "accounts.membership", "staffroom.customernote"),
    *("plans.plan", "plans.gatewaymodel", "plans.price", "plans.customer", "plans.subscription"),
    *("plans.plangrant", "plans.throttle", "plans.currententitlement", "plans.checkout"),
    *("plans.billingproblem", "plans.billingnotice"),
    *("llmkeys.virtualkey", "llmkeys.planatgateway", "llmkeys.keyevent"),
    *("llmkeys.gatewaystate", "llmkeys.killswitch", "llmkeys.rollout"),
    *("llmkeys.auditrun", "llmkeys.auditfinding", "llmkeys.trustedkey"),
    *("chatproxy.systemprompt", "chatproxy.promptversion", "chatproxy.chatrequest"),
    *("llmkeys.usageentry", "llmkeys.usageday", "llmkeys.usagehour", "llmkeys.usageimport"),
    *("llmkeys.spendbudget", "llmkeys.budgetnotice"),
    *("chatproxy.usagecheck", "chatproxy.usagecomparison"),
)
OUR_APPS = ("accounts", "plans", "llmkeys", "chatproxy", "staffroom")
# Prompts and answers of customers: encrypted, and for nobody on the staff.
NOBODYS = frozenset({"chatproxy.chatcontent"})


def _all(actions: str, models: Iterable[str]) -> frozenset[str]:
    """``_all("view add", ["plans.plan"])`` → plans.view_plan, plans.add_plan."""
    return frozenset(
        f"{label.split('.')[0]}.{action}_{label.split('.')[1]}"
        for label in models
        for action in actions.split()
    )


SEES_CASES = _all("view", CASEWORK) | _all("add", ["staffroom.customernote"])

ROLES: dict[str, frozenset[str]] = {
    # Answers customers: everything to see, their keys to mend.
    "support": SEES_CASES
    | _all("view", ["accounts.auditentry"])
    | _all("change", ["llmkeys.virtualkey", "plans.throttle"]),
    # Money: events, prices, gifts, usage given back.
    "billing": SEES_CASES
    | _all("view", ["accounts.auditentry", "plans.stripeevent"])
    | _all("add change", ["plans.plangrant"])
    | _all("add", ["llmkeys.usageentry"])
    | _all("view", ["plans.revenueitem", "plans.exchangerate"])
    | _all("view change", ["plans.revenueinvoice", "plans.overagewindow", "plans.overagereport"])
    | _all("add change", ["plans.exchangerate"])
    | _all(
        "change",
        [
            "plans.stripeevent",
            "plans.price",
            "plans.billingproblem",
            "plans.billingreconciliation",
            "plans.subscription",
        ],
    ),
    # Keeps it running: catalogue, prompts, keys, switches.
    "operator": SEES_CASES
    | _all("view", ["accounts.auditentry", "plans.stripeevent"])
    | _all("add change", ["plans.plan", "plans.gatewaymodel", "plans.price"])
    | _all("add change", ["chatproxy.systemprompt", "chatproxy.promptversion"])
    | _all("add change", ["llmkeys.killswitch"])
    | _all("change", ["llmkeys.virtualkey", "llmkeys.planatgateway", "llmkeys.gatewaystate"])
    | _all("change", ["llmkeys.rollout"])
    | _all("change", ["llmkeys.auditfinding", "llmkeys.trustedkey"])
    | _all("change", ["plans.stripeevent", "plans.throttle", "accounts.user"]),
}


def _label(permission: Permission) -> str:
    return f"{permission.content_type.app_label}.{permission.codename}"


def _model(permission: Permission) -> str:
    return f"{permission.content_type.app_label}.{permission.content_type.model}"


def role_permissions() -> dict[str, list[Permission]]:
    """Each role's permissions, among those that exist. Auditors see all, admins may do all."""
    every = [
        permission
        for permission in Permission.objects.select_related("content_type").filter(
            content_type__app_label__in=OUR_APPS
        )
        if _model(permission) not in NOBODYS
    ]
    found = {
        role: [permission for permission in every if _label(permission) in labels]
        for role, labels in ROLES.items()
    }
    found["auditor"] = [p for p in every if p.codename.startswith("view_")]
    found["admin"] = every + list(
        Permission.objects.filter(content_type__app_label="auth", codename="view_group")
    )
    return found


def seed_roles() -> None:
    """Write the table into the database. Repeating it changes nothing."""
    for role, permissions in role_permissions().items():
        group, _ = Group.objects.get_or_create(name=role)
        group.permissions.set(permissions)
