"""The gateway as one object: its settings, its models, what it stores and what it counts."""

from collections import defaultdict, deque
from typing import Any

from sandbox.faults import FaultBook
from sandbox.litellm.catalogue import read_catalogue
from sandbox.litellm.limits import Limiter
from sandbox.litellm.settings import Settings
from sandbox.litellm.store import Store
from sandbox.litellm.views import Remembered
from sandbox.state import Journal

# Chat requests kept as they came, for tests that ask what really reached the gateway.
CHATS_KEPT = 100


class Gateway:
    """Raises CatalogueError for a configuration that cannot be read."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.catalogue = read_catalogue(settings.config)
        self.journal = Journal(settings.data / "litellm.sqlite" if settings.data else None)
        self.store = Store(self.journal)
        self.limiter = Limiter(settings.window_seconds)
        self.remembered = Remembered(settings.cache_ttl)
        self.tokens_per_second = settings.tokens_per_second
        self.chats: deque[dict[str, Any]] = deque(maxlen=CHATS_KEPT)
        # For /metrics: metric and labels → sum.
        self.counted: defaultdict[tuple[str, str], float] = defaultdict(float)
        self.in_flight = 0
        # The sandbox's faults; those of providers strike inside a chat request.
        self.faults = FaultBook()

    def reset(self) -> None:
        self.store.clear()
        self.limiter.clear()
        self.remembered = Remembered(self.settings.cache_ttl)
        self.tokens_per_second = self.settings.tokens_per_second
        self.chats.clear()
        self.counted.clear()

    def remember_for(self, seconds: float) -> None:
        """Let the imagined second process remember keys so long; what it knew is forgotten."""
        self.remembered = Remembered(seconds)

    def close(self) -> None:
        self.journal.close()
