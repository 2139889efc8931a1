"""A stand-in for the LiteLLM proxy, with its management API, its enforcement and its models.

    app = build_app(Settings(master_key="sk-…", config=Path("litellm.config.yaml")))
    with sandbox.serving.served(app) as url: …

or, as a process of its own, `python -m sandbox.litellm` (see settings.py). It answers as LiteLLM
1.106.2 does; tests/contract/gateway holds it against the real proxy. Faults and the request log
are sandbox.faults; besides, /sandbox/chats, /sandbox/pace and /sandbox/cache (see app.py).

Not here: fallbacks and retries between providers, per-model limits of a key, model CRUD, the UI.
"""

from sandbox.litellm.app import build_app
from sandbox.litellm.settings import Settings

__all__ = ["Settings", "build_app"]
