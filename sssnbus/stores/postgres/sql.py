"""Every statement of the store. ``{schema}`` is replaced by the checked and quoted name of the namespace."""

from typing import Final

_MESSAGE: Final = (
    "m.id, m.position & 1099511627775, m.timestamp, m.sender_id, m.topic, m.type, m.headers, m.body, m.crc,"
    " m.priority, m.key"
)

# Changes: each is one call, so one transaction. The first two parameters are owner and batch.

APPEND: Final = (
    "SELECT {schema}.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,"
    " $19)"
)
APPEND_ONE: Final = (
    "SELECT {schema}.append_one($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"
)
APPEND_APART: Final = (
    "SELECT {schema}.append_apart($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,"
    " $18, $19, $20, $21, $22, $23)"
)
WORK: Final = (
    "SELECT * FROM {schema}.work($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,"
    " $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36)"
)
CLAIM_NEXT: Final = "SELECT * FROM {schema}.claim_next($1, $2, $3, $4, $5, $6, $7, $8, $9)"
ACK_ONE: Final = "SELECT {schema}.ack_one($1, $2, $3, $4, $5, $6, $7)"
TRANSFER: Final = "SELECT * FROM {schema}.transfer($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
RESTORE: Final = (
    "SELECT {schema}.restore($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,"
    " $18, $19, $20, $21, $22, $23, $24, $25, $26, $27)"
)
DECLARE: Final = "SELECT {schema}.declare($1, $2, $3, $4)"
TRIM: Final = "SELECT {schema}.trim($1, $2, $3, $4, $5, $6, $7)"
REMOVE: Final = "SELECT {schema}.remove($1, $2, $3, $4)"
DROP: Final = "SELECT {schema}.drop_log($1, $2, $3)"
SWEEP: Final = "SELECT {schema}.sweep($1, $2)"
VACUUM: Final = "SELECT {schema}.vacuum($1, $2, $3)"
PUT: Final = "SELECT {schema}.put($1, $2, $3, $4, $5, $6)"
DELETE: Final = "SELECT {schema}.delete($1, $2, $3, $4)"

RENEW: Final = "SELECT {schema}.renew($1, $2, $3, $4, $5)"

# Reads: each is one statement, so it sees one moment.

