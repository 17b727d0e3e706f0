-- Logs, their catalogue, and records.

-- The answer: the recorded kind.
CREATE FUNCTION {schema}.declare(p_owner bigint, p_batch bigint, p_name text, p_kind text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_answer text := {schema}.begun(p_owner, 0, p_batch);
BEGIN
    IF v_answer IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    INSERT INTO {schema}.log (name, kind) VALUES (p_name, p_kind) ON CONFLICT (name) DO NOTHING;
    IF FOUND THEN
        IF position('!' IN p_name) = 0 THEN
            INSERT INTO {schema}.log (name, kind) VALUES (p_name || '!dead', 'broadcast')
                ON CONFLICT (name) DO NOTHING;
        END IF;
        PERFORM {schema}.tell(p_owner, ARRAY[p_name]);
    END IF;
    SELECT l.kind INTO v_answer FROM {schema}.log l WHERE l.name = p_name;
    RETURN {schema}.ended(p_owner, 0, p_batch, v_answer);
END $$;

-- Remove up to a thousand of the oldest messages that a bound rules out. The answer: how many went.
CREATE FUNCTION {schema}.trim(
    p_owner bigint, p_batch bigint, p_name text, p_upto bigint, p_older double precision, p_count bigint,
    p_bytes bigint
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_answer text := {schema}.begun(p_owner, 0, p_batch);
    v_log record;
    v_gone bigint[];
    v_floor bigint;
BEGIN
    IF v_answer IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    SELECT * INTO v_log FROM {schema}.log l WHERE l.name = p_name FOR UPDATE;
    IF NOT FOUND THEN
        RETURN {schema}.ended(p_owner, 0, p_batch, '0');
    END IF;
    SELECT v_log.count + coalesce(sum(t.count), 0), v_log.size + coalesce(sum(t.size), 0)
        INTO v_log.count, v_log.size FROM {schema}.tally t WHERE t.log = v_log.number;
    v_gone := ARRAY(
        SELECT o.position FROM (
            SELECT w.position, w.stored, row_number() OVER (ORDER BY w.position) AS place,
                sum(w.size) OVER (ORDER BY w.position) - w.size AS before
            FROM (
                SELECT m.position, m.stored, octet_length(m.headers) + octet_length(m.body) AS size
                FROM {schema}.message m WHERE m.position > {schema}.position_of(v_log.number, 0)
                    AND m.position <= {schema}.position_of(v_log.number, v_log.last)
                ORDER BY m.position LIMIT 1000
            ) w
        ) o
        WHERE {schema}.sequence_of(o.position) <= p_upto OR o.stored < {schema}.stamp_of(p_older)
            OR o.place <= v_log.count - p_count OR v_log.size - o.before > p_bytes
        ORDER BY o.position);
    PERFORM {schema}.cut(v_log.number, v_gone);
    v_floor := greatest(v_log.floor, {schema}.sequence_of(v_gone[cardinality(v_gone)]));
    -- least() passes over NULL.
    IF cardinality(v_gone) < 1000 AND p_upto IS NOT NULL THEN
        v_floor := greatest(v_floor, least(p_upto, v_log.last));
    END IF;
    UPDATE {schema}.log l SET floor = v_floor WHERE l.number = v_log.number AND l.floor < v_floor;
    RETURN {schema}.ended(p_owner, 0, p_batch, cardinality(v_gone)::text);
END $$;

-- The answer: how many were there.
CREATE FUNCTION {schema}.remove(p_owner bigint, p_batch bigint, p_name text, p_ids text[]) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_answer text := {schema}.begun(p_owner, 0, p_batch);
    v_log integer;
BEGIN
    IF v_answer IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    SELECT l.number INTO v_log FROM {schema}.log l WHERE l.name = p_name FOR UPDATE;
    v_answer := coalesce({schema}.cut(v_log, ARRAY(
        SELECT m.position FROM {schema}.message m WHERE m.log = v_log AND m.id = ANY (p_ids))), 0)::text;
    IF v_answer <> '0' THEN
        PERFORM {schema}.tell(p_owner, ARRAY[p_name]);
    END IF;
    RETURN {schema}.ended(p_owner, 0, p_batch, v_answer);
END $$;

-- Move messages to the end of another log. The first row is the answer: where they stand; the rows after it are
-- the messages there.
CREATE FUNCTION {schema}.transfer(
    p_owner bigint, p_batch bigint, p_wall double precision, p_elapsed double precision, p_floor bigint,
    p_source text, p_target text, p_limit integer, p_ids text, p_after text, p_before text
) RETURNS TABLE (
    answer text, id text, sequence bigint, "timestamp" double precision, sender_id text, topic text, type text,
    headers bytea, body bytea, crc bigint, priority integer, key text
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_answer text := {schema}.begun(p_owner, 0, p_batch);
    v_ids text[] := ARRAY(SELECT jsonb_array_elements_text(p_ids::jsonb));
    v_source integer;
    v_kind text;
    v_target integer;
    v_moving bigint[] := '{}';
    v_end bigint;
    v_keys text[];
    v_message record;
    v_there record;
    v_new record;
    v_places bigint[] := '{}';
    v_log record;
BEGIN
    IF v_answer IS NULL THEN
        FOR v_log IN SELECT l.number, l.name, l.kind, l.last FROM {schema}.log l WHERE l.name IN (p_source, p_target)
            ORDER BY l.number FOR UPDATE
        LOOP
            IF v_log.name = p_target THEN
                v_target := v_log.number;
            END IF;
            IF v_log.name = p_source THEN
                v_source := v_log.number;
                v_kind := v_log.kind;
                v_end := {schema}.position_of(v_log.number, v_log.last);
            END IF;
        END LOOP;
        IF v_target IS NULL THEN
            RAISE EXCEPTION 'log not declared' USING ERRCODE = 'SSN10', DETAIL = json_build_array(p_target)::text;
        END IF;
        p_wall := {schema}.now_or(p_wall);
        IF v_source IS NULL THEN
            NULL;
        ELSIF v_kind = 'work queue' THEN
            PERFORM {schema}.refresh(v_source, p_wall, coalesce(p_elapsed, p_wall));
            SELECT array_agg(c.position), array_agg(c.key) INTO v_moving, v_keys FROM (
                SELECT j.position, j.key FROM {schema}.job j JOIN {schema}.message m ON m.position = j.position
                WHERE j.position > {schema}.position_of(v_source, 0) AND j.position <= v_end AND (j.state = 0 OR (j.state = 3 AND p_ids IS NOT NULL))
                    AND (p_ids IS NULL OR m.id = ANY (v_ids))
                    AND (p_after IS NULL OR m.id > p_after) AND (p_before IS NULL OR m.id < p_before)
                ORDER BY j.position LIMIT p_limit) c;
            PERFORM {schema}.lock_keys(
                array_fill(v_source, ARRAY[coalesce(cardinality(v_keys), 0)])
                    || array_fill(v_target, ARRAY[coalesce(cardinality(v_keys), 0)]), v_keys || v_keys);
            -- Some may have been taken before their keys were ours.
            v_moving := ARRAY(SELECT j.position FROM {schema}.job j
                WHERE j.position = ANY (v_moving) AND j.state IN (0, 3)
                ORDER BY j.position FOR UPDATE SKIP LOCKED);
        ELSE
            SELECT array_agg(c.position), array_agg(c.key) INTO v_moving, v_keys FROM (
                SELECT m.position, m.key FROM {schema}.message m
                WHERE m.position > {schema}.position_of(v_source, 0) AND m.position <= v_end AND (p_ids IS NULL OR m.id = ANY (v_ids))
                    AND (p_after IS NULL OR m.id > p_after) AND (p_before IS NULL OR m.id < p_before)
                ORDER BY m.position LIMIT p_limit) c;
            PERFORM {schema}.lock_keys(array_fill(v_target, ARRAY[coalesce(cardinality(v_keys), 0)]), v_keys);
        END IF;
        FOR v_message IN SELECT m.* FROM {schema}.message m
            WHERE m.position = ANY (v_moving) ORDER BY m.position
        LOOP
            PERFORM {schema}.cut(v_source, ARRAY[v_message.position]);
            SELECT {schema}.sequence_of(m.position) AS sequence, m.type = v_message.type AND m.body = v_message.body AS same INTO v_there
                FROM {schema}.message m WHERE m.log = v_target AND m.id = v_message.id;
            IF NOT FOUND THEN
                SELECT * INTO v_new FROM {schema}.place(v_target, p_wall, p_floor, v_message.id, v_message.timestamp,
                    v_message.sender_id, v_message.topic, v_message.type, v_message.headers, v_message.body,
                    v_message.crc, v_message.priority, v_message.key, NULL);
                v_places := v_places || v_new.sequence;
            ELSIF v_there.same THEN
                v_places := v_places || v_there.sequence;
            ELSE
                RAISE EXCEPTION 'conflict' USING ERRCODE = 'SSN11',
                    DETAIL = json_build_array(p_target, 'id', v_message.id)::text;
            END IF;
        END LOOP;
        IF v_places <> '{}' THEN
            PERFORM {schema}.tell(p_owner, ARRAY[p_source, p_target]);
        END IF;
        v_answer := {schema}.ended(p_owner, 0, p_batch, to_json(v_places)::text);
    END IF;
    answer := v_answer;
    RETURN NEXT;
    RETURN QUERY SELECT NULL::text, m.id, {schema}.sequence_of(m.position), m.timestamp, m.sender_id, m.topic, m.type, m.headers, m.body,
        m.crc, m.priority, m.key
        FROM jsonb_array_elements_text(v_answer::jsonb) WITH ORDINALITY AS p (sequence, place)
        JOIN {schema}.log l ON l.name = p_target
        JOIN {schema}.message m ON m.position = {schema}.position_of(l.number, p.sequence::bigint)
        ORDER BY p.place;
END $$;

-- Messages of one queue as they stood elsewhere: as `append_apart` for one operation, then states (3: done), attempts
-- and errors for those that were not there yet. The answer is the same.
CREATE FUNCTION {schema}.restore(
    p_owner bigint, p_batch bigint, p_wall double precision, p_floor bigint,
    p_operation integer[], p_name text[], p_id text[], p_timestamp double precision[], p_sender text[],
    p_topic text[], p_type text[], p_headers bytea[], p_body bytea[], p_crc bigint[], p_priority integer[],
    p_key text[], p_due double precision[], p_dedupe text[], p_digest bytea[], p_seconds double precision[],
    p_limited integer[], p_limit_name text[], p_limit bigint[],
    p_log text, p_done boolean[], p_attempts integer[], p_errors text[]
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_answer text := {schema}.begun(p_owner, 0, p_batch);
    v_log record;
    v_keys text[];
BEGIN
    IF v_answer IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    SELECT l.number, l.kind INTO v_log FROM {schema}.log l WHERE l.name = p_log FOR UPDATE;
    IF FOUND AND v_log.kind <> 'work queue' THEN
        RAISE EXCEPTION 'not a queue' USING ERRCODE = 'SSN12', DETAIL = json_build_array(p_log, v_log.kind)::text;
    END IF;
    v_answer := {schema}.append_apart(p_owner, p_batch, p_wall, p_floor, p_operation, p_name, p_id, p_timestamp,
        p_sender, p_topic, p_type, p_headers, p_body, p_crc, p_priority, p_key, p_due, p_dedupe, p_digest, p_seconds,
        p_limited, p_limit_name, p_limit);
    IF v_answer::jsonb #>> '{0,0}' <> 'placed' THEN
        RETURN v_answer;
    END IF;
    WITH stood AS MATERIALIZED (
        SELECT {schema}.position_of(v_log.number, (p.placed ->> 1)::bigint) AS position, p_done[p.place] AS done,
            p_attempts[p.place] AS attempts, p_errors[p.place] AS error
        FROM jsonb_array_elements(v_answer::jsonb #> '{0,1}') WITH ORDINALITY AS p (placed, place)
        WHERE NOT (p.placed ->> 2)::boolean
    ), restored AS (
        UPDATE {schema}.job j SET attempts = s.attempts, error = s.error,
            state = CASE WHEN s.done THEN 3 ELSE j.state END, due = CASE WHEN s.done THEN NULL ELSE j.due END
        FROM stood s WHERE j.position = s.position RETURNING j.state, j.key
    ), counted AS (
        UPDATE {schema}.log l SET depth = l.depth - (SELECT count(*) FROM restored r WHERE r.state = 3)
        WHERE l.number = v_log.number
    ) SELECT array_agg(DISTINCT r.key) INTO v_keys FROM restored r WHERE r.state = 3 AND r.key IS NOT NULL;
    IF v_keys IS NOT NULL THEN
        PERFORM {schema}.promote(array_fill(v_log.number, ARRAY[cardinality(v_keys)]), v_keys);
    END IF;
    RETURN v_answer;
END $$;

-- Forget a log; its rows are left to `sweep`.
CREATE FUNCTION {schema}.drop_log(p_owner bigint, p_batch bigint, p_name text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_answer text := {schema}.begun(p_owner, 0, p_batch);
    v_numbers integer[];
BEGIN
    IF v_answer IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    v_numbers := ARRAY(SELECT l.number FROM {schema}.log l
        WHERE l.name = p_name OR (l.name = p_name || '!dead' AND position('!' IN p_name) = 0)
        ORDER BY l.number FOR UPDATE);
    PERFORM {schema}.tell(p_owner, ARRAY[p_name]);
    DELETE FROM {schema}.log l WHERE l.number = ANY (v_numbers);
    INSERT INTO {schema}.dropped SELECT unnest(v_numbers);
    -- The companion of a channel that stays begins anew.
    INSERT INTO {schema}.log (name, kind) SELECT p_name, 'broadcast' FROM {schema}.log l
        WHERE l.name || '!dead' = p_name ON CONFLICT (name) DO NOTHING;
    RETURN {schema}.ended(p_owner, 0, p_batch, '');
END $$;

-- Remove some of what is left of dropped logs. The answer: whether there may be more.
CREATE FUNCTION {schema}.sweep(p_owner bigint, p_batch bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_answer text := {schema}.begun(p_owner, 0, p_batch);
    v_log integer;
    v_end bigint;
BEGIN
    IF v_answer IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    -- What somebody else is sweeping is none of ours.
    SELECT d.number INTO v_log FROM {schema}.dropped d ORDER BY d.number LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF v_log IS NULL THEN
        RETURN {schema}.ended(p_owner, 0, p_batch, '');
    END IF;
    SELECT max(s.position) INTO v_end FROM (
        SELECT m.position FROM {schema}.message m WHERE m.position > {schema}.position_of(v_log, 0)
            AND m.position < {schema}.position_of(v_log + 1, 0) ORDER BY m.position LIMIT 1000) s;
    DELETE FROM {schema}.job j WHERE j.position > {schema}.position_of(v_log, 0)
        AND j.position <= coalesce(v_end, {schema}.position_of(v_log + 1, 0));
    DELETE FROM {schema}.message m WHERE m.position > {schema}.position_of(v_log, 0) AND m.position <= v_end;
    IF v_end IS NULL THEN
        DELETE FROM {schema}.dedupe d WHERE d.log = v_log;
        DELETE FROM {schema}.tally t WHERE t.log = v_log;
        DELETE FROM {schema}.dropped d WHERE d.number = v_log;
    END IF;
    RETURN {schema}.ended(p_owner, 0, p_batch, 'more');
END $$;

-- Remove some messages that are done, of one log or of any. The answer: how many went.
CREATE FUNCTION {schema}.vacuum(p_owner bigint, p_batch bigint, p_name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_answer text := {schema}.begun(p_owner, 0, p_batch);
    v_log integer;
BEGIN
    IF v_answer IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    SELECT l.number INTO v_log FROM {schema}.log l
        WHERE (p_name IS NULL OR l.name = p_name) AND l.kind = 'work queue'
            AND EXISTS (SELECT 1 FROM {schema}.job j WHERE j.log = l.number AND j.state = 3)
        ORDER BY l.number LIMIT 1 FOR UPDATE;
    v_answer := coalesce({schema}.cut(v_log, ARRAY(
        SELECT j.position FROM {schema}.job j WHERE j.log = v_log AND j.state = 3 ORDER BY j.position LIMIT 1000)), 0)::text;
    RETURN {schema}.ended(p_owner, 0, p_batch, v_answer);
END $$;

-- Write records whose version is still the one given. The answer: the new versions.
CREATE FUNCTION {schema}.put(
    p_owner bigint, p_batch bigint, p_spaces text[], p_names text[], p_values bytea[], p_versions bigint[]
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_answer text := {schema}.begun(p_owner, 0, p_batch);
    v_new bigint[] := array_fill(NULL::bigint, ARRAY[cardinality(p_names)]);
    v_put record;
    v_version bigint;
BEGIN
    IF v_answer IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    FOR v_put IN SELECT * FROM unnest(p_spaces, p_names, p_values, p_versions) WITH ORDINALITY
        AS p (space, name, value, version, place) ORDER BY p.space, p.name, p.place
    LOOP
        v_version := nextval({version});
        IF v_put.version IS NULL THEN
            INSERT INTO {schema}.record VALUES (v_put.space, v_put.name, v_put.value, v_version)
                ON CONFLICT (space, name) DO NOTHING;
        ELSE
            UPDATE {schema}.record r SET value = v_put.value, version = v_version
                WHERE r.space = v_put.space AND r.name = v_put.name AND r.version = v_put.version;
        END IF;
        IF FOUND THEN
            v_new[v_put.place] := v_version;
        END IF;
    END LOOP;
    RETURN {schema}.ended(p_owner, 0, p_batch, to_json(v_new)::text);
END $$;

-- The answer: whether it was there.
CREATE FUNCTION {schema}.delete(p_owner bigint, p_batch bigint, p_space text, p_name text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_answer text := {schema}.begun(p_owner, 0, p_batch);
BEGIN
    IF v_answer IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    DELETE FROM {schema}.record r WHERE r.space = p_space AND r.name = p_name;
    RETURN {schema}.ended(p_owner, 0, p_batch, CASE WHEN FOUND THEN 'yes' ELSE '' END);
END $$;

-- The sequence after which everything was stored at or after a time.
CREATE FUNCTION {schema}.locate(p_name text, p_time double precision) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_log record;
    v_low bigint;
    v_high bigint;
    v_middle bigint;
    v_near record;
BEGIN
    SELECT l.number, l.floor, l.last INTO v_log FROM {schema}.log l WHERE l.name = p_name;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    v_low := v_log.floor;
    v_high := v_log.last;
    -- Nothing up to the low end is new enough, everything after the high end is.
    WHILE v_low < v_high LOOP
        v_middle := (v_low + v_high) / 2;
        SELECT {schema}.sequence_of(m.position) AS sequence, m.stored INTO v_near FROM {schema}.message m
            WHERE m.position > {schema}.position_of(v_log.number, v_middle)
                AND m.position <= {schema}.position_of(v_log.number, v_high)
            ORDER BY m.position LIMIT 1;
        IF NOT FOUND OR v_near.stored >= {schema}.stamp_of(p_time) THEN
            v_high := v_middle;
        ELSE
            v_low := v_near.sequence;
        END IF;
    END LOOP;
    SELECT {schema}.sequence_of(m.position) AS sequence INTO v_near FROM {schema}.message m
        WHERE m.position > {schema}.position_of(v_log.number, v_low)
            AND m.position <= {schema}.position_of(v_log.number, v_log.last) ORDER BY m.position LIMIT 1;
    RETURN CASE WHEN FOUND THEN v_near.sequence - 1 ELSE v_log.last END;
END $$;
