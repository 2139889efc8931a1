"""kombu's transport for Redis, but for one thing: a worker outlives a broker that dies under it.

When a connection is lost, messages in hand are given back or acknowledged on a channel whose
connection is no more by then. In kombu 5.7 that is an AttributeError, which ends the worker; here
it is a lost connection, which Celery knows what to do about. Such messages come back by themselves
after the visibility timeout, and before that the sweeps find the work.
"""

from typing import Any

from kombu.transport import redis
from redis.exceptions import ConnectionError as ConnectionLost


class Channel(redis.Channel):
    def _connparams(self, *args: Any, **kwargs: Any) -> Any:
        if self.connection is None or self.connection.client is None:
            raise ConnectionLost("the channel's connection is closed")
        return super()._connparams(*args, **kwargs)  # type: ignore[misc] # the stubs lack it


class Transport(redis.Transport):
    Channel = Channel
