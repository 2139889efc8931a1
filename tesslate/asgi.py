"""The ASGI entrance: chat and Stripe's webhook are answered ahead of Django's handler."""

import os
import warnings
from typing import cast

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tesslate.settings")

# Django reads such a response as a whole in a thread. Ours are short: static files and exports of
# as many rows as are sent at once (tesslate.staffroom.lists.STREAMED_UP_TO).
warnings.filterwarnings(
    "ignore",
    message="StreamingHttpResponse must consume synchronous iterators",
    module=r"django\.core\.handlers\.asgi",
)

django = get_asgi_application()

from chatproxy.asgi import Application, ChatApplication  # noqa: E402 - needs the settings to be loaded
from plans.asgi import WebhookApplication  # noqa: E402 - likewise

chat = ChatApplication(cast(Application, django))
application = WebhookApplication(chat)
