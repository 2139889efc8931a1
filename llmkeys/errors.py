"""What a caller is told about keys."""

from tesslate.lib.errors import Conflict, InvalidRequest, PermissionDenied


class KeyNotReady(Conflict):
    code = "key_not_ready"
    message = "Your access is being set up. Try again in a moment."


class KeyBlocked(PermissionDenied):
    code = "key_blocked"
    message = "Your access to models is suspended."


class ModelsWithdrawn(PermissionDenied):
    code = "models_withdrawn"
    message = "Access to models is switched off at the moment."


class TooManyKeys(Conflict):
    code = "too_many_keys"
    message = "Your plan allows no further key."


class NothingToUndo(Conflict):
    code = "nothing_to_undo"
    message = "There is no rotation to undo."


class PlanNotUsable(InvalidRequest):
    code = "plan_not_usable"
    message = "The plan cannot be saved like this."


class KeyIsOurs(Conflict):
    code = "key_is_ours"
    message = "The key is one of ours. Revoke it on its customer's page."


class KeyIsTrusted(Conflict):
    code = "key_is_trusted"
    message = "Staff vouch for this key. Take that back first."
