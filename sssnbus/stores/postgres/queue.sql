-- Handing out messages of queues, and what ends that.

-- Let the oldest message of each key be ready when its turn has come. The keys are locked.
CREATE FUNCTION {schema}.promote(p_logs integer[], p_keys text[]) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE {schema}.job j SET state = (j.due IS NOT NULL)::integer
        FROM (SELECT DISTINCT k.log, k.key FROM unnest(p_logs, p_keys) AS k (log, key) WHERE k.key IS NOT NULL) line
        WHERE j.state = 4 AND j.position = (
            SELECT h.position FROM {schema}.job h WHERE h.log = line.log AND h.key = line.key AND h.state <> 3
            ORDER BY h.position LIMIT 1);
    RETURN FOUND;
END $$;

-- Make ready what became so by time; return the seconds until something else does.
CREATE FUNCTION {schema}.refresh(p_log integer, p_wall double precision, p_elapsed double precision)
RETURNS double precision LANGUAGE plpgsql AS $$
DECLARE
    v_due double precision;
    v_until double precision;
BEGIN
    FOR i IN 1..2 LOOP
        SELECT (SELECT min(j.due) FROM {schema}.job j WHERE j.log = p_log AND j.state = 1 AND j.due IS NOT NULL),
            (SELECT min(j.until) FROM {schema}.job j WHERE j.log = p_log AND j.until IS NOT NULL)
            INTO v_due, v_until;
        EXIT WHEN i = 2 OR (coalesce(v_due > p_wall, true) AND coalesce(v_until > p_elapsed, true));
        UPDATE {schema}.job j SET state = 0, due = NULL WHERE j.position = ANY (ARRAY(
            SELECT r.position FROM {schema}.job r WHERE r.log = p_log AND r.state = 1 AND r.due <= p_wall
            ORDER BY r.due LIMIT 1000 FOR UPDATE SKIP LOCKED));
        UPDATE {schema}.job j SET state = 0, until = NULL, owner = NULL, worker = NULL, token = NULL
            WHERE j.position = ANY (ARRAY(
            SELECT r.position FROM {schema}.job r WHERE r.log = p_log AND r.until <= p_elapsed
            ORDER BY r.until LIMIT 1000 FOR UPDATE SKIP LOCKED));
    END LOOP;
    RETURN least(v_due - p_wall, v_until - p_elapsed);
END $$;

-- Settle: kind 0 ack, 1 ack and keep, 2 release, 3 bury, 4 extend. Of several that end one lease the first counts.
-- `p_dead_...` is what becomes of what is buried. A lease whose token is in `p_renewed` is due for renewal by who
-- asks, so it has not ended as long as nobody took it. Returns the places of those whose token was good, and
-- whether a name is one of a plain log.
CREATE FUNCTION {schema}.settle(
    p_owner bigint, p_wall double precision, p_elapsed double precision,
    p_renewed text[], p_names text[], p_sequences bigint[], p_tokens text[], p_kinds integer[],
    p_seconds double precision[], p_counted boolean[], p_errors text[],
    p_dead_place integer[], p_dead_id text[], p_dead_timestamp double precision[], p_dead_sender text[],
    p_dead_topic text[], p_dead_type text[], p_dead_headers bytea[], p_dead_body bytea[], p_dead_crc bigint[],
    p_dead_priority integer[], p_dead_key text[], OUT good integer[], OUT plain boolean
) LANGUAGE plpgsql AS $$
DECLARE
    v_good record;
    v_extended integer[];
    v_logs integer[];
    v_positions bigint[];
    v_keys text[];
    v_names text[];
    v_dead record;
    v_told text[] := '{}';
    v_floor bigint := 0;
