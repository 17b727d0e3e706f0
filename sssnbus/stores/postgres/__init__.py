"""The store that is a schema of a PostgreSQL database, shared by processes of many hosts.

store ─┬─ log · queue · catalogue · record              the verbs, one module for each ability
       │     append · work · sql                        what they send: many operations in one statement
       └─ core          open, close, who may call
             lane       group commit, and sending again what was not answered
             reader     reads, on connections of their own
             keeper     renews leases and frees those of dead owners, in a thread of its own
             listener   hears of others' news
             letter     what a notification says
             operation · disowned · schema · link · place · failure

What the statements do is in the .sql files: functions that live in the schema.
"""

from sssnbus.stores.postgres.store import PostgresStore as PostgresStore

__all__ = ["PostgresStore"]
