"""The ASGI entrance: chat is answered ahead of Django's handler, everything else by it."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tesslate.settings")

django = get_asgi_application()

from chatproxy.asgi import ChatApplication  # noqa: E402 - needs the settings to be loaded

application = ChatApplication(django)
