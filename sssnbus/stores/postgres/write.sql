-- Batches, owners, and adding messages.
--
-- Every change is one call of one function, so it is one transaction that no client can leave open. Locks are
-- always taken in this order, so no two calls can wait for each other: rows of logs by number, keys by hash, jobs
-- by sequence, and last the writer's own row.

-- The time: the caller's, if it has a clock of its own, else the server's.
CREATE FUNCTION {schema}.now_or(p_given double precision) RETURNS double precision LANGUAGE sql VOLATILE AS $$
    SELECT coalesce(p_given, date_part('epoch', clock_timestamp()))
$$;

-- The same for a statement that only reads: one moment for all of it.
CREATE FUNCTION {schema}.at(p_given double precision) RETURNS double precision LANGUAGE sql STABLE AS $$
    SELECT coalesce(p_given, date_part('epoch', statement_timestamp()))
$$;

-- The lowest id that the clock gives at a wall time.
CREATE FUNCTION {schema}.stamp_of(p_time double precision) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT floor(p_time * 1e9)::bigint & ~4095::bigint
$$;

-- A place in all logs, from one in a log, and back.
CREATE FUNCTION {schema}.position_of(p_log integer, p_sequence bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT p_log::bigint << 40 | p_sequence
$$;

CREATE FUNCTION {schema}.sequence_of(p_position bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT p_position & 1099511627775
$$;

-- Begin a batch: NULL if it is new, else what it was answered. Nothing is locked: of two that are the same batch the
-- one that comes to its end second is refused, and asks again.
CREATE FUNCTION {schema}.begun(p_owner bigint, p_lane integer, p_batch bigint) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_batch bigint;
    v_answer text;
BEGIN
    SELECT w.batch, w.answer INTO v_batch, v_answer FROM {schema}.writer w
        WHERE w.owner = p_owner AND w.lane = p_lane;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'owner % is not known', p_owner USING ERRCODE = 'SSN01';
    ELSIF v_batch > p_batch THEN
        RAISE EXCEPTION 'batch % came after batch %', p_batch, v_batch USING ERRCODE = 'SSN02';
    ELSIF v_batch = p_batch THEN
        RETURN v_answer;
    END IF;
    RETURN NULL;
END $$;

-- End a batch.
CREATE FUNCTION {schema}.ended(p_owner bigint, p_lane integer, p_batch bigint, p_answer text) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE {schema}.writer w
        SET batch = p_batch, answer = p_answer, at = date_part('epoch', clock_timestamp())
        WHERE w.owner = p_owner AND w.lane = p_lane AND w.batch < p_batch;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'batch % was there already', p_batch USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN p_answer;
END $$;

-- Tell others that there may be news in some logs. Only if anybody listens: a commit with a notification waits
-- for every other such commit of the database. `p_rows` are short new messages of a log, if the letter is to carry
-- them; then the place and the stamp of the first one stand before them.
CREATE FUNCTION {schema}.tell(
    p_owner bigint, p_names text[], p_firsts bigint[] DEFAULT NULL, p_stamps bigint[] DEFAULT NULL,
    p_rows text[] DEFAULT NULL
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM {schema}.owner o WHERE o.listening AND o.number <> p_owner) THEN
        PERFORM pg_notify(m.value, p_owner || coalesce(
                ' ' || p_firsts[n.place] || ' ' || p_stamps[n.place] || ' ' || n.name || chr(10) || p_rows[n.place],
                ' 0 0 ' || n.name))
            FROM unnest(p_names) WITH ORDINALITY AS n (name, place), {schema}.meta m WHERE m.name = 'bell';
    END IF;
END $$;

-- Whoever changes the line of a key holds its lock: else one that ends the head and one that lines up behind
-- it would not see each other.
CREATE FUNCTION {schema}.lock_keys(p_logs integer[], p_keys text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_hash bigint;
BEGIN
    FOR v_hash IN
        SELECT DISTINCT hashtextextended({mark} || ' ' || k.log || ' ' || k.key, 0)
        FROM unnest(p_logs, p_keys) AS k (log, key) WHERE k.key IS NOT NULL ORDER BY 1
    LOOP
        PERFORM pg_advisory_xact_lock(v_hash);
    END LOOP;
END $$;

-- New messages without ids, keys or limits of their own, as most are. Of each log: its name, how many, how many
-- bytes; of each message: which of the logs, and its place among those of its log, from 0; of each log again the
-- messages as a letter carries them.
-- The answer: for each log the first sequence and the first id.
CREATE FUNCTION {schema}.append(
    p_owner bigint, p_batch bigint, p_wall double precision, p_floor bigint,
    p_logs text[], p_counts integer[], p_sizes bigint[],
    p_log integer[], p_place integer[], p_timestamp double precision[], p_sender text[], p_topic text[],
    p_type text[], p_headers bytea[], p_body bytea[], p_crc bigint[], p_priority integer[],
    p_due double precision[], p_rows text[]
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_answer text := {schema}.begun(p_owner, 0, p_batch);
    v_wall double precision;
    v_numbers integer[] := array_fill(NULL::integer, ARRAY[cardinality(p_logs)]);
    v_firsts bigint[] := array_fill(NULL::bigint, ARRAY[cardinality(p_logs)]);
    v_stamps bigint[] := v_firsts;
    v_queues boolean[] := array_fill(false, ARRAY[cardinality(p_logs)]);
    v_any boolean := false;
    v_log record;
BEGIN
    IF v_answer IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    FOR v_log IN
        SELECT l.number, l.kind, l.last, l.stamp, g.place FROM {schema}.log l
        JOIN unnest(p_logs) WITH ORDINALITY AS g (name, place) ON l.name = g.name
        ORDER BY l.number FOR UPDATE OF l
    LOOP
        -- Only now: a stamp from before the wait for the row would be older than those in between.
        v_wall := {schema}.now_or(p_wall);
        v_numbers[v_log.place] := v_log.number;
        v_firsts[v_log.place] := v_log.last + 1;
        v_stamps[v_log.place] := greatest(
            {schema}.stamp_of(v_wall), v_log.stamp + 1, p_floor + 1, 1000000000000000000);
        IF v_log.kind = 'work queue' THEN
            v_queues[v_log.place] := true;
            v_any := true;
            -- Who waits for a job has to claim it.
            p_rows[v_log.place] := NULL;
        END IF;
        p_floor := v_stamps[v_log.place] + p_counts[v_log.place] - 1;
        UPDATE {schema}.log l SET
            last = l.last + p_counts[v_log.place],
            stamp = v_stamps[v_log.place] + p_counts[v_log.place] - 1,
            count = l.count + p_counts[v_log.place],
            size = l.size + p_sizes[v_log.place],
            depth = l.depth + CASE WHEN v_log.kind = 'work queue' THEN p_counts[v_log.place] ELSE 0 END
            WHERE l.number = v_log.number;
    END LOOP;
    IF array_position(v_numbers, NULL) IS NOT NULL THEN
        RAISE EXCEPTION 'log not declared' USING ERRCODE = 'SSN10',
            DETAIL = json_build_array(p_logs[array_position(v_numbers, NULL)])::text;
    END IF;
    INSERT INTO {schema}.message
        SELECT {schema}.position_of(v_numbers[d.log], v_firsts[d.log] + d.place), v_numbers[d.log], (v_stamps[d.log] + d.place)::text,
            v_stamps[d.log] + d.place, d.timestamp, d.sender, d.topic, d.type, d.headers, d.body, d.crc,
            d.priority, NULL
        FROM unnest(p_log, p_place, p_timestamp, p_sender, p_topic, p_type, p_headers, p_body, p_crc, p_priority)
            AS d (log, place, timestamp, sender, topic, type, headers, body, crc, priority);
    IF v_any THEN
        INSERT INTO {schema}.job (position, log, state, priority, size, due)
            SELECT {schema}.position_of(v_numbers[d.log], v_firsts[d.log] + d.place), v_numbers[d.log], (coalesce(d.due, 0) > v_wall)::integer,
                d.priority, octet_length(d.headers) + octet_length(d.body),
                CASE WHEN d.due > v_wall THEN d.due END
            FROM unnest(p_log, p_place, p_headers, p_body, p_priority, p_due)
                AS d (log, place, headers, body, priority, due)
            WHERE v_queues[d.log];
    END IF;
    PERFORM {schema}.tell(p_owner, p_logs, v_firsts, v_stamps, p_rows);
    RETURN {schema}.ended(p_owner, 0, p_batch, json_build_array(v_firsts, v_stamps)::text);
END $$;

-- The same for one message, which is what most calls are: with fewer statements, as each of them costs more than
-- what it does.
CREATE FUNCTION {schema}.append_one(
    p_owner bigint, p_batch bigint, p_wall double precision, p_floor bigint, p_log text,
    p_timestamp double precision, p_sender text, p_topic text, p_type text, p_headers bytea, p_body bytea,
    p_crc bigint, p_priority integer, p_due double precision, p_rows text
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_answer text;
    v_size bigint := octet_length(p_headers) + octet_length(p_body);
    v_log record;
BEGIN
    -- One that waited for the row gets its stamp anew, by a later clock.
    UPDATE {schema}.log l SET last = l.last + 1, count = l.count + 1, size = l.size + v_size,
        stamp = greatest({schema}.stamp_of({schema}.now_or(p_wall)), l.stamp + 1, p_floor + 1, 1000000000000000000),
        depth = l.depth + CASE WHEN l.kind = 'work queue' THEN 1 ELSE 0 END
        FROM {schema}.writer w
        WHERE l.name = p_log AND w.owner = p_owner AND w.lane = 0 AND w.batch < p_batch
        RETURNING l.number, l.kind, l.last, l.stamp INTO v_log;
    IF NOT FOUND THEN
        v_answer := {schema}.begun(p_owner, 0, p_batch);
        IF v_answer IS NULL THEN
            RAISE EXCEPTION 'log not declared' USING ERRCODE = 'SSN10', DETAIL = json_build_array(p_log)::text;
        END IF;
        RETURN v_answer;
    END IF;
    INSERT INTO {schema}.message VALUES ({schema}.position_of(v_log.number, v_log.last), v_log.number, v_log.stamp::text,
        v_log.stamp, p_timestamp, p_sender, p_topic, p_type, p_headers, p_body, p_crc, p_priority, NULL);
    IF v_log.kind = 'work queue' THEN
        p_due := CASE WHEN p_due > {schema}.now_or(p_wall) THEN p_due END;
        INSERT INTO {schema}.job (position, log, state, priority, size, due)
            VALUES ({schema}.position_of(v_log.number, v_log.last), v_log.number, (p_due IS NOT NULL)::integer,
                p_priority, v_size, p_due);
        p_rows := NULL;
    END IF;
    -- Looked at here too: the call alone costs more than the look.
    IF EXISTS (SELECT 1 FROM {schema}.owner o WHERE o.listening AND o.number <> p_owner) THEN
        PERFORM {schema}.tell(p_owner, ARRAY[p_log], ARRAY[v_log.last], ARRAY[v_log.stamp], ARRAY[p_rows]);
    END IF;
    RETURN {schema}.ended(p_owner, 0, p_batch, json_build_array(ARRAY[v_log.last], ARRAY[v_log.stamp])::text);
END $$;

-- One message at the end of a log whose row is locked and whose key is locked. Returns sequence and id.
CREATE FUNCTION {schema}.place(
    p_log integer, p_wall double precision, p_floor bigint, p_id text, p_timestamp double precision, p_sender text,
    p_topic text, p_type text, p_headers bytea, p_body bytea, p_crc bigint, p_priority integer, p_key text,
    p_due double precision, OUT sequence bigint, OUT id text
) LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    v_log record;
    v_stamp bigint;
    v_size bigint := octet_length(p_headers) + octet_length(p_body);
    v_state smallint := 0;
BEGIN
    SELECT l.kind, l.last, l.stamp INTO v_log FROM {schema}.log l WHERE l.number = p_log;
    v_stamp := greatest({schema}.stamp_of(p_wall), v_log.stamp + 1, p_floor + 1, 1000000000000000000);
    id := p_id;
    IF id IS NULL THEN
        -- Writers may give ids of this form too.
        WHILE EXISTS (SELECT 1 FROM {schema}.message m WHERE m.log = p_log AND m.id = v_stamp::text) LOOP
            v_stamp := v_stamp + 1;
        END LOOP;
        id := v_stamp::text;
    END IF;
    sequence := v_log.last + 1;
    UPDATE {schema}.log l SET last = sequence, stamp = v_stamp, count = l.count + 1, size = l.size + v_size,
        depth = l.depth + CASE WHEN l.kind = 'work queue' THEN 1 ELSE 0 END WHERE l.number = p_log;
    INSERT INTO {schema}.message VALUES ({schema}.position_of(p_log, sequence), p_log, id, v_stamp, p_timestamp, p_sender, p_topic, p_type,
        p_headers, p_body, p_crc, p_priority, p_key);
    IF v_log.kind = 'work queue' THEN
        IF p_key IS NOT NULL AND EXISTS (
            SELECT 1 FROM {schema}.job j WHERE j.log = p_log AND j.key = p_key AND j.state <> 3)
        THEN
            v_state := 4;
        ELSIF p_due > p_wall THEN
            v_state := 1;
        END IF;
        INSERT INTO {schema}.job (position, log, state, priority, size, due, key) VALUES
            ({schema}.position_of(p_log, sequence), p_log, v_state, p_priority, v_size, CASE WHEN p_due > p_wall THEN p_due END, p_key);
    END IF;
END $$;

CREATE FUNCTION {schema}.depth_of(p_log integer) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT l.depth + coalesce((SELECT sum(t.depth) FROM {schema}.tally t WHERE t.log = l.number), 0)::bigint
    FROM {schema}.log l WHERE l.number = p_log
$$;

-- Messages with ids, dedupe keys, ordering keys or limits. The answer has one element for each operation:
-- ["placed", [[id, sequence, duplicate], ...]] or ["refused", code, details].
CREATE FUNCTION {schema}.append_apart(
    p_owner bigint, p_batch bigint, p_wall double precision, p_floor bigint,
    p_operation integer[], p_name text[], p_id text[], p_timestamp double precision[], p_sender text[],
    p_topic text[], p_type text[], p_headers bytea[], p_body bytea[], p_crc bigint[], p_priority integer[],
    p_key text[], p_due double precision[], p_dedupe text[], p_digest bytea[], p_seconds double precision[],
    p_limited integer[], p_limit_name text[], p_limit bigint[]
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_answer text := {schema}.begun(p_owner, 0, p_batch);
    v_answers jsonb := '[]';
    v_placed jsonb;
    v_wall double precision;
    v_numbers jsonb := '{}';
    v_logs integer[];
    v_log integer;
    v_limit record;
    v_known record;
    v_new record;
    v_before jsonb;
    v_added boolean;
    v_told text[] := '{}';
    v_code text;
    v_detail text;
    v_end integer := cardinality(p_name);
    i integer := 1;
    j integer;
BEGIN
    IF v_answer IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    FOR v_known IN SELECT l.name, l.number FROM {schema}.log l WHERE l.name = ANY (p_name)
        ORDER BY l.number FOR UPDATE
    LOOP
        v_numbers := v_numbers || jsonb_build_object(v_known.name, v_known.number);
    END LOOP;
    v_wall := {schema}.now_or(p_wall);
    SELECT array_agg((v_numbers ->> n.name)::integer ORDER BY n.place) INTO v_logs
        FROM unnest(p_name) WITH ORDINALITY AS n (name, place);
    PERFORM {schema}.lock_keys(v_logs, p_key);
    DELETE FROM {schema}.dedupe d WHERE (d.log, d.key) IN (
        SELECT o.log, o.key FROM {schema}.dedupe o WHERE o.expires <= v_wall AND o.log = ANY (v_logs)
        LIMIT 16 FOR UPDATE SKIP LOCKED);
    WHILE i <= v_end LOOP
        j := i;
        WHILE j < v_end AND p_operation[j + 1] = p_operation[i] LOOP
            j := j + 1;
        END LOOP;
        v_placed := '[]';
        v_added := false;
        BEGIN
            v_before := '{}';
            FOR v_limit IN SELECT c.name, (v_numbers ->> c.name)::integer AS log
                FROM unnest(p_limited, p_limit_name) AS c (operation, name) WHERE c.operation = p_operation[i]
            LOOP
                v_before := v_before || jsonb_build_object(v_limit.name, {schema}.depth_of(v_limit.log));
            END LOOP;
            FOR n IN i..j LOOP
                v_log := v_logs[n];
                IF v_log IS NULL THEN
                    RAISE EXCEPTION 'log not declared' USING ERRCODE = 'SSN10',
                        DETAIL = jsonb_build_array(p_name[n])::text;
                END IF;
                IF p_id[n] IS NOT NULL THEN
                    SELECT {schema}.sequence_of(m.position) AS sequence, m.type = p_type[n] AND m.body = p_body[n] AS same INTO v_known
                        FROM {schema}.message m WHERE m.log = v_log AND m.id = p_id[n];
                    IF FOUND THEN
                        IF NOT v_known.same THEN
                            RAISE EXCEPTION 'conflict' USING ERRCODE = 'SSN11',
                                DETAIL = jsonb_build_array(p_name[n], 'id', p_id[n])::text;
                        END IF;
                        v_placed := v_placed || jsonb_build_array(
                            jsonb_build_array(p_id[n], v_known.sequence, true));
                        CONTINUE;
                    END IF;
                END IF;
                IF p_dedupe[n] IS NOT NULL THEN
                    SELECT d.digest, d.id, d.sequence INTO v_known FROM {schema}.dedupe d
                        WHERE d.log = v_log AND d.key = p_dedupe[n] AND d.expires > v_wall;
                    IF FOUND THEN
                        IF v_known.digest <> p_digest[n] THEN
                            RAISE EXCEPTION 'conflict' USING ERRCODE = 'SSN11',
                                DETAIL = jsonb_build_array(p_name[n], 'dedupe key', p_dedupe[n])::text;
                        END IF;
                        v_placed := v_placed || jsonb_build_array(
                            jsonb_build_array(v_known.id, v_known.sequence, true));
                        CONTINUE;
                    END IF;
                END IF;
                SELECT * INTO v_new FROM {schema}.place(v_log, v_wall, p_floor, p_id[n], p_timestamp[n],
                    p_sender[n], p_topic[n], p_type[n], p_headers[n], p_body[n], p_crc[n], p_priority[n],
                    p_key[n], p_due[n]);
                v_placed := v_placed || jsonb_build_array(jsonb_build_array(v_new.id, v_new.sequence, false));
                v_added := true;
                IF p_id[n] IS NULL THEN
                    p_floor := greatest(p_floor, v_new.id::bigint);
                END IF;
                IF p_dedupe[n] IS NOT NULL THEN
                    INSERT INTO {schema}.dedupe VALUES (v_log, p_dedupe[n], p_digest[n], v_new.id, v_new.sequence,
                        v_wall + p_seconds[n])
                        ON CONFLICT (log, key) DO UPDATE SET digest = excluded.digest, id = excluded.id,
                        sequence = excluded.sequence, expires = excluded.expires;
                END IF;
            END LOOP;
            FOR v_limit IN
                SELECT c.name, c.most, (v_before ->> c.name)::bigint AS before,
                    {schema}.depth_of((v_numbers ->> c.name)::integer) AS after
                FROM unnest(p_limited, p_limit_name, p_limit) AS c (operation, name, most)
                WHERE c.operation = p_operation[i]
            LOOP
                -- What others settled meanwhile only makes room.
                IF v_added AND v_limit.after > v_limit.most AND v_limit.after > v_limit.before THEN
                    RAISE EXCEPTION 'full' USING ERRCODE = 'SSN13',
                        DETAIL = jsonb_build_array(v_limit.name, v_limit.before, v_limit.most)::text;
                END IF;
            END LOOP;
            v_answers := v_answers || jsonb_build_array(jsonb_build_array('placed', v_placed));
            IF v_added THEN
                v_told := v_told || p_name[i:j];
            END IF;
        EXCEPTION WHEN SQLSTATE 'SSN10' OR SQLSTATE 'SSN11' OR SQLSTATE 'SSN13' THEN
            GET STACKED DIAGNOSTICS v_code = RETURNED_SQLSTATE, v_detail = PG_EXCEPTION_DETAIL;
            v_answers := v_answers || jsonb_build_array(jsonb_build_array('refused', v_code, v_detail::jsonb));
        END;
        i := j + 1;
    END LOOP;
    IF v_told <> '{}' THEN
        PERFORM {schema}.tell(p_owner, v_told);
    END IF;
    RETURN {schema}.ended(p_owner, 0, p_batch, v_answers::text);
END $$;
