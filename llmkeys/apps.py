from django.apps import AppConfig


class LlmkeysConfig(AppConfig):
    name = "llmkeys"
    verbose_name = "Virtual keys"

    def ready(self) -> None:
        from llmkeys import receivers  # noqa: F401 - connects them
