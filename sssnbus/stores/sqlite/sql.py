"""Every statement of the store: fixed text, values only as parameters."""

from collections.abc import Mapping
from typing import Final

from sssnbus.stores.sqlite.failure import BUSY_SECONDS


def _inserts(head: str, row: str) -> Mapping[int, str]:
    return {count: head + ", ".join([row] * count) for count in (64, 8, 1)}


BEGIN: Final = "BEGIN IMMEDIATE"
SNAPSHOT: Final = "BEGIN"
COMMIT: Final = "COMMIT"
ROLLBACK: Final = "ROLLBACK"
SAVEPOINT: Final = "SAVEPOINT operation"
UNDO: Final = "ROLLBACK TO operation"
RELEASE: Final = "RELEASE operation"
TRUNCATE: Final = "PRAGMA wal_checkpoint(TRUNCATE)"
PASSIVE: Final = "PRAGMA wal_checkpoint(PASSIVE)"
PAGE_SIZE: Final = "PRAGMA page_size"
PAGE_COUNT: Final = "PRAGMA page_count"
VACUUM: Final = "VACUUM"
ONLY_QUERIES: Final = "PRAGMA query_only = ON"
NO_WAIT: Final = "PRAGMA busy_timeout = 0"
SHORT_WAIT: Final = "PRAGMA busy_timeout = 1000"
USUAL_WAIT: Final = f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}"
QUICK_CHECK: Final = "PRAGMA quick_check(1)"
DATA_VERSION: Final = "PRAGMA data_version"

# The hybrid clock

CLOCK: Final = "SELECT last FROM log WHERE number = 0"
SET_CLOCK: Final = "UPDATE log SET last = ? WHERE number = 0"

# Logs

LOG: Final = "SELECT number, kind, last, floor, count, size, depth FROM log WHERE name = ? AND number > 0"
LAST: Final = "SELECT last FROM log WHERE name = ? AND number > 0"
LOGS: Final = (
    "SELECT name, kind, last, floor, count, size FROM log"
    " WHERE number > 0 AND substr(name, 1, length(?1)) = ?1"
    " AND (instr(?1, '!') > 0 OR instr(name, '!') = 0) ORDER BY name"
)
DECLARE: Final = "INSERT INTO log (name, kind) VALUES (?, ?) ON CONFLICT (name) DO NOTHING"
KIND: Final = "SELECT kind FROM log WHERE name = ? AND number > 0"
GROWN: Final = "UPDATE log SET last = ?, count = ?, size = ?, depth = ? WHERE number = ?"
SHRINK: Final = "UPDATE log SET count = count - ?, size = size - ?, depth = depth - ? WHERE number = ?"
RAISE_FLOOR: Final = "UPDATE log SET floor = max(floor, ?) WHERE number = ?"
FORGET_LOG: Final = "DELETE FROM log WHERE number = ?"
DROPPED: Final = "INSERT INTO dropped (number) VALUES (?)"
NEXT_DROPPED: Final = "SELECT number FROM dropped LIMIT 1"
DROPPED_END: Final = (
    "SELECT position FROM message WHERE position > ? AND position <= ? ORDER BY position LIMIT 1 OFFSET ?"
)
END_DROPPED: Final = "DELETE FROM dropped WHERE number = ?"

# Messages

