from django.apps import AppConfig
from django.conf import settings


class TesslateConfig(AppConfig):
    """Composes the apps: system checks across settings, and the commands that see all of them."""

    name = "tesslate"

    def ready(self) -> None:
        from tesslate import checks, exporter  # noqa: F401 - the latter listens to Celery's signals

        checks.register_all()
        if settings.OTEL_EXPORTER_OTLP_ENDPOINT:
            from tesslate import telemetry

            telemetry.start(telemetry.otlp(), service=settings.OTEL_SERVICE_NAME)
