"""The gateway's list of keys, read ahead of whoever looks at it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime

from django.utils import timezone

from llmkeys.litellm_client import KeyPage, LiteLLMClient
from llmkeys.litellm_errors import LiteLLMError

# Pages given out in one go: enough that what is done once for each such part costs little.
PAGES_TOGETHER = 5


def pages(client: LiteLLMClient, first: int) -> Iterator[tuple[list[KeyPage], datetime]]:
    """The gateway's keys from a page on, several pages at a time with the moment before the first
    of them was asked for; the next several are being fetched while these are looked at."""
    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(_read_pages, client, first)
        while True:
            part, asked_at = coming.result()
            end = part[-1]
            more = end.page < end.total_pages
            if more:
                coming = ahead.submit(_read_pages, client, end.page + 1)
            yield part, asked_at
            if not more:
                return


def _read_pages(client: LiteLLMClient, first: int) -> tuple[list[KeyPage], datetime]:
    """Fewer where one fails, so that those before it count; at the next turn it fails again."""
    asked_at = timezone.now()
    part = [client.list_keys(first)]
    with suppress(LiteLLMError):
        while part[-1].page < part[-1].total_pages and len(part) < PAGES_TOGETHER:
            part.append(client.list_keys(part[-1].page + 1))
    return part, asked_at