ADD_MESSAGES: Final = _inserts("INSERT INTO message VALUES ", "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
"""By how many rows they take, the most first."""
STORED: Final = (
    "SELECT id, position & 1099511627775,"
    " timestamp, sender_id, topic, type, headers, body, crc, priority, key"
    " FROM message WHERE position = ?"
)
PAGE: Final = (
    "SELECT id, position & 1099511627775,"
    " timestamp, sender_id, topic, type, headers, body, crc, priority, key"
    " FROM message WHERE position > ? AND position <= ? ORDER BY position LIMIT ?"
)
_ON_TOPIC: Final = "(topic GLOB ? AND topic NOT GLOB ?)"
PAGE_ON_TOPICS: Final = {
    count: "SELECT id, position & 1099511627775,"
    " timestamp, sender_id, topic, type, headers, body, crc, priority, key"
    f" FROM message WHERE position > ? AND position <= ? AND ({' OR '.join([_ON_TOPIC] * count)})"
    " ORDER BY position LIMIT ?"
    for count in (1, 2, 4, 8)
}
"""By how many patterns they take."""
FIND: Final = (
    "SELECT id, position & 1099511627775,"
    " timestamp, sender_id, topic, type, headers, body, crc, priority, key"
    " FROM message WHERE log = (SELECT number FROM log WHERE name = ? AND number > 0) AND id = ?"
)
POSITION: Final = "SELECT position FROM message WHERE log = ? AND id = ?"
SAME: Final = "SELECT position, type = ? AND body = ? FROM message WHERE log = ? AND id = ?"
NEAREST: Final = (
    "SELECT position, stored FROM message WHERE position > ? AND position <= ? ORDER BY position LIMIT 1"
)
OLDEST: Final = (
    "SELECT position, stored, length(headers) + length(body) FROM message"
    " WHERE position > ? AND position <= ? ORDER BY position LIMIT ?"
)
INTERVAL: Final = (
    "SELECT position FROM message"
    " WHERE position > ? AND position <= ? AND id > ? AND id < ? ORDER BY position LIMIT ?"
)
SIZE: Final = "SELECT length(headers) + length(body) FROM message WHERE position = ?"
CUT_MESSAGE: Final = "DELETE FROM message WHERE position = ?"
CUT_MESSAGES: Final = "DELETE FROM message WHERE position > ? AND position <= ?"

# Queues

ADD_JOBS: Final = _inserts(
    "INSERT INTO job (position, log, state, priority, key, size, due) VALUES ", "(?, ?, ?, ?, ?, ?, ?)"
)
JOB: Final = "SELECT state, key, size FROM job WHERE position = ?"
HELD: Final = "SELECT key, size FROM job WHERE position = ? AND token = ? AND state = 2 AND until > ?"
STANDING: Final = "SELECT state, attempts, due, until, error, token FROM job WHERE position = ?"
RANK: Final = "SELECT state, priority FROM job WHERE position = ?"
CUT_JOB: Final = "DELETE FROM job WHERE position = ?"
CUT_JOBS: Final = "DELETE FROM job WHERE position > ? AND position <= ?"
KEYS: Final = (
    "SELECT DISTINCT key FROM job WHERE position > ? AND position <= ? AND key IS NOT NULL AND state <> 3"
)
OPEN_JOBS: Final = "SELECT count(*) FROM job WHERE position > ? AND position <= ? AND state <> 3"
KEY_HEAD: Final = (
    "SELECT position, state FROM job WHERE log = ? AND key = ? AND state <> 3 ORDER BY position LIMIT 1"
)
FREE_HEAD: Final = "UPDATE job SET state = due IS NOT NULL WHERE position = ?"
PROMOTE: Final = (
    "UPDATE job SET state = 0, due = NULL WHERE position IN (SELECT position FROM job INDEXED BY job_due"
    " WHERE state = 1 AND log = ? AND due <= ? ORDER BY due LIMIT ?)"
)
TAKE_BACK: Final = (
    "UPDATE job SET state = 0, worker = NULL, owner = NULL, token = NULL, until = NULL"
    " WHERE position IN (SELECT position FROM job INDEXED BY job_until"
    " WHERE log = ? AND until <= ? ORDER BY until LIMIT ?)"
)
NEXT_DUE: Final = (
    "SELECT due FROM job INDEXED BY job_due"
    " WHERE state = 1 AND due IS NOT NULL AND log = ? ORDER BY due LIMIT 1"
)
NEXT_UNTIL: Final = (
    "SELECT until FROM job INDEXED BY job_until WHERE until IS NOT NULL AND log = ? ORDER BY until LIMIT 1"
)
READY: Final = (
    "SELECT position FROM job INDEXED BY job_ready"
    " WHERE state = 0 AND log = ? ORDER BY priority DESC, position LIMIT ?"
)
NEXT_PRIORITY: Final = (
    "SELECT priority FROM job INDEXED BY job_ready"
    " WHERE state = 0 AND log = ? AND priority < ? ORDER BY priority DESC LIMIT 1"
)
READY_OF_PRIORITY: Final = (
    "SELECT position FROM job INDEXED BY job_ready"
    " WHERE state = 0 AND log = ? AND priority = ? ORDER BY position LIMIT ?"
)
READY_INTERVAL: Final = (
    "SELECT job.position FROM job INDEXED BY job_ready CROSS JOIN message USING (position)"
    " WHERE state = 0 AND job.log = ? AND job.priority = ?"
    " AND id > ? AND id < ? ORDER BY job.position LIMIT ?"
)
DUE: Final = (
    "SELECT position FROM job INDEXED BY job_due"
    " WHERE state = 1 AND log = ? AND due <= ? ORDER BY due LIMIT ?"
)
ENDED: Final = (
    "SELECT position FROM job INDEXED BY job_until WHERE log = ? AND until <= ? ORDER BY until LIMIT ?"
)
CLAIMED: Final = "SELECT attempts, error FROM job WHERE position = ?"
LEASE: Final = (
    "UPDATE job SET state = 2, attempts = attempts + 1, worker = ?, owner = ?, token = ?, until = ?"
    " WHERE position = ?"
)
DONE: Final = (
    "UPDATE job SET state = 3, worker = NULL, owner = NULL, token = NULL, until = NULL WHERE position = ?"
)
GIVE_BACK: Final = (
    "UPDATE job SET state = ?, until = ?, attempts = attempts - ?, error = coalesce(?, error),"
    " worker = NULL, owner = NULL, token = NULL WHERE position = ?"
)
EXTEND: Final = "UPDATE job SET until = ?1 WHERE position = ?2 AND token = ?3 AND state = 2 AND until > ?4"
RENEW: Final = "UPDATE job SET until = ? WHERE position = ? AND token = ? AND state = 2"
RESTORE: Final = "UPDATE job SET attempts = ?, error = ? WHERE position = ?"
COUNTS: Final = (
    "SELECT (SELECT count(*) FROM job INDEXED BY job_due"
    "  WHERE state = 1 AND log = ?1 AND due > ?2),"
    " (SELECT count(*) FROM job INDEXED BY job_until WHERE log = ?1 AND until > ?3 AND state = 1),"
    " (SELECT count(*) FROM job INDEXED BY job_until WHERE log = ?1 AND until > ?3 AND state = 2)"
)
DONE_OF: Final = "SELECT position, size FROM job INDEXED BY job_done WHERE state = 3 AND log = ? LIMIT ?"
DONE_LOG: Final = (
    "SELECT name FROM log WHERE number = (SELECT log FROM job INDEXED BY job_done WHERE state = 3 AND"
    " log IN (SELECT number FROM log) LIMIT 1)"
)

# Dedupe keys

KNOWN_KEY: Final = "SELECT digest, id, sequence FROM dedupe WHERE log = ? AND key = ? AND expires > ?"
ADD_KEY: Final = "INSERT OR REPLACE INTO dedupe VALUES (?, ?, ?, ?, ?, ?)"
PURGE_KEYS: Final = (
    "DELETE FROM dedupe WHERE (log, key) IN (SELECT log, key FROM dedupe WHERE expires <= ? LIMIT 16)"
)
CUT_KEYS: Final = (
    "DELETE FROM dedupe WHERE log = ?1 AND key IN (SELECT key FROM dedupe WHERE log = ?1 LIMIT ?2)"
)

# Records

GET: Final = "SELECT value, version FROM record WHERE space = ? AND name = ?"
PUT: Final = "INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?)"
DELETE: Final = "DELETE FROM record WHERE space = ? AND name = ?"
SPACES: Final = "SELECT DISTINCT space FROM record ORDER BY space"
NAMES: Final = "SELECT name, value, version FROM record WHERE space = ? ORDER BY name"

# Owners

BOOT: Final = "SELECT value FROM setting WHERE name = 'boot'"
SET_BOOT: Final = "INSERT OR REPLACE INTO setting VALUES ('boot', ?)"
END_LEASES: Final = "UPDATE job INDEXED BY job_until SET until = 0, owner = NULL WHERE until IS NOT NULL"
END_OWNERS: Final = "DELETE FROM owner"
ADD_OWNER: Final = "INSERT INTO owner (locked) VALUES (0)"
OWNER_LOCKED: Final = "UPDATE owner SET locked = 1 WHERE number = ?"
OWNER: Final = "SELECT 1 FROM owner WHERE number = ?"
OTHER_OWNERS: Final = "SELECT number FROM owner WHERE number <> ? AND locked"
END_OWNER: Final = "DELETE FROM owner WHERE number = ?"
FREE_OWNED: Final = (
    "UPDATE job INDEXED BY job_until"
    " SET state = 0, worker = NULL, owner = NULL, token = NULL, until = NULL"
    " WHERE until IS NOT NULL AND state = 2 AND owner = ?"
)
