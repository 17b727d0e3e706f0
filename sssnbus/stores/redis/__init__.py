"""Messages in a Redis server, for all processes of all hosts that reach it."""

from sssnbus.stores.redis.place import Place as Place
from sssnbus.stores.redis.store import RedisStore as RedisStore

__all__ = ["Place", "RedisStore"]
