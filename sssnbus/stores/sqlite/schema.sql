-- Version 1. It runs inside one transaction, which also sets application_id and user_version.

CREATE TABLE migration (
    version INTEGER PRIMARY KEY,
    applied REAL NOT NULL
);

CREATE TABLE setting (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- Row 0 is the store itself: its `last` is the newest id, so that the clock shares a page with the logs.
-- AUTOINCREMENT: the number of a dropped log must not come back while its rows are being removed.
CREATE TABLE log (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    last INTEGER NOT NULL DEFAULT 0,
    floor INTEGER NOT NULL DEFAULT 0,
    count INTEGER NOT NULL DEFAULT 0,
    size INTEGER NOT NULL DEFAULT 0,
    depth INTEGER NOT NULL DEFAULT 0
);

INSERT INTO log (number, name, kind) VALUES (0, '', '');

CREATE TABLE dropped (
    number INTEGER PRIMARY KEY
);

-- position = log << 40 | sequence: one b-tree holds every log as one stretch in the order of sequences.
CREATE TABLE message (
    position INTEGER PRIMARY KEY,
    log INTEGER NOT NULL,
    id TEXT NOT NULL,
    stored INTEGER NOT NULL,
    timestamp REAL NOT NULL,
    sender_id TEXT NOT NULL,
    topic TEXT,
    type TEXT NOT NULL,
    headers BLOB NOT NULL,
    body BLOB NOT NULL,
    crc INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    key TEXT
);

CREATE UNIQUE INDEX message_id ON message (log, id);

-- state: 0 ready, 1 delayed, 2 leased, 3 done, 4 held behind an older message of its key.
-- due: wall time before which it is delayed. until: elapsed time of this boot when a lease or a rest ends.
-- Beside `message`, so that leasing never rewrites a body.
CREATE TABLE job (
    position INTEGER PRIMARY KEY,
    log INTEGER NOT NULL,
    state INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    key TEXT,
    size INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due REAL,
    worker TEXT,
    owner INTEGER,
    token TEXT,
    until REAL,
    error TEXT
);

CREATE INDEX job_ready ON job (log, priority DESC, position) WHERE state = 0;
CREATE INDEX job_due ON job (log, due) WHERE state = 1 AND due IS NOT NULL;
CREATE INDEX job_until ON job (log, until) WHERE until IS NOT NULL;
CREATE INDEX job_done ON job (log, position) WHERE state = 3;
CREATE INDEX job_key ON job (log, key, position) WHERE key IS NOT NULL AND state <> 3;

CREATE TABLE dedupe (
    log INTEGER NOT NULL,
    key TEXT NOT NULL,
    digest BLOB NOT NULL,
    id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    expires REAL NOT NULL,
    PRIMARY KEY (log, key)
) WITHOUT ROWID;

CREATE INDEX dedupe_expires ON dedupe (expires);

CREATE TABLE record (
    space TEXT NOT NULL,
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (space, name)
) WITHOUT ROWID;

-- Every open store. Numbers are never reused: a free lock means that the owner is dead for good.
CREATE TABLE owner (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    locked INTEGER NOT NULL
);
