-- How rule time runs.
-- name: timescale
SELECT origin, factor FROM meta;

-- Make a set of rules the active one, unless a newer one is (law 11). Without a number the moment counts.
-- name: revise
UPDATE meta SET revision = asked.revision
FROM (SELECT coalesce(%(revision)s::bigint, (extract(epoch FROM db_now()) * 1000000)::bigint) AS revision) AS asked
WHERE meta.revision <= asked.revision
RETURNING meta.revision;

-- Write the rules of the active set; a new or changed one is due now and begins with a clean slate.
-- name: install
INSERT INTO rule (name, digest, revision, every, severity, mode, owner, max_calls, active, next_scan_at)
SELECT r.name, r.digest, %(revision)s::bigint, make_interval(secs => r.every), r.severity, r.mode, r.owner,
       r.max_calls_per_hour, r.mode <> 'disabled', rule_time(db_now())
FROM jsonb_to_recordset(%(rules)s::jsonb) AS r (
    name text, digest text, every double precision, severity integer, mode text, owner text, max_calls_per_hour integer
)
ORDER BY r.name
ON CONFLICT (name) DO UPDATE SET
    digest = excluded.digest, revision = excluded.revision, every = excluded.every, severity = excluded.severity,
    mode = excluded.mode, owner = excluded.owner, max_calls = excluded.max_calls, active = excluded.active,
    next_scan_at = CASE WHEN rule.active AND rule.digest = excluded.digest
                        THEN rule.next_scan_at ELSE excluded.next_scan_at END,
    next_visit_at = CASE WHEN rule.active AND rule.digest = excluded.digest
                         THEN rule.next_visit_at ELSE excluded.next_scan_at END,
    unfinished = CASE WHEN rule.digest = excluded.digest THEN rule.unfinished ELSE 0 END;

-- Rules that the active set does not have.
-- name: retire
UPDATE rule SET active = false, revision = %(revision)s::bigint WHERE active AND name <> ALL (%(names)s::text[]);

-- Rules that are gone or disabled and whose incidents still stand open: to be parked.
-- name: to_be_parked
SELECT name FROM rule
WHERE NOT active
  AND EXISTS (SELECT FROM incident WHERE rule = rule.name AND phase NOT IN ('resolved', 'parked'))
ORDER BY name;

-- The revision after the active one, where a rule of it that this replica does not hold was due for so long without being taken.
-- name: deserted
SELECT meta.revision + 1 AS revision
FROM meta, (SELECT db_now() - %(patience)s::interval AS since_db) AS moment
WHERE EXISTS (
    SELECT FROM rule
    WHERE rule.active AND least(rule.next_scan_at, rule.next_visit_at) <= rule_time(moment.since_db)
      AND coalesce(rule.until_db, '-infinity') <= moment.since_db
      AND NOT EXISTS (
        SELECT FROM unnest(%(names)s::text[], %(digests)s::text[]) AS held (name, digest)
        WHERE held.name = rule.name AND held.digest = rule.digest));

-- The most overdue rule that this replica holds in the active version and nobody else has, for one cycle. A row that
-- is locked is passed over, so a take never waits. Cycles that did not come to their end delay the next (law 18).
-- name: take
WITH moment AS MATERIALIZED (
    SELECT now_db, rule_time(now_db) AS now FROM (SELECT db_now() AS now_db) AS clock
), due AS (
    SELECT rule.name, moment.now_db, coalesce(rule.next_scan_at <= moment.now, false) AS scan_due
    FROM rule
    JOIN unnest(%(names)s::text[], %(digests)s::text[]) AS held (name, digest)
      ON rule.name = held.name AND rule.digest = held.digest
    CROSS JOIN moment
    WHERE rule.active
      AND least(rule.next_scan_at, rule.next_visit_at) <= moment.now
      AND (rule.until_db IS NULL OR moment.now_db >= rule.until_db + make_interval(
            secs => CASE WHEN rule.unfinished < 2 THEN 0 ELSE least(10 * 2 ^ least(rule.unfinished - 2, 10), 600) END))
    ORDER BY least(rule.next_scan_at, rule.next_visit_at), rule.severity, rule.name
    LIMIT 1
    FOR UPDATE OF rule SKIP LOCKED
)
UPDATE rule SET holder = %(holder)s::text, epoch = epoch + 1, until_db = due.now_db + %(lease)s::interval,
                unfinished = unfinished + 1, nudged = false
