-- Forget ended incidents that are old enough, with their attempts and their journal, at most so many at a time; what
-- they had counted goes into the tally, so that no total ever falls. One that was told keeps its key while it is listed.
-- name: forget_incidents
WITH old AS (
    DELETE FROM incident WHERE id IN (
        SELECT id FROM incident
        WHERE phase = 'resolved' AND ended < %(before)s::timestamptz
          AND (resolution IS DISTINCT FROM 'told' OR body ->> 'last' IS NULL OR (body ->> 'last')::timestamptz < %(before)s::timestamptz)
          AND NOT EXISTS (SELECT FROM attempt WHERE attempt.incident = incident.id AND result IS NULL)
        ORDER BY ended LIMIT %(limit)s::integer FOR UPDATE SKIP LOCKED)
    RETURNING id
), tries AS (
    DELETE FROM attempt USING old WHERE attempt.incident = old.id RETURNING attempt.rule, attempt.result
), lines AS (
    DELETE FROM journal USING old WHERE journal.incident = old.id RETURNING journal.rule, journal.phase, journal.resolution
), counted AS (
    INSERT INTO tally (rule, what, label, count)
    SELECT rule, 'attempt', result, count(*) FROM tries GROUP BY rule, result
    UNION ALL
    SELECT rule, 'resolution', resolution, count(*) FROM lines
    WHERE phase = 'resolved' AND resolution IS NOT NULL GROUP BY rule, resolution
    ON CONFLICT (rule, what, label) DO UPDATE SET count = tally.count + excluded.count
)
SELECT count(*) AS forgotten FROM old;

-- Forget notices that are old enough and on no way any more, likewise.
-- name: forget_notices
WITH old AS (
    DELETE FROM notice WHERE id IN (
        SELECT id FROM notice
        WHERE at < %(before)s::timestamptz
          AND NOT EXISTS (SELECT FROM dispatch WHERE dispatch.notice = notice.id AND state = 'pending')
        ORDER BY place LIMIT %(limit)s::integer FOR UPDATE SKIP LOCKED)
    RETURNING id, rule, kind
), ways AS (
    DELETE FROM dispatch USING old WHERE dispatch.notice = old.id RETURNING old.rule, old.kind, dispatch.state
), counted AS (
    INSERT INTO tally (rule, what, label, count)
    SELECT rule, 'notice', kind || ' ' || state, count(*) FROM ways GROUP BY rule, kind, state
    ON CONFLICT (rule, what, label) DO UPDATE SET count = tally.count + excluded.count
)
SELECT count(*) AS forgotten FROM old;

-- Forget problems that ended long enough ago and of which no notice is left: the next one begins with episode 1 again.
-- name: forget_problems
WITH old AS (
    DELETE FROM problem
    WHERE (body ->> 'ended')::timestamptz < %(before)s::timestamptz AND NOT (body ->> 'active')::boolean
      AND NOT EXISTS (SELECT FROM notice WHERE notice.problem = problem.id)
    RETURNING id
)
SELECT count(*) AS forgotten FROM old;

-- Forget words that were obeyed, pauses that are over, and the ids of changes whose answer nobody waits for any more.
-- name: forget_words
WITH words AS (
    DELETE FROM directive WHERE obeyed < %(before)s::timestamptz RETURNING id
), rests AS (
    DELETE FROM pause WHERE least(ended, until) < %(before)s::timestamptz RETURNING id
), ids AS (
    DELETE FROM committed WHERE at_db < db_now() - interval '1 day' RETURNING id
)
SELECT (SELECT count(*) FROM words) + (SELECT count(*) FROM rests) + (SELECT count(*) FROM ids) AS forgotten;