BEGIN
    IF 3 = ANY (p_kinds) THEN
        SELECT array_agg(DISTINCT s.name || '!dead') INTO v_names
            FROM unnest(p_names, p_kinds) AS s (name, kind) WHERE s.kind = 3;
        INSERT INTO {schema}.log (name, kind)
            SELECT n, 'broadcast' FROM unnest(v_names) AS n
            WHERE EXISTS (SELECT 1 FROM {schema}.log l WHERE l.name || '!dead' = n)
                AND NOT EXISTS (SELECT 1 FROM {schema}.log l WHERE l.name = n)
            ORDER BY n ON CONFLICT (name) DO NOTHING;
        PERFORM 1 FROM {schema}.log l WHERE l.name = ANY (v_names) ORDER BY l.number FOR UPDATE;
    END IF;
    SELECT array_agg(l.number ORDER BY s.place), array_agg({schema}.position_of(l.number, s.sequence) ORDER BY s.place),
        array_agg(j.key ORDER BY s.place), bool_or(l.kind <> 'work queue')
        INTO v_logs, v_positions, v_keys, plain
        FROM unnest(p_names, p_sequences) WITH ORDINALITY AS s (name, sequence, place)
        LEFT JOIN {schema}.log l ON l.name = s.name
        LEFT JOIN {schema}.job j ON j.position = {schema}.position_of(l.number, s.sequence);
    IF cardinality(array_remove(v_keys, NULL)) > 0 THEN
        PERFORM {schema}.lock_keys(v_logs, v_keys);
    END IF;
    WITH held AS MATERIALIZED (
        SELECT j.position, j.log, j.token, j.size, j.key FROM {schema}.job j
        WHERE j.position = ANY (v_positions) AND j.state = 2 AND (j.until > p_elapsed OR j.token = ANY (p_renewed))
        ORDER BY j.position FOR UPDATE
    ), good AS (
        SELECT s.place::integer AS place, s.kind, h.*,
            row_number() OVER (PARTITION BY h.position, s.kind = 4 ORDER BY s.place) AS turn
        FROM unnest(v_positions, p_tokens, p_kinds) WITH ORDINALITY AS s (position, token, kind, place)
        JOIN held h ON h.position = s.position AND h.token = s.token
    )
    SELECT array_agg(g.place) FILTER (WHERE g.kind = 4) AS extended,
        array_agg(g.place ORDER BY g.place) FILTER (WHERE g.kind <> 4) AS ended,
        array_agg(g.kind ORDER BY g.place) FILTER (WHERE g.kind <> 4) AS kinds,
        array_agg(g.log ORDER BY g.place) FILTER (WHERE g.kind <> 4) AS logs,
        array_agg(g.position ORDER BY g.place) FILTER (WHERE g.kind <> 4) AS positions,
        array_agg(CASE WHEN g.kind IN (0, 3) THEN g.size END ORDER BY g.place) FILTER (WHERE g.kind <> 4) AS sizes,
        array_agg(CASE WHEN g.kind <> 2 THEN g.key END ORDER BY g.place) FILTER (WHERE g.kind <> 4) AS keys,
        array_agg(g.kind <> 2 ORDER BY g.place) FILTER (WHERE g.kind <> 4) AS final
        INTO v_good FROM good g WHERE g.kind = 4 OR g.turn = 1;
    v_extended := coalesce(v_good.extended, '{}');
    IF v_extended <> '{}' THEN
        UPDATE {schema}.job j SET until = p_elapsed + p_seconds[e.place]
            FROM unnest(v_extended) AS e (place)
            WHERE j.position = v_positions[e.place];
    END IF;
    good := v_extended || v_good.ended;
    IF v_good.ended IS NULL THEN
        RETURN;
    END IF;
    IF 2 = ANY (v_good.kinds) THEN
        UPDATE {schema}.job j SET
            state = (p_seconds[r.place] > 0)::integer,
            until = CASE WHEN p_seconds[r.place] > 0 THEN p_elapsed + p_seconds[r.place] END,
            attempts = j.attempts - (NOT p_counted[r.place])::integer,
            error = coalesce(p_errors[r.place], j.error), owner = NULL, worker = NULL, token = NULL
            FROM unnest(v_good.ended, v_good.kinds) AS r (place, kind)
            WHERE r.kind = 2 AND j.position = v_positions[r.place];
        SELECT v_told || array_agg(DISTINCT p_names[r.place]) INTO v_told
            FROM unnest(v_good.ended, v_good.kinds) AS r (place, kind) WHERE r.kind = 2;
    END IF;
    IF 1 = ANY (v_good.kinds) THEN
        UPDATE {schema}.job j SET state = 3, until = NULL, owner = NULL, worker = NULL, token = NULL
            FROM unnest(v_good.ended, v_good.kinds) AS r (place, kind)
            WHERE r.kind = 1 AND j.position = v_positions[r.place];
    END IF;
    IF true = ANY (v_good.final) THEN
        WITH ended AS MATERIALIZED (
            SELECT * FROM unnest(v_good.logs, v_good.positions, v_good.sizes, v_good.final)
                AS e (log, position, size, final) WHERE e.final
        ), jobs AS (
            DELETE FROM {schema}.job j USING ended e
                WHERE e.size IS NOT NULL AND j.position = e.position
        ), messages AS (
            DELETE FROM {schema}.message m USING ended e
                WHERE e.size IS NOT NULL AND m.position = e.position
        )
        INSERT INTO {schema}.tally AS t
            SELECT e.log, p_owner, -count(e.size), -coalesce(sum(e.size), 0), -count(*) FROM ended e GROUP BY e.log
            ON CONFLICT (log, owner) DO UPDATE SET count = t.count + excluded.count,
            size = t.size + excluded.size, depth = t.depth + excluded.depth;
        IF cardinality(array_remove(v_good.keys, NULL)) > 0 THEN
            IF {schema}.promote(v_good.logs, v_good.keys) THEN
                SELECT v_told || array_agg(DISTINCT p_names[r.place]) INTO v_told FROM unnest(v_good.ended) AS r (place);
            END IF;
        END IF;
    END IF;
    FOR v_dead IN
        SELECT l.number, d.* FROM unnest(p_dead_place, p_dead_id, p_dead_timestamp, p_dead_sender, p_dead_topic,
            p_dead_type, p_dead_headers, p_dead_body, p_dead_crc, p_dead_priority, p_dead_key) AS
            d (place, id, timestamp, sender, topic, type, headers, body, crc, priority, key)
        JOIN {schema}.log l ON l.name = p_names[d.place] || '!dead'
        WHERE d.place = ANY (v_good.ended) ORDER BY d.place
    LOOP
        PERFORM {schema}.cut(v_dead.number, ARRAY(
            SELECT m.position FROM {schema}.message m WHERE m.log = v_dead.number AND m.id = v_dead.id));
        PERFORM {schema}.place(v_dead.number, p_wall, v_floor, v_dead.id, v_dead.timestamp, v_dead.sender,
            v_dead.topic, v_dead.type, v_dead.headers, v_dead.body, v_dead.crc, v_dead.priority, v_dead.key, NULL);
        v_told := v_told || (p_names[v_dead.place] || '!dead');
    END LOOP;
    IF v_told <> '{}' THEN
        PERFORM {schema}.tell(p_owner, v_told);
    END IF;
