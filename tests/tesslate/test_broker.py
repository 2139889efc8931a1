"""A channel whose connection is gone tells so in words that Celery knows what to do about."""

from typing import Any

import pytest

from tesslate.broker import Transport
from tesslate.celery import app


def test_workers_and_senders_use_it():
    with app.connection_for_read() as connection:
        assert type(connection.transport) is Transport
        assert connection.as_uri().startswith("redis://")


def test_acknowledging_after_the_connection_is_lost_is_a_lost_connection():
    connection = app.connection_for_read()
    channel: Any = connection.channel()
    lost = connection.connection_errors
    # As Celery leaves it when it closes a connection that broke: without what it was made from.
    channel.connection = None
    channel._pool = channel._async_pool = None

    with pytest.raises(lost, match="connection is closed"):
        channel.qos.ack("a-tag")
    connection.release()
