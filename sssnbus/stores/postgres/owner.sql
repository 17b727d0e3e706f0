-- Who has the store open: a row for each open store, and, where sessions last, an advisory lock that the server
-- lets go as soon as the process is gone.

CREATE FUNCTION {schema}.owner_lock(p_number bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT hashtextextended({mark} || ' owner ' || p_number, 0)
$$;

-- Enter a new owner, or an old one again that was taken for dead; `p_store` tells whether this is still the place
-- that gave it its number. Returns its number, the identity of the place and the newest id there is.
CREATE FUNCTION {schema}.enter(
    p_number bigint, p_store text, p_listening boolean, OUT number bigint, OUT store text, OUT stamp bigint
) LANGUAGE plpgsql AS $$
#variable_conflict use_variable
BEGIN
    SELECT m.value INTO store FROM {schema}.meta m WHERE m.name = 'store';
    SELECT coalesce(max(l.stamp), 0) INTO stamp FROM {schema}.log l;
    IF p_number IS NOT NULL AND p_store = store THEN
        number := p_number;
        INSERT INTO {schema}.owner (number, seen, locked, listening) OVERRIDING SYSTEM VALUE
            VALUES (number, {schema}.now_or(NULL), false, p_listening)
            ON CONFLICT ON CONSTRAINT owner_pkey DO UPDATE SET seen = excluded.seen;
    ELSE
        INSERT INTO {schema}.owner AS o (seen, locked, listening) VALUES ({schema}.now_or(NULL), false, p_listening)
            RETURNING o.number INTO number;
    END IF;
    INSERT INTO {schema}.writer (owner, lane, batch, at)
        VALUES (number, 0, 0, {schema}.now_or(NULL)), (number, 1, 0, {schema}.now_or(NULL))
        ON CONFLICT DO NOTHING;
    DELETE FROM {schema}.writer w WHERE w.at < {schema}.now_or(NULL) - 86400
        AND NOT EXISTS (SELECT 1 FROM {schema}.owner o WHERE o.number = w.owner);
END $$;

-- Say that an owner is alive; false if it was taken for dead.
CREATE FUNCTION {schema}.beat(p_number bigint, p_locked boolean) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE {schema}.owner o SET seen = {schema}.now_or(NULL), locked = p_locked WHERE o.number = p_number;
    RETURN FOUND;
END $$;

-- Free what a batch of claims has leased, if it was applied, and see to it that it never will be: nobody got its answer.
CREATE FUNCTION {schema}.disown(p_number bigint, p_batch bigint, p_token text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_names text[];
BEGIN
    -- Before the jobs, against the usual order: one that is still under way ends here, by a deadlock if need be.
    UPDATE {schema}.writer w SET batch = p_batch, answer = NULL
        WHERE w.owner = p_number AND w.lane = 1 AND w.batch < p_batch;
    WITH held AS MATERIALIZED (
        SELECT j.position FROM {schema}.job j
        WHERE j.owner = p_number AND j.state = 2 AND starts_with(j.token, p_token) ORDER BY j.position FOR UPDATE
    ), freed AS (
        UPDATE {schema}.job j SET state = 0, attempts = j.attempts - 1, until = NULL, owner = NULL, worker = NULL,
            token = NULL
        FROM held h WHERE j.position = h.position RETURNING j.log
    ) SELECT array_agg(DISTINCT l.name) INTO v_names FROM freed f JOIN {schema}.log l ON l.number = f.log;
    IF v_names IS NOT NULL THEN
        PERFORM {schema}.tell(0, v_names);
    END IF;
    RETURN v_names IS NOT NULL;
END $$;

-- All owners: whether the lock that should be held is free, and whether it was not heard of for too long.
CREATE FUNCTION {schema}.owners(p_number bigint, p_span double precision)
RETURNS TABLE (number bigint, free boolean, silent boolean) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT o.number,
        CASE WHEN o.locked AND o.number <> p_number THEN pg_try_advisory_xact_lock_shared({schema}.owner_lock(o.number)) ELSE false END,
        o.seen < {schema}.now_or(NULL) - p_span
        FROM {schema}.owner o ORDER BY o.number;
END $$;

-- Free what a dead owner held and forget it, unless it has turned up again.
CREATE FUNCTION {schema}.bury(p_number bigint, p_span double precision) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_owner record;
BEGIN
    SELECT o.locked, o.seen INTO v_owner FROM {schema}.owner o WHERE o.number = p_number FOR UPDATE SKIP LOCKED;
    IF NOT FOUND OR NOT (v_owner.seen < {schema}.now_or(NULL) - p_span
        OR (v_owner.locked AND pg_try_advisory_xact_lock_shared({schema}.owner_lock(p_number))))
    THEN
        RETURN false;
    END IF;
    PERFORM {schema}.leave(p_number, true);
    RETURN true;
END $$;

-- Every statement of these functions is one that an index answers at once. A server that has not yet looked at how the
-- tables have grown may think otherwise, and would keep to such a plan for as long as the session lasts.
DO $$
DECLARE
    v_name text;
    v_option text;
BEGIN
    FOR v_name IN SELECT p.oid::regprocedure FROM pg_proc p
        WHERE p.pronamespace = {namespace}::regnamespace AND p.proname IN (
            'append', 'append_one', 'append_apart', 'restore', 'work', 'claim_next', 'ack_one',
            'declare', 'trim', 'remove', 'transfer', 'drop_log', 'sweep', 'vacuum',
            'put', 'delete', 'renew', 'leave', 'owners', 'disown')
    LOOP
        FOREACH v_option IN ARRAY ARRAY['enable_seqscan', 'enable_bitmapscan', 'enable_hashjoin', 'enable_mergejoin', 'jit']
        LOOP
            EXECUTE format('ALTER FUNCTION %s SET %I TO off', v_name, v_option);
        END LOOP;
        EXECUTE format('ALTER FUNCTION %s SET plan_cache_mode TO force_generic_plan', v_name);
    END LOOP;
END $$;
