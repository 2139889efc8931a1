"""Google's error answers."""

from typing import Any


class FirebaseError(Exception):
    """A refusal, as the Identity Toolkit words it: `EMAIL_EXISTS`, `WEAK_PASSWORD : …`."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status

    def as_json(self) -> dict[str, Any]:
        return {
            "error": {
                "code": self.status,
                "message": self.message,
                "errors": [{"message": self.message, "domain": "global", "reason": "invalid"}],
            }
        }


class GatewayRefusal(FirebaseError):
    """A refusal by Google's API front, before the service itself; it names a canonical status."""

    def __init__(self, status: int, canonical: str, message: str) -> None:
        super().__init__(message, status)
        self.canonical = canonical

    def as_json(self) -> dict[str, Any]:
        return {"error": {"code": self.status, "message": self.message, "status": self.canonical}}


def key_missing() -> GatewayRefusal:
    return GatewayRefusal(
        403,
        "PERMISSION_DENIED",
        "Method doesn't allow unregistered callers (callers without established identity). "
        "Please use API Key or other form of API consumer identity to call this API.",
    )


def key_wrong() -> GatewayRefusal:
    return GatewayRefusal(
        400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."
    )


def token_refused(message: str) -> GatewayRefusal:
    """What securetoken.googleapis.com answers: without the list of errors."""
    return GatewayRefusal(400, "INVALID_ARGUMENT", message)
