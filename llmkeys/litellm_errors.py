"""What may go wrong between us and the gateway.

LiteLLMError
├── LiteLLMUnavailable   no usable answer: try again later
├── LiteLLMRejected      an answer, and it is no: trying again changes nothing
└── MasterKeyRefused     none of our master keys is accepted: nothing will work, for any key
"""

from dataclasses import dataclass
from typing import Any

from tesslate.lib.redaction import redact

MAX_MESSAGE = 300


class LiteLLMError(Exception):
    """Anything that kept a management call from succeeding. The text holds no secret."""


class LiteLLMUnavailable(LiteLLMError):
    """No usable answer.

    ``outcome_unknown``: the request may have had its effect all the same; read before writing
    again. ``retry_after``: seconds that the gateway asked us to wait.
    """

    def __init__(
        self, message: str, *, outcome_unknown: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.outcome_unknown = outcome_unknown
        self.retry_after = retry_after


class LiteLLMRejected(LiteLLMError):
    """The gateway understood the call and refused it."""

    def __init__(self, status: int, problem: "Problem") -> None:
        super().__init__(f"{status} {problem.type or 'error'}: {problem.message}")
        self.status = status
        self.type = problem.type
        self.param = problem.param
        self.message = problem.message

    @property
    def is_taken_alias(self) -> bool:
        return self.status == 400 and self.param == "key_alias"

    @property
    def is_missing(self) -> bool:
        """What the call was about is not there."""
        return self.status == 404 and not self.names_unknown_team

    @property
    def already_exists(self) -> bool:
        return self.status == 400 and "already exists" in self.message

    @property
    def names_unknown_budget(self) -> bool:
        """A key was to refer to a budget row that is not there."""
        return "budget_id" in self.message or "foreign key" in self.message.lower()

    @property
    def names_unknown_team(self) -> bool:
        """A key was to join a team that is not there: LiteLLM says so with a 404 of its own."""
        return self.status == 404 and "Create team via" in self.message


class MasterKeyRefused(LiteLLMError):
    """The gateway accepts none of LITELLM_MASTER_KEYS."""


@dataclass(frozen=True, slots=True)
class Problem:
    """The parts of an error body that LiteLLM's four envelopes share."""

    message: str
    type: str = ""
    param: str = ""


def read_problem(body: Any, fallback: str) -> Problem:
    """Find message, type and param in any of LiteLLM's error bodies.

    ``{"error": {"message", "type", "param", "code"}}`` from most routes; ``{"detail": "…"}`` or
    ``{"detail": {"error": "…"}}`` from budgets and a few more; ``{"detail": [{"loc", "msg"}]}``
    from request validation; a bare string from /metrics.
    """
    match body:
        case {"error": {"message": message, **rest}}:
            return _problem(message, rest.get("type"), rest.get("param"))
        case {"error": str(message)}:
            return _problem(message)
        case {"detail": [{"msg": message, **rest}, *_]}:
            place: Any = rest.get("loc") or [""]
            return _problem(message, "validation_error", place[-1])
        case {"detail": {"error": message}} | {"detail": {"message": message}}:
            return _problem(message)
        case {"detail": message} | str(message):
            return _problem(message)
    return _problem(fallback)


def _problem(message: Any, type_: Any = "", param: Any = "") -> Problem:
    def text(value: Any) -> str:
        return "" if value in (None, "None") else redact(str(value))[:MAX_MESSAGE]

    return Problem(text(message), text(type_), text(param))
