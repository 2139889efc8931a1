"""The ASGI entrance: chat and Stripe's webhook are answered ahead of Django's handler."""

import os
from typing import cast

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tesslate.settings")

django = get_asgi_application()

from chatproxy.asgi import Application, ChatApplication  # noqa: E402 - needs the settings to be loaded
from plans.asgi import WebhookApplication  # noqa: E402 - likewise

chat = ChatApplication(cast(Application, django))
application = WebhookApplication(chat)
