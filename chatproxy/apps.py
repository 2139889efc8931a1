from django.apps import AppConfig


class ChatproxyConfig(AppConfig):
    name = "chatproxy"
    verbose_name = "Chat"
