"""What was kept of conversations goes with the account."""

import uuid

import pytest
from django.utils import timezone

from accounts.services import delete_account, suspend_user
from chatproxy.models import ChatContent
from tesslate.lib.cause import Cause

pytestmark = pytest.mark.django_db
CAUSE = Cause.system("test")


def keep_a_conversation(user) -> ChatContent:
    return ChatContent.objects.create(
        request_id=uuid.uuid4(), user=user, created_at=timezone.now(), encrypted="…"
    )


def test_closing_an_account_erases_its_conversations(user, stranger, free_plan):
    keep_a_conversation(user)
    others = keep_a_conversation(stranger)
    delete_account(user_id=user.pk, cause=CAUSE)
    assert list(ChatContent.objects.all()) == [others]


def test_a_suspended_user_keeps_their_conversations(user, free_plan):
    kept = keep_a_conversation(user)
    suspend_user(user_id=user.pk, reason="abuse", cause=CAUSE)
    assert list(ChatContent.objects.all()) == [kept]
