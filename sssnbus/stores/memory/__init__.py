"""Messages in the memory of one process."""

from sssnbus.stores.memory.store import MemoryStore as MemoryStore

__all__ = ["MemoryStore"]
