"""The Celery application. Tasks carry ids, never secrets, and are only wake-up calls:
each has a periodic sweep that finds the same work in the database."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tesslate.settings")

app = Celery("tesslate")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