PAGE: Final = (
    f"SELECT l.number, l.floor, l.last, least($3, l.last), {_MESSAGE} FROM {{schema}}.log l"
    " LEFT JOIN LATERAL (SELECT * FROM {schema}.message x"
    " WHERE x.position > {schema}.position_of(l.number, $2)"
    " AND x.position <= {schema}.position_of(l.number, least($3, l.last))"
    " ORDER BY x.position LIMIT $4) m ON true WHERE l.name = $1 ORDER BY m.position"
)
PAGE_ON_TOPICS: Final = (
    f"SELECT l.number, l.floor, l.last, {{schema}}.sequence_of(w.high), {_MESSAGE} FROM {{schema}}.log l"
    # Of no row there is no smallest, and least() passes over NULL.
    " CROSS JOIN LATERAL (SELECT least({schema}.position_of(l.number, least($3, l.last)),"
    " min(y.position) + $5) AS high FROM {schema}.message y"
    " WHERE y.position > {schema}.position_of(l.number, $2)"
    " AND y.position <= {schema}.position_of(l.number, least($3, l.last))) w"
    " LEFT JOIN LATERAL (SELECT * FROM {schema}.message x"
    " WHERE x.position > {schema}.position_of(l.number, $2) AND x.position <= w.high AND x.topic ~ $6"
    " ORDER BY x.position LIMIT $4) m ON true WHERE l.name = $1 ORDER BY m.position"
)
LAST: Final = "SELECT name, last, number FROM {schema}.log WHERE name = ANY ($1)"
LOCATE: Final = "SELECT {schema}.locate($1, $2)"
FIND: Final = (
    f"SELECT {_MESSAGE} FROM {{schema}}.log l JOIN {{schema}}.message m ON m.log = l.number"
    " WHERE l.name = $1 AND m.id = $2"
)
KIND: Final = "SELECT kind, number FROM {schema}.log WHERE name = $1"
PEEK: Final = (
    f"SELECT l.kind, {_MESSAGE} FROM {{schema}}.log l LEFT JOIN LATERAL ("
    "SELECT x.* FROM {schema}.job j JOIN {schema}.message x ON x.position = j.position"
    " WHERE j.position > {schema}.position_of(l.number, 0)"
    " AND j.position <= {schema}.position_of(l.number, l.last)"
    " AND (j.state = 0 OR (j.state = 1 AND j.due <= {schema}.at($2)) OR j.until <= {schema}.at($3))"
    " AND ($5::text[] IS NULL OR x.id = ANY ($5)) AND ($6::text IS NULL OR x.id > $6)"
    " AND ($7::text IS NULL OR x.id < $7) ORDER BY j.position LIMIT $4) m ON true"
    " WHERE l.name = $1 ORDER BY m.position"
)
STANDING: Final = (
    "SELECT l.kind, {schema}.sequence_of(j.position) AS sequence, j.state, j.attempts, j.error, j.token,"
    " j.until, j.due, {schema}.at($3) AS wall, {schema}.at($4) AS elapsed FROM {schema}.log l"
    " LEFT JOIN {schema}.job j ON j.position = ANY (ARRAY(SELECT {schema}.position_of(l.number, s)"
    " FROM unnest($2::bigint[]) AS s)) WHERE l.name = $1"
)
LOGS: Final = (
    "SELECT l.name, l.kind, l.last, l.floor, l.count + coalesce(t.count, 0)::bigint AS count,"
    " l.size + coalesce(t.size, 0)::bigint AS size FROM {schema}.log l LEFT JOIN LATERAL ("
    "SELECT sum(x.count) AS count, sum(x.size) AS size FROM {schema}.tally x WHERE x.log = l.number) t"
    " ON true WHERE left(l.name, length($1)) = $1"
    " AND (position('!' IN $1) > 0 OR position('!' IN l.name) = 0) ORDER BY l.name"
)
COUNTS: Final = (
    "SELECT l.kind, l.count + coalesce(t.count, 0)::bigint AS count,"
    " l.depth + coalesce(t.depth, 0)::bigint AS depth,"
    " (SELECT count(*) FROM {schema}.job j WHERE j.log = l.number AND j.state = 1"
    " AND j.due > {schema}.at($2))"
    " AS due,"
    " (SELECT count(*) FROM {schema}.job j WHERE j.log = l.number AND j.state = 1"
    " AND j.until > {schema}.at($3)) AS resting,"
    " (SELECT count(*) FROM {schema}.job j WHERE j.log = l.number AND j.state = 2"
    " AND j.until > {schema}.at($3)) AS leased"
    " FROM {schema}.log l LEFT JOIN LATERAL (SELECT sum(x.count) AS count, sum(x.depth) AS depth"
    " FROM {schema}.tally x WHERE x.log = l.number) t ON true WHERE l.name = $1"
)
GET: Final = "SELECT value, version FROM {schema}.record WHERE space = $1 AND name = $2"
NAMES: Final = "SELECT name, value, version FROM {schema}.record WHERE space = $1 ORDER BY name"
CHANGES: Final = (
    "SELECT (SELECT last_value FROM {schema}.owner_number_seq)"
    " || md5(coalesce(string_agg(owner || ' ' || lane || ' ' || batch, ' ' ORDER BY owner, lane), ''))"
    " FROM {schema}.writer WHERE owner <> $1"
)
SPACES: Final = "SELECT DISTINCT space FROM {schema}.record"
SIZE: Final = (
    "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c"
    " WHERE c.relnamespace = {namespace}::regnamespace AND c.relkind = 'r'"
)
IS_OWNER: Final = "SELECT EXISTS (SELECT 1 FROM {schema}.owner WHERE number = $1)"

# Upkeep: each table in a transaction of its own, so that no two are locked at once. Not by VACUUM, which can
# be in no transaction, so that behind a pooler it could not be given a limit.

COMPACT: Final = tuple(
    f"CLUSTER {{schema}}.{table} USING {table}_pkey; ANALYZE {{schema}}.{table}"
    for table in ("message", "job", "dedupe", "record", "tally", "log")
)
