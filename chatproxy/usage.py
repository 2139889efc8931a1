"""Usage of calls that went through us: the ledger knows whose they were better than the key does.

Our call id is the ledger row's own id, with the attempt behind it where there were several.
"""

import re
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from chatproxy.exchange import began_at
from chatproxy.models import ChatRequest
from llmkeys import usage_import
from llmkeys.usage_attribution import Attributed, by_key
from llmkeys.usage_books import Attribution
from llmkeys.usage_log import LoggedCall

OUR_CALL = re.compile(r"([0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})(?:-\d+)?")
# Timestamps of the database are finer than the milliseconds in an id.
NEAR = timedelta(milliseconds=1)


def import_usage(**options: Any) -> usage_import.Report | None:
    """llmkeys.usage_import, with plan and payer as the ledger has them."""
    return usage_import.import_usage(attribute=by_ledger, **options)


def by_ledger(calls: Sequence[LoggedCall]) -> Attributed:
    """Each call with the user, plan and organization of its request, or else of its key."""
    requests = _requests(calls)
    found = []
    for call, whose in by_key(calls):
        request = requests.get(request_id_of(call.call_id))
        if request is not None:
            user_id, organization_id, plan_code = request
            whose = Attribution(user_id, whose.key_id, organization_id, plan_code)
        found.append((call, whose))
    return found


def request_id_of(call_id: str) -> uuid.UUID | None:
    """The ledger row that a gateway call belongs to, if its id is one that we gave."""
    match = OUR_CALL.fullmatch(call_id)
    found = uuid.UUID(match[1]) if match else None
    return found if found is not None and began_at(found) is not None else None


def _requests(calls: Sequence[LoggedCall]) -> dict[uuid.UUID | None, tuple[int, int | None, str]]:
    ids = {found for call in calls if (found := request_id_of(call.call_id)) is not None}
    times = [at for found in ids if (at := began_at(found)) is not None]
    if not times:
        return {}
    # The ids carry their time, so that only the partitions in question are looked at.
    rows = ChatRequest.objects.order_by().filter(
        id__in=ids, started_at__gte=min(times) - NEAR, started_at__lte=max(times) + NEAR
    )
    return {
        pk: (user_id, organization_id, plan_code)
        for pk, user_id, organization_id, plan_code in rows.values_list(
            "id", "user_id", "organization_id", "plan_code"
        )
    }
