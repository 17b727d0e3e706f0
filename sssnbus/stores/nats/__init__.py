"""NATS JetStream: one stream for each log, and one for what happens in each queue."""

from sssnbus.stores.nats.access import Access as Access
from sssnbus.stores.nats.settings import Settings as Settings
from sssnbus.stores.nats.store import NATSStore as NATSStore

__all__ = ["Access", "NATSStore", "Settings"]
