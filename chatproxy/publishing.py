"""What is done to prompts. Every act leaves an audit entry, and web processes follow at once."""

import difflib

from django.db import transaction
from django.db.models import Max

from accounts.audit import record_act
from accounts.models import User
from chatproxy.models import PromptVersion, SystemPrompt
from chatproxy.prompts import unknown_variables
from tesslate.lib.cause import Cause
from tesslate.lib.changes import PROMPTS, publish
from tesslate.lib.errors import Conflict, InvalidRequest

LONGEST_TEXT = 100_000


@transaction.atomic
def write_version(
    *, prompt: SystemPrompt, text: str, note: str = "", author: User | None, cause: Cause
) -> PromptVersion:
    """Add a version, not yet in use. The text of the newest one again is that one.

    Raises InvalidRequest for an empty or overlong text, or one with an unknown variable.
    """
    check_text(text)
    prompt = _locked(prompt)
    newest = prompt.versions.first()
    if newest is not None and newest.text == text:
        return newest
    number = (prompt.versions.aggregate(highest=Max("number"))["highest"] or 0) + 1
    version = PromptVersion.objects.create(
        prompt=prompt, number=number, text=text, note=note[:500], created_by=author
    )
    record_act(
        action="prompt.written",
        cause=cause,
        target=prompt,
        reason=note,
        before={"version": newest.number} if newest else None,
        after={"version": number},
    )
    return version


@transaction.atomic
def publish_version(*, version: PromptVersion, cause: Cause, reason: str = "") -> None:
    """Put a version, new or old, into use for everyone; a split in progress ends."""
    prompt = _locked(version.prompt)
    before = _in_use(prompt)
    prompt.published = version
    prompt.challenger = None
    prompt.challenger_percent = 0
    _save(prompt, action="prompt.published", cause=cause, reason=reason, before=before)


@transaction.atomic
def roll_back(*, prompt: SystemPrompt, cause: Cause, reason: str = "") -> PromptVersion:
    """Put the version before the one in use back into use. Raises Conflict at the first one."""
    prompt = _locked(prompt)
    current = prompt.published
    earlier = current and prompt.versions.filter(number__lt=current.number).first()
    if not earlier:
        raise Conflict("There is no earlier version.")
    publish_version(version=earlier, cause=cause, reason=reason)
    return earlier


@transaction.atomic
def start_split(*, version: PromptVersion, percent: int, cause: Cause, reason: str = "") -> None:
    """Give ``version`` to that share of users. Raises InvalidRequest and Conflict."""
    if not 1 <= percent <= 99:
        raise InvalidRequest("From 1 to 99 percent.", param="challenger_percent")
    prompt = _locked(version.prompt)
    if prompt.published is None or prompt.published_id == version.pk:
        raise Conflict("A split needs two versions: one in use and another one.")
    before = _in_use(prompt)
    prompt.challenger = version
    prompt.challenger_percent = percent
    _save(prompt, action="prompt.split", cause=cause, reason=reason, before=before)


def check_text(text: str) -> None:
    if not text.strip():
        raise InvalidRequest("A prompt says something.", param="text")
    if len(text) > LONGEST_TEXT:
        raise InvalidRequest(f"At most {LONGEST_TEXT} characters.", param="text")
    if unknown := unknown_variables(text):
        raise InvalidRequest(f"Unknown variables: {', '.join(unknown)}.", param="text")


def changed_lines(old: str, new: str) -> list[str]:
    """The unified difference between two texts, without its heading and line ends."""
    return list(difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm=""))[2:]


def opened_state(prompt: SystemPrompt) -> str:
    """What a form carries to notice that somebody else changed the prompt meanwhile."""
    newest = prompt.versions.aggregate(highest=Max("number"))["highest"] or 0
    return f"{prompt.updated_at.isoformat()}/{newest}"


def check_unchanged(prompt_id: int, opened: str) -> None:
    """Hold the prompt until the caller's transaction ends.

    Raises Conflict when it is no longer as it was ``opened``.
    """
    if opened_state(SystemPrompt.objects.select_for_update().get(pk=prompt_id)) != opened:
        raise Conflict("Somebody changed this prompt meanwhile. Reload it and try again.")


def _locked(prompt: SystemPrompt) -> SystemPrompt:
    return SystemPrompt.objects.select_for_update().get(pk=prompt.pk)


def _in_use(prompt: SystemPrompt) -> dict[str, int | None]:
    return {
        "version": prompt.published.number if prompt.published else None,
        "challenger": prompt.challenger.number if prompt.challenger else None,
        "percent": prompt.challenger_percent,
    }


def _save(
    prompt: SystemPrompt, *, action: str, cause: Cause, reason: str, before: dict[str, int | None]
) -> None:
    prompt.save(update_fields=["published", "challenger", "challenger_percent", "updated_at"])
    record_act(
        action=action,
        cause=cause,
        target=prompt,
        reason=reason,
        before=before,
        after=_in_use(prompt),
    )
    publish(kinds=[PROMPTS])