FROM due WHERE rule.name = due.name
RETURNING rule.name, rule.digest, rule.epoch, due.now_db, rule.until_db, due.scan_due;

-- Prolong the tenures that are still held; what is missing in the answer is lost.
-- name: renew
WITH mine AS (
    SELECT rule.name FROM rule
    JOIN unnest(%(names)s::text[], %(holders)s::text[], %(epochs)s::bigint[]) AS held (name, holder, epoch)
      ON rule.name = held.name AND rule.holder = held.holder AND rule.epoch = held.epoch
    WHERE rule.until_db > db_now()
    ORDER BY rule.name
    FOR NO KEY UPDATE OF rule
)
UPDATE rule SET until_db = db_now() + %(lease)s::interval
FROM mine WHERE rule.name = mine.name AND rule.until_db > db_now()
RETURNING rule.name, rule.until_db;

-- End a tenure. A person's word that came during the cycle keeps the rule due now; a finished cycle that names no visit
-- leaves the least due of the live incidents. A version that was activated meanwhile is due when its activation said.
-- name: give_back
UPDATE rule SET
    holder = NULL, until_db = least(until_db, db_now()), nudged = false,
    unfinished = CASE WHEN %(finished)s::boolean THEN 0 ELSE unfinished END,
    next_scan_at = CASE WHEN digest = %(digest)s::text THEN coalesce(%(scan_at)s::timestamptz, next_scan_at) ELSE next_scan_at END,
    next_visit_at = least(
        CASE WHEN nudged THEN rule_time(db_now()) END,
        CASE WHEN digest <> %(digest)s::text THEN next_visit_at
             WHEN %(visit_at)s::timestamptz IS NOT NULL THEN %(visit_at)s::timestamptz
             WHEN NOT %(finished)s::boolean THEN next_visit_at
             ELSE (SELECT min(due) FROM incident WHERE incident.rule = rule.name AND phase <> 'resolved') END)
WHERE name = %(rule)s::text AND holder = %(holder)s::text AND epoch = %(epoch)s::bigint;

-- Law 3: every deciding transaction begins with its rule's row, held to its end; the lock also makes the hourly count
-- exact and orders a pause before or after a gate. The remaining lease is measured after the lock was had.
-- name: fence
SELECT digest, active, max_calls, now_db, rule_time(now_db) AS now,
       extract(epoch FROM until_db - now_db)::double precision AS seconds_left
FROM (SELECT mine.*, db_now() AS now_db FROM (
        SELECT * FROM rule
        WHERE name = %(rule)s::text AND holder = %(holder)s::text AND epoch = %(epoch)s::bigint
        FOR NO KEY UPDATE) AS mine) AS timed;

-- The row of a rule that is gone or disabled and that nobody holds.
-- name: unheld
SELECT name FROM (
    SELECT * FROM rule WHERE name = %(rule)s::text FOR NO KEY UPDATE
) AS found WHERE NOT active AND (until_db IS NULL OR until_db <= db_now());

-- Make a rule, or all of them, due now.
-- name: nudge
WITH chosen AS (
    SELECT name FROM rule WHERE %(rule)s::text IS NULL OR name = %(rule)s::text ORDER BY name FOR NO KEY UPDATE
)
UPDATE rule SET next_visit_at = least(next_visit_at, rule_time(db_now())), nudged = true
FROM chosen WHERE rule.name = chosen.name;

-- What the rule remembers, replaced.
-- name: remember_state
UPDATE rule SET state = state || %(state)s::jsonb WHERE name = %(rule)s::text;

-- A person asks for a cycle: the next scan is due now.
-- name: hasten
UPDATE rule SET next_scan_at = least(next_scan_at, rule_time(db_now())) WHERE name = %(rule)s::text;
