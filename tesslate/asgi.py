"""The ASGI entrance: chat and Stripe's webhook are answered ahead of Django's handler."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tesslate.settings")

django = get_asgi_application()

from chatproxy.asgi import ChatApplication  # noqa: E402 - needs the settings to be loaded
from plans.asgi import WebhookApplication  # noqa: E402 - likewise

chat = ChatApplication(django)
application = WebhookApplication(chat)
