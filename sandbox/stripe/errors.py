"""What Stripe answers when it refuses, with its statuses, types and codes.

ApiError
├── InvalidRequest      400  the caller's mistake
├── Missing             404  no such object (or no such address)
├── Unauthorized        401  no key, or another one than ours
├── CardDeclined        402  the bank said no; what was tried stays recorded
├── IdempotencyMismatch 400  one key, two different requests
├── RateLimited         429
└── Unavailable         5xx
"""

from typing import Any


class ApiError(Exception):
    status = 400
    type = "invalid_request_error"
    # True: the attempt itself is part of the story (a declined charge), so its traces are kept.
    keeps_changes = False

    def __init__(
        self, message: str, *, code: str | None = None, param: str | None = None, **details: Any
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param
        self.details = details

    def body(self) -> dict[str, Any]:
        error: dict[str, Any] = {"message": self.message, "type": self.type, **self.details}
        if self.code:
            error["code"] = self.code
            error["doc_url"] = f"https://stripe.com/docs/error-codes/{self.code.replace('_', '-')}"
        if self.param:
            error["param"] = self.param
        return {"error": error}


class InvalidRequest(ApiError):
    pass


class Missing(ApiError):
    status = 404

    @classmethod
    def thing(cls, noun: str, id: str, param: str = "id") -> "Missing":
        return cls(f"No such {noun}: '{id}'", code="resource_missing", param=param)


class Unauthorized(ApiError):
    status = 401


class CardDeclined(ApiError):
    status = 402
    type = "card_error"
    keeps_changes = True


class IdempotencyMismatch(ApiError):
    type = "idempotency_error"


class RateLimited(ApiError):
    status = 429


class Unavailable(ApiError):
    type = "api_error"

    def __init__(self, status: int = 500) -> None:
        super().__init__("An unknown error occurred")
        self.status = status
