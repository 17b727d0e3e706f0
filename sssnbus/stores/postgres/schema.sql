-- Version 1. It runs inside one transaction, with {schema} replaced by the quoted name of the namespace.

CREATE TABLE {schema}.meta (
    name text PRIMARY KEY,
    value text NOT NULL
);

-- `last` outlives the messages. Whoever adds messages holds the lock of this row until the commit: that is what
-- makes sequences gapless, and lets nobody see a later one before an earlier one.
CREATE TABLE {schema}.log (
    -- Numbers are never reused, and 23 bits of a position are theirs.
    number integer GENERATED ALWAYS AS IDENTITY (MAXVALUE 8388607) PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    kind text NOT NULL,
    last bigint NOT NULL DEFAULT 0,
    floor bigint NOT NULL DEFAULT 0,
    stamp bigint NOT NULL DEFAULT 0,
    count bigint NOT NULL DEFAULT 0,
    size bigint NOT NULL DEFAULT 0,
    depth bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 30);

-- What is to be added to the counters of a queue, one row for each store that settles there: if they all
-- changed the row of the log, workers would wait for each other and for writers.
CREATE TABLE {schema}.tally (
    log integer NOT NULL,
    owner bigint NOT NULL,
    count bigint NOT NULL,
    size bigint NOT NULL,
    depth bigint NOT NULL,
    PRIMARY KEY (log, owner)
) WITH (fillfactor = 30);

CREATE TABLE {schema}.dropped (
    number integer PRIMARY KEY
);

-- position = log << 40 | sequence. One column, so that no plan, however little the server knows of these tables,
-- can look at more than it needs of a log.
CREATE TABLE {schema}.message (
    position bigint PRIMARY KEY,
    log integer NOT NULL,
    id text COLLATE "C" NOT NULL,
    stored bigint NOT NULL,
    timestamp double precision NOT NULL,
    sender_id text NOT NULL,
    topic text,
    type text NOT NULL,
    headers bytea NOT NULL,
    body bytea NOT NULL,
    crc bigint NOT NULL,
    priority integer NOT NULL,
    key text
);

CREATE UNIQUE INDEX message_id ON {schema}.message (log, id);

-- state: 0 ready, 1 delayed, 2 leased, 3 done, 4 held behind an older message of its key.
-- due: wall time before which it is delayed. until: when a lease or a rest ends. Both are seconds.
-- Beside `message`, so that leasing never rewrites a body.
CREATE TABLE {schema}.job (
    position bigint PRIMARY KEY,
    log integer NOT NULL,
    state smallint NOT NULL,
    priority integer NOT NULL,
    size bigint NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    due double precision,
    until double precision,
    owner bigint,
    worker text,
    token text,
    error text,
    key text
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

CREATE INDEX job_ready ON {schema}.job (log, priority DESC, position) WHERE state = 0;
CREATE INDEX job_due ON {schema}.job (log, due) WHERE state = 1 AND due IS NOT NULL;
CREATE INDEX job_until ON {schema}.job (log, until) WHERE until IS NOT NULL;
CREATE INDEX job_done ON {schema}.job (log, position) WHERE state = 3;
CREATE INDEX job_key ON {schema}.job (log, key, position) WHERE key IS NOT NULL AND state <> 3;
CREATE INDEX job_owner ON {schema}.job (owner) WHERE owner IS NOT NULL;

CREATE TABLE {schema}.dedupe (
    log integer NOT NULL,
    key text NOT NULL,
    digest bytea NOT NULL,
    id text NOT NULL,
    sequence bigint NOT NULL,
    expires double precision NOT NULL,
    PRIMARY KEY (log, key)
);

CREATE INDEX dedupe_expires ON {schema}.dedupe (expires);

CREATE TABLE {schema}.record (
    space text NOT NULL,
    name text NOT NULL,
    value bytea NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (space, name)
);

CREATE SEQUENCE {schema}.version;

-- Every open store. Numbers are never reused, not even when the namespace is removed and made anew: a store that was
-- open meanwhile must not be taken for one that came later.
CREATE TABLE {schema}.owner (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    seen double precision NOT NULL,
    locked boolean NOT NULL,
    listening boolean NOT NULL DEFAULT false
) WITH (fillfactor = 30);

SELECT setval({owners}, (extract(epoch FROM clock_timestamp()) * 1e6)::bigint);

-- The newest batch of each lane of each store, and its answer: a batch that is sent again after its answer
-- was lost is not applied again, but answered again. The rows outlive their owners for a day.
CREATE TABLE {schema}.writer (
    owner bigint NOT NULL,
    lane smallint NOT NULL,
    batch bigint NOT NULL,
    answer text,
    at double precision NOT NULL,
    PRIMARY KEY (owner, lane)
) WITH (fillfactor = 30);
