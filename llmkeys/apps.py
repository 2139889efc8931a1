from django.apps import AppConfig


class LlmkeysConfig(AppConfig):
    name = "llmkeys"
    verbose_name = "Virtual keys"
