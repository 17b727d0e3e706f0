"""The store that is one SQLite file, shared by any number of processes of one machine.

store ─┬─ log · queue · catalogue · record · wakeup      the verbs, one module for each ability
       │     append · select · settle · sql            what they do inside a transaction
       └─ core          open, close, who may call
             writer     group commit: many operations, one transaction, one hop
             keeper     renews leases and frees those of dead owners, in a thread of its own
             bell       wakes other processes
             connection · database · file · lock · failure
"""

from sssnbus.stores.sqlite.store import SQLiteStore as SQLiteStore

__all__ = ["SQLiteStore"]
