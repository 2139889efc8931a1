"""Which system prompts a request gets, and what they say.

Choosing and rendering are pure: prompts, a plan, a model, a person and a moment in, text out.
Rendering knows three variables and nothing else: no template engine ever sees what staff or users
wrote, so there is nothing to inject into.
"""

import hashlib
import logging
import re
from dataclasses import dataclass
from datetime import datetime

import orjson
from django.utils import timezone

from chatproxy.models import PromptVersion, SystemPrompt

logger = logging.getLogger(__name__)

VARIABLES = frozenset({"user_name", "plan", "date"})
VARIABLE = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
LONGEST_VALUE = 80
# No version has it: the text of a preview that is not stored.
DRAFT_VERSION = 0
CATEGORY_ORDER = {category: n for n, category in enumerate(SystemPrompt.Category.values)}


@dataclass(frozen=True, slots=True)
class Text:
    """One version, cut at its variables: even items are literal, odd ones variable names."""

    version_id: int
    parts: tuple[str, ...]

    @classmethod
    def compile(cls, version_id: int, text: str) -> "Text":
        return cls(version_id, tuple(VARIABLE.split(text.strip())))

    @property
    def is_constant(self) -> bool:
        return len(self.parts) == 1


@dataclass(frozen=True, slots=True)
class Prompt:
    """A SystemPrompt with its texts, as plain values."""

    id: int
    category: str
    position: int
    plan_codes: frozenset[str]
    models: frozenset[str]
    starts_at: datetime | None
    ends_at: datetime | None
    published: Text
    challenger: Text | None
    challenger_percent: int

    def applies(self, *, plan_code: str, model: str, at: datetime) -> bool:
        return (
            (not self.plan_codes or plan_code in self.plan_codes)
            and (not self.models or model in self.models)
            and (self.starts_at is None or self.starts_at <= at)
            and (self.ends_at is None or at < self.ends_at)
        )

    def text_for(self, user_id: int) -> Text:
        if self.challenger is None or _bucket(self.id, user_id) >= self.challenger_percent:
            return self.published
        return self.challenger


@dataclass(frozen=True, slots=True)
class Rendered:
    """What goes first in a conversation, and the versions it was made of."""

    text: str
    version_ids: tuple[int, ...]
    # The text as a JSON string: long prompts are escaped once, not per request.
    json: bytes


EMPTY = Rendered("", (), b'""')


class PromptSet:
    """All prompts in use; remembers what it rendered where no variable makes it personal."""

    def __init__(self, prompts: list[Prompt]) -> None:
        self._prompts = sorted(prompts, key=_order)
        # When any window opens or closes, choosing has to be done per moment.
        self._timed = any(prompt.starts_at or prompt.ends_at for prompt in prompts)
        self._split = any(prompt.challenger for prompt in prompts)
        self._constant: dict[tuple[str, str], Rendered] = {}

    def render(
        self, *, plan_code: str, model: str, user_id: int, user_name: str, at: datetime
    ) -> Rendered:
        if not self._prompts:
            return EMPTY
        known = self._constant.get((plan_code, model))
        if known is not None:
            return known
        texts = self.choose(plan_code=plan_code, model=model, user_id=user_id, at=at)
        values = {"user_name": user_name, "plan": plan_code, "date": at.date().isoformat()}
        rendered = render(texts, values)
        if not self._timed and not self._split and all(text.is_constant for text in texts):
            self._constant[plan_code, model] = rendered
        return rendered

    def choose(self, *, plan_code: str, model: str, user_id: int, at: datetime) -> list[Text]:
        return [
            prompt.text_for(user_id)
            for prompt in self._prompts
            if prompt.applies(plan_code=plan_code, model=model, at=at)
        ]


def render(texts: list[Text], values: dict[str, str]) -> Rendered:
    if not texts:
        return EMPTY
    text = "\n\n".join(filled for one in texts if (filled := _fill(one, values)))
    return Rendered(text, tuple(one.version_id for one in texts), orjson.dumps(text))


def unknown_variables(text: str) -> list[str]:
    """Names in double braces that rendering does not know; forms refuse to publish them."""
    return sorted({name for name in VARIABLE.findall(text) if name not in VARIABLES})


def load_prompts(*, draft: Prompt | None = None) -> PromptSet:
    """Everything that may be in use now or by itself later.

    For previews, ``draft`` stands in the place of the stored prompt with its id.
    """
    rows = (
        SystemPrompt.objects.filter(is_enabled=True, published__isnull=False)
        .exclude(ends_at__lte=timezone.now())
        .select_related("published", "challenger")
        .prefetch_related("plans", "gateway_models")
    )
    if draft is None:
        return PromptSet([_plain(row) for row in rows])
    return PromptSet([draft, *(_plain(row) for row in rows if row.pk != draft.id)])


def _plain(row: SystemPrompt) -> Prompt:
    assert row.published is not None
    return Prompt(
        id=row.pk,
        category=row.category,
        position=row.position,
        plan_codes=frozenset(plan.code for plan in row.plans.all()),
        models=frozenset(model.name for model in row.gateway_models.all()),
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        published=_text(row.published),
        challenger=_text(row.challenger) if row.challenger and row.challenger_percent else None,
        challenger_percent=row.challenger_percent,
    )


def _text(version: PromptVersion) -> Text:
    return Text.compile(version.pk, version.text)


def _order(prompt: Prompt) -> tuple[int, int, int]:
    return CATEGORY_ORDER.get(prompt.category, len(CATEGORY_ORDER)), prompt.position, prompt.id


def _bucket(prompt_id: int, user_id: int) -> int:
    """0 to 99, always the same for this person and prompt, evenly spread over people."""
    digest = hashlib.blake2b(f"{prompt_id}:{user_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % 100


def _fill(text: Text, values: dict[str, str]) -> str:
    if text.is_constant:
        return text.parts[0]
    pieces = list(text.parts)
    for n in range(1, len(pieces), 2):
        value = values.get(pieces[n])
        if value is None:
            # Publishing refuses these; a row that got here another way must not stop the chat.
            logger.error("Prompt version %s names an unknown variable, left empty", text.version_id)
        pieces[n] = _harmless(value or "")
    return "".join(pieces).strip()


def _harmless(value: str) -> str:
    """A value that cannot start a line of its own, close a quote block or run on for pages."""
    printable = "".join(char if char.isprintable() else " " for char in value)
    return " ".join(printable.replace("{", "(").replace("}", ")").split())[:LONGEST_VALUE]
