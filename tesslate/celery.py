"""The Celery application. Tasks carry ids, never secrets, and are only wake-up calls:
each has a periodic sweep that finds the same work in the database."""

import os
from collections.abc import Mapping
from contextvars import Token
from typing import Any

from celery import Celery, Task
from celery.signals import before_task_publish, task_postrun, task_prerun
from kombu.transport import TRANSPORT_ALIASES

from tesslate.lib.logcontext import bind, current_fields, unbind

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tesslate.settings")

# Before the first connection: by name, so that addresses stay what they are.
TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), "tesslate.broker:Transport"))

app = Celery("tesslate")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

# What a task's log lines take over from where the task was sent: ids, never anything else.
CARRIED = ("request_id", "event_id")
HEADER = "log_fields"
_bound: dict[str, Token[Mapping[str, str]]] = {}


@before_task_publish.connect
def carry_ids(headers: dict[str, Any], **kwargs: Any) -> None:
    fields = current_fields()
    headers[HEADER] = {name: fields[name] for name in CARRIED if name in fields}


@task_prerun.connect
def name_the_task_in_logs(task_id: str, task: Task[Any, Any], **kwargs: Any) -> None:
    carried = task.request.get(HEADER) or {}
    _bound[task_id] = bind(**carried, task_id=task_id, task=task.name)


@task_postrun.connect
def forget_the_task(task_id: str, **kwargs: Any) -> None:
    if (token := _bound.pop(task_id, None)) is not None:
        unbind(token)
