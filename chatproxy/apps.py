from django.apps import AppConfig


class ChatproxyConfig(AppConfig):
    name = "chatproxy"
    verbose_name = "Chat"

    def ready(self) -> None:
        from chatproxy import receivers  # noqa: F401 - importing registers the receivers
