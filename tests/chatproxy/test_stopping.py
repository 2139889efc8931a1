"""A web process that is told to stop comes to its end, whatever it was doing."""

import asyncio
from typing import Any

import pytest

from chatproxy.runtime import Runtime


@pytest.fixture
def runtime(settings: Any, tmp_path: Any, db: None) -> Runtime:
    settings.CHAT_SPILL_DIR = str(tmp_path / "spill")
    return Runtime()


async def test_work_that_misses_that_it_is_to_end_is_told_again(runtime: Runtime):
    """As redis-py may, told so while it connects (bpo-42130): it then listens on."""
    begun = asyncio.Event()

    async def deaf() -> None:
        try:
            begun.set()
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(60)

    runtime.start()
    runtime.spawn(deaf())
    await begun.wait()

    await asyncio.wait_for(runtime.stop(), 5)


async def test_stopping_right_after_the_start_ends_it(runtime: Runtime):
    runtime.start()
    await asyncio.wait_for(runtime.stop(), 5)
