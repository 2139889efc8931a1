"""How the gateway is told: keys and what plans share, as desired state and as last observed; the
gateway's health, the switches that staff pull, and the trail of everything that was sent."""

from llmkeys.models.audits import AuditFinding, AuditRun, TrustedKey
from llmkeys.models.budgets import BudgetNotice, SpendBudget, SpendLimit
from llmkeys.models.events import KeyEvent
from llmkeys.models.gateway import GatewayState
from llmkeys.models.keys import VirtualKey
from llmkeys.models.reconciled import Reconciled
from llmkeys.models.rollouts import Rollout
from llmkeys.models.shared import PlanAtGateway
from llmkeys.models.switches import KillSwitch
from llmkeys.models.usage import UsageDay, UsageEntry, UsageHour, UsageImport, UsageRetention

__all__ = [
    "AuditFinding",
    "AuditRun",
    "BudgetNotice",
    "GatewayState",
    "KeyEvent",
    "KillSwitch",
    "PlanAtGateway",
    "Reconciled",
    "Rollout",
    "SpendBudget",
    "SpendLimit",
    "TrustedKey",
    "UsageDay",
    "UsageEntry",
    "UsageHour",
    "UsageImport",
    "UsageRetention",
    "VirtualKey",
]
