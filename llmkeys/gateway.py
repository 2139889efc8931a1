"""The process's one client for the gateway in the settings. Tests replace it."""

from django.conf import settings

from llmkeys.litellm_client import LiteLLMClient

_clients: dict[tuple[str, tuple[str, ...]], LiteLLMClient] = {}


def client() -> LiteLLMClient:
    """A client with a connection pool of its own, made on first use in this process."""
    key = (settings.LITELLM_URL, tuple(settings.LITELLM_MASTER_KEYS))
    if key not in _clients:
        _clients[key] = LiteLLMClient(
            url=settings.LITELLM_URL,
            master_keys=settings.LITELLM_MASTER_KEYS,
            timeout=settings.LITELLM_TIMEOUT_SECONDS,
            concurrency=settings.LITELLM_CONCURRENCY,
        )
    return _clients[key]


def use(replacement: LiteLLMClient | None) -> None:
    """Have ``client`` answer this one from now on; None goes back to the settings."""
    _clients.clear()
    if replacement is not None:
        _clients[(settings.LITELLM_URL, tuple(settings.LITELLM_MASTER_KEYS))] = replacement
