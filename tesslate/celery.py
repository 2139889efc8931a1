"""The Celery application. Tasks carry ids, never secrets, and are only wake-up calls:
each has a periodic sweep that finds the same work in the database."""

import os
from collections.abc import Mapping
from contextvars import Token
from typing import Any

from celery import Celery, Task
from celery.signals import task_postrun, task_prerun

from tesslate.lib.logcontext import bind, unbind

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tesslate.settings")

app = Celery("tesslate")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

_bound: dict[str, Token[Mapping[str, str]]] = {}


@task_prerun.connect
def name_the_task_in_logs(task_id: str, task: Task[Any, Any], **kwargs: Any) -> None:
    _bound[task_id] = bind(task_id=task_id, task=task.name)


@task_postrun.connect
def forget_the_task(task_id: str, **kwargs: Any) -> None:
    if (token := _bound.pop(task_id, None)) is not None:
        unbind(token)
