"""What is encrypted at rest stays readable when the key is exchanged as docs/keys.md says."""

import uuid
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import call_command

from accounts.models import User
from chatproxy.content import store_content
from chatproxy.models import ChatContent
from llmkeys.models import SpendBudget, VirtualKey
from llmkeys.spend_budgets import set_budget
from tesslate import doctor
from tesslate.encryption import sample_opens
from tesslate.lib.cause import Cause
from tesslate.lib.crypto import decrypt, encrypt

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("free_plan")]


def everything() -> list[str]:
    return [
        decrypt(VirtualKey.objects.get().secret),
        decrypt(SpendBudget.objects.get().webhook_secret),
        *(decrypt(row.encrypted) for row in ChatContent.objects.order_by("created_at")),
    ]


@pytest.fixture
def stored(user: User) -> list[str]:
    VirtualKey.objects.create(
        user=user, alias="a", key_hash="h", last_four="0000", secret=encrypt("sk-1")
    )
    set_budget(
        user=user,
        amount=Decimal(5),
        is_hard=False,
        webhook_url="https://example.com/",
        cause=Cause.system("test"),
    )
    for number in range(3):
        store_content(
            request_id=str(uuid.uuid4()),
            started_ms=1_790_000_000_000 + number,
            user_id=user.pk,
            messages=[{"role": "user", "content": str(number)}],
            answer=b"",
            is_stream=False,
        )
    return everything()


def test_S42_nothing_is_left_under_the_old_key(stored: list[str], settings: Any) -> None:
    new = Fernet.generate_key().decode()
    settings.ENCRYPTION_KEYS = [new, *settings.ENCRYPTION_KEYS]
    told = StringIO()
    call_command("reencrypt_keys", "--batch", "2", stdout=told, stderr=StringIO())
    assert "5 encrypted anew, 0 were already" in told.getvalue()
    settings.ENCRYPTION_KEYS = [new]
    assert everything() == stored
    assert sample_opens() == (5, [])


def test_whatever_cannot_be_opened_is_named_by_the_doctor(stored: list[str], settings: Any) -> None:
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    state, finding, remedy = doctor.CHECKUPS["Encryption keys"]()
    assert state == doctor.FAILURE
    assert finding.endswith("VirtualKey.secret, SpendBudget.webhook_secret, ChatContent.encrypted")
    assert "ENCRYPTION_KEYS" in remedy