END $$;

-- Remove messages from a log whose row is locked, and keep its counters and keys right.
CREATE FUNCTION {schema}.cut(p_log integer, p_positions bigint[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_queue boolean;
    v_keys text[];
    v_count bigint;
    v_size bigint;
    v_open bigint := 0;
BEGIN
    IF cardinality(p_positions) = 0 THEN
        RETURN 0;
    END IF;
    SELECT l.kind = 'work queue' INTO v_queue FROM {schema}.log l WHERE l.number = p_log;
    IF v_queue THEN
        SELECT array_agg(DISTINCT j.key) INTO v_keys FROM {schema}.job j
            WHERE j.position = ANY (p_positions) AND j.key IS NOT NULL AND j.state <> 3;
        PERFORM {schema}.lock_keys(array_fill(p_log, ARRAY[coalesce(cardinality(v_keys), 0)]), v_keys);
        PERFORM 1 FROM {schema}.job j WHERE j.position = ANY (p_positions) ORDER BY j.position FOR UPDATE;
        WITH gone AS (
            DELETE FROM {schema}.job j WHERE j.position = ANY (p_positions) RETURNING j.state
        ) SELECT count(*) FILTER (WHERE g.state <> 3) INTO v_open FROM gone g;
    END IF;
    WITH gone AS (
        DELETE FROM {schema}.message m WHERE m.position = ANY (p_positions)
        RETURNING octet_length(m.headers) + octet_length(m.body) AS size
    ) SELECT count(*), coalesce(sum(g.size), 0) INTO v_count, v_size FROM gone g;
    UPDATE {schema}.log l SET count = l.count - v_count, size = l.size - v_size, depth = l.depth - v_open
        WHERE l.number = p_log;
    IF v_keys IS NOT NULL THEN
        PERFORM {schema}.promote(array_fill(p_log, ARRAY[cardinality(v_keys)]), v_keys);
    END IF;
    RETURN v_count;
END $$;

-- One round of work: settle, renew what is due for it, then hand out. A claim is a group of those who ask for the
-- same thing: it has `p_limit` slots, whose workers stand in `p_workers` from `p_first` on. Selections are a JSON list
-- of ids, or bounds of ids. The rows are the messages handed out, by priority, then by age. The last row is the answer:
-- which settlements were good, which names are of plain logs, seconds until the next is due for each claim, and
-- which leases were renewed.
CREATE FUNCTION {schema}.work(
    p_owner bigint, p_batch bigint, p_wall double precision, p_elapsed double precision, p_token text,
    p_held text[], p_held_names text[], p_held_sequences bigint[], p_held_seconds double precision[],
    p_names text[], p_sequences bigint[], p_tokens text[], p_kinds integer[], p_seconds double precision[],
    p_counted boolean[], p_errors text[],
    p_dead_place integer[], p_dead_id text[], p_dead_timestamp double precision[], p_dead_sender text[],
    p_dead_topic text[], p_dead_type text[], p_dead_headers bytea[], p_dead_body bytea[], p_dead_crc bigint[],
    p_dead_priority integer[], p_dead_key text[],
    p_queues text[], p_limit integer[], p_first integer[], p_lease double precision[], p_renew boolean[],
    p_ids text[], p_after text[], p_before text[], p_workers text[]
) RETURNS TABLE (
    answer text, claim integer, slot integer, token text, attempt integer, error text, id text, sequence bigint,
    "timestamp" double precision, sender_id text, topic text, type text, headers bytea, body bytea, crc bigint,
    priority integer, key text
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_answer text := {schema}.begun(p_owner, 1, p_batch);
    v_good integer[] := '{}';
    v_any boolean := false;
    v_plain text[] := '{}';
    v_dues double precision[] := '{}';
    v_due double precision;
    v_renewed text[] := '{}';
    v_log record;
    v_mark text;
BEGIN
    p_token := p_token || '-' || p_batch || '-';
    IF v_answer IS NOT NULL THEN
        -- Sent again: what was handed out then and is still held.
        RETURN QUERY SELECT NULL::text, split_part(j.token, '-', 3)::integer, split_part(j.token, '-', 4)::integer,
            j.token, j.attempts, j.error, m.id, {schema}.sequence_of(m.position), m.timestamp, m.sender_id, m.topic, m.type, m.headers,
            m.body, m.crc, m.priority, m.key
            FROM {schema}.log l JOIN {schema}.job j ON j.log = l.number AND j.until IS NOT NULL
            JOIN {schema}.message m ON m.position = j.position
            WHERE l.name = ANY (p_queues) AND starts_with(j.token, p_token) ORDER BY 2, 3;
        answer := v_answer;
        RETURN NEXT;
        RETURN;
    END IF;
    p_wall := {schema}.now_or(p_wall);
    p_elapsed := coalesce(p_elapsed, p_wall);
    IF cardinality(p_names) > 0 THEN
        SELECT s.good, s.plain INTO v_good, v_any FROM {schema}.settle(p_owner, p_wall, p_elapsed, p_held, p_names,
            p_sequences, p_tokens, p_kinds, p_seconds, p_counted, p_errors, p_dead_place, p_dead_id, p_dead_timestamp,
            p_dead_sender, p_dead_topic, p_dead_type, p_dead_headers, p_dead_body, p_dead_crc, p_dead_priority,
            p_dead_key) s;
        IF v_any THEN
            v_plain := ARRAY(SELECT l.name FROM {schema}.log l WHERE l.name = ANY (p_names) AND l.kind <> 'work queue');
        END IF;
    END IF;
    IF cardinality(p_held) > 0 THEN
        v_renewed := {schema}.renew(p_held, p_held_names, p_held_sequences, p_held_seconds, p_elapsed);
    END IF;
    FOR c IN 1..cardinality(p_queues) LOOP
        v_due := NULL;
        SELECT l.number, l.kind INTO v_log FROM {schema}.log l WHERE l.name = p_queues[c];
        IF NOT FOUND THEN
            NULL;
        ELSIF v_log.kind <> 'work queue' THEN
            v_plain := v_plain || p_queues[c];
        ELSE
            v_due := {schema}.refresh(v_log.number, p_wall, p_elapsed);
            v_mark := p_token || c || '-';
            IF p_limit[c] > 0 THEN
                RETURN QUERY
                    WITH ready AS MATERIALIZED (
                        SELECT t.position, (row_number() OVER ())::integer AS slot
                        FROM {schema}.ready(v_log.number, p_limit[c], p_ids[c], p_after[c], p_before[c]) t
                    ), taken AS (
                        UPDATE {schema}.job j SET state = 2, attempts = j.attempts + 1, due = NULL,
                            until = p_elapsed + p_lease[c], owner = CASE WHEN p_renew[c] THEN p_owner END,
                            worker = p_workers[p_first[c] + r.slot - 1], token = v_mark || r.slot
                        FROM ready r WHERE j.position = r.position
                        RETURNING r.slot, j.token, j.attempts, j.error, j.position
                    )
                    SELECT NULL::text, c, t.slot, t.token, t.attempts, t.error, m.id, {schema}.sequence_of(m.position), m.timestamp,
                        m.sender_id, m.topic, m.type, m.headers, m.body, m.crc, m.priority, m.key
                    FROM taken t JOIN {schema}.message m ON m.position = t.position
                    ORDER BY t.slot;
                IF FOUND THEN
                    v_due := least(v_due, p_lease[c]);
                END IF;
            END IF;
        END IF;
        v_dues := array_append(v_dues, v_due);
    END LOOP;
    answer := {schema}.ended(p_owner, 1, p_batch, json_build_array(v_good, v_plain, v_dues, v_renewed)::text);
    claim := NULL; slot := NULL; token := NULL; attempt := NULL; error := NULL; id := NULL; sequence := NULL;
    RETURN NEXT;
END $$;

-- The same for one claim of the next message and nothing else, which is what most rounds are: with fewer statements,
-- as each of them costs more than what it does. What is out of the ordinary goes the way of all.
CREATE FUNCTION {schema}.claim_next(
    p_owner bigint, p_batch bigint, p_wall double precision, p_elapsed double precision, p_token text,
    p_queue text, p_lease double precision, p_renew boolean, p_worker text
) RETURNS TABLE (
    answer text, claim integer, slot integer, token text, attempt integer, error text, id text, sequence bigint,
    "timestamp" double precision, sender_id text, topic text, type text, headers bytea, body bytea, crc bigint,
    priority integer, key text
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_wall double precision := {schema}.now_or(p_wall);
    v_elapsed double precision := coalesce(p_elapsed, v_wall);
    v_log integer;
    v_due double precision;
    v_until double precision;
BEGIN
    SELECT l.number,
        (SELECT min(j.due) FROM {schema}.job j WHERE j.log = l.number AND j.state = 1 AND j.due IS NOT NULL),
        (SELECT min(j.until) FROM {schema}.job j WHERE j.log = l.number AND j.until IS NOT NULL)
        INTO v_log, v_due, v_until
        FROM {schema}.log l, {schema}.writer w
        WHERE l.name = p_queue AND l.kind = 'work queue'
        AND w.owner = p_owner AND w.lane = 1 AND w.batch < p_batch;
    IF NOT FOUND OR v_due <= v_wall OR v_until <= v_elapsed THEN
        RETURN QUERY SELECT * FROM {schema}.work(p_owner, p_batch, p_wall, p_elapsed, p_token,
            '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}',
            '{}', '{}', '{}', '{}', ARRAY[p_queue], ARRAY[1], ARRAY[1], ARRAY[p_lease], ARRAY[p_renew],
            ARRAY[NULL::text], ARRAY[NULL::text], ARRAY[NULL::text], ARRAY[p_worker]);
        RETURN;
    END IF;
    RETURN QUERY
        UPDATE {schema}.job j SET state = 2, attempts = j.attempts + 1, due = NULL, until = v_elapsed + p_lease,
            owner = CASE WHEN p_renew THEN p_owner END, worker = p_worker, token = p_token || '-' || p_batch || '-1-1'
        FROM {schema}.message m
        WHERE m.position = j.position AND j.position = (
            SELECT r.position FROM {schema}.job r WHERE r.log = v_log AND r.state = 0
            ORDER BY r.priority DESC, r.position LIMIT 1 FOR UPDATE SKIP LOCKED)
        RETURNING NULL::text, 1, 1, j.token, j.attempts, j.error, m.id, {schema}.sequence_of(m.position),
            m.timestamp, m.sender_id, m.topic, m.type, m.headers, m.body, m.crc, m.priority, m.key;
    v_due := least(v_due - v_wall, v_until - v_elapsed, CASE WHEN FOUND THEN p_lease END);
    answer := {schema}.ended(p_owner, 1, p_batch, format('[[], [], [%s], []]', coalesce(v_due::text, 'null')));
    RETURN NEXT;
END $$;

-- The same for one ack and nothing else, of a message without a key.
CREATE FUNCTION {schema}.ack_one(
    p_owner bigint, p_batch bigint, p_wall double precision, p_elapsed double precision,
    p_name text, p_sequence bigint, p_token text
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_job record;
BEGIN
    DELETE FROM {schema}.job j USING {schema}.log l, {schema}.writer w
        WHERE l.name = p_name AND j.position = {schema}.position_of(l.number, p_sequence)
        AND j.token = p_token AND j.state = 2 AND j.key IS NULL
        AND j.until > coalesce(p_elapsed, {schema}.now_or(p_wall))
        AND w.owner = p_owner AND w.lane = 1 AND w.batch < p_batch
        RETURNING j.log, j.position, j.size INTO v_job;
    IF NOT FOUND THEN
        RETURN (SELECT t.answer FROM {schema}.work(p_owner, p_batch, p_wall, p_elapsed, '',
            '{}', '{}', '{}', '{}', ARRAY[p_name], ARRAY[p_sequence], ARRAY[p_token], ARRAY[0],
            ARRAY[0::double precision], ARRAY[true], ARRAY[NULL::text], '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}',
            '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}') t);
    END IF;
    DELETE FROM {schema}.message m WHERE m.position = v_job.position;
    INSERT INTO {schema}.tally AS t VALUES (v_job.log, p_owner, -1, -v_job.size, -1)
        ON CONFLICT (log, owner) DO UPDATE SET count = t.count + excluded.count, size = t.size + excluded.size,
        depth = t.depth + excluded.depth;
    RETURN {schema}.ended(p_owner, 1, p_batch, '[[1], [], [], []]');
END $$;

-- Lock ready messages and return them, by priority, then by age.
CREATE FUNCTION {schema}.ready(p_log integer, p_limit integer, p_ids text, p_after text, p_before text)
RETURNS TABLE ("position" bigint) LANGUAGE plpgsql ROWS 10 AS $$
#variable_conflict use_column
BEGIN
    IF p_ids IS NULL AND p_after IS NULL AND p_before IS NULL THEN
        RETURN QUERY SELECT j.position FROM {schema}.job j WHERE j.log = p_log AND j.state = 0
            ORDER BY j.priority DESC, j.position LIMIT p_limit FOR UPDATE SKIP LOCKED;
    ELSIF p_ids IS NULL THEN
        RETURN QUERY SELECT j.position FROM {schema}.job j
            JOIN {schema}.message m ON m.position = j.position
            WHERE j.log = p_log AND j.state = 0 AND m.id > coalesce(p_after, '') AND m.id < coalesce(p_before, '~')
            ORDER BY j.priority DESC, j.position LIMIT p_limit FOR UPDATE OF j SKIP LOCKED;
    ELSE
        RETURN QUERY SELECT j.position FROM {schema}.job j
            JOIN {schema}.message m ON m.position = j.position
            WHERE j.log = p_log AND j.state = 0
            AND m.id = ANY (ARRAY(SELECT jsonb_array_elements_text(p_ids::jsonb)))
            AND m.id > coalesce(p_after, '') AND m.id < coalesce(p_before, '~')
            ORDER BY j.priority DESC, j.position LIMIT p_limit FOR UPDATE OF j SKIP LOCKED;
    END IF;
END $$;

-- Begin leases anew; returns the tokens that were good. One that has ended is renewed as long as nobody took the
-- message: its holder may have been held up. A row that is locked is being settled, or is for the next time.
CREATE FUNCTION {schema}.renew(p_tokens text[], p_names text[], p_sequences bigint[], p_seconds double precision[],
    p_elapsed double precision) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    v_good text[];
BEGIN
    p_elapsed := {schema}.now_or(p_elapsed);
    WITH held AS MATERIALIZED (
        SELECT j.position, j.token, h.seconds
        FROM unnest(p_tokens, p_names, p_sequences, p_seconds) AS h (token, name, sequence, seconds)
        JOIN {schema}.log l ON l.name = h.name
        JOIN {schema}.job j ON j.position = {schema}.position_of(l.number, h.sequence) AND j.token = h.token
        WHERE j.state = 2 FOR UPDATE OF j SKIP LOCKED
    ), renewed AS (
        UPDATE {schema}.job j SET until = greatest(j.until, p_elapsed + h.seconds) FROM held h
        WHERE j.position = h.position RETURNING j.token
    ) SELECT array_agg(r.token) INTO v_good FROM renewed r;
    RETURN coalesce(v_good, '{}');
END $$;

-- Free what a store held and renewed, and forget it. `p_counted`: whether those attempts count.
CREATE FUNCTION {schema}.leave(p_number bigint, p_counted boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_names text[];
BEGIN
    PERFORM 1 FROM {schema}.log l WHERE l.number IN (SELECT t.log FROM {schema}.tally t WHERE t.owner = p_number)
        ORDER BY l.number FOR UPDATE;
    WITH gone AS (DELETE FROM {schema}.tally t WHERE t.owner = p_number RETURNING t.*)
    UPDATE {schema}.log l SET count = l.count + g.count, size = l.size + g.size, depth = l.depth + g.depth
        FROM gone g WHERE l.number = g.log;
    WITH held AS MATERIALIZED (
        SELECT j.position FROM {schema}.job j WHERE j.owner = p_number ORDER BY j.position FOR UPDATE
    ), freed AS (
        UPDATE {schema}.job j SET state = 0, attempts = j.attempts - (NOT p_counted)::integer, until = NULL,
            owner = NULL, worker = NULL, token = NULL
        FROM held h WHERE j.position = h.position AND j.state = 2 RETURNING j.log
    ) SELECT array_agg(DISTINCT l.name) INTO v_names FROM freed f JOIN {schema}.log l ON l.number = f.log;
    DELETE FROM {schema}.owner o WHERE o.number = p_number;
    IF v_names IS NOT NULL THEN
        PERFORM {schema}.tell(p_number, v_names);
    END IF;
END $$;
