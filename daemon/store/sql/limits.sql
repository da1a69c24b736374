-- Write a pause.
-- name: pause
INSERT INTO pause (id, rule, connector, until, body)
SELECT p.id, p.rule, p.connector, p.until, given.body
FROM (SELECT %(body)s::jsonb AS body) AS given,
     jsonb_to_record(given.body) AS p (id text, rule text, connector text, until timestamptz)
ON CONFLICT (id) DO NOTHING;

-- End the pauses of exactly this scope that still run.
-- name: resume
UPDATE pause SET ended = moment.now, ended_by = %(author)s::text
FROM (SELECT rule_time(db_now()) AS now) AS moment
WHERE ended IS NULL AND (until IS NULL OR until > moment.now)
  AND rule IS NOT DISTINCT FROM %(rule)s::text AND connector IS NOT DISTINCT FROM %(connector)s::text;

-- The pauses that run at a moment, of everything or of one rule's concern.
-- name: running
SELECT body FROM pause
WHERE ended IS NULL AND (until IS NULL OR until > %(now)s::timestamptz)
  AND (%(rule)s::text IS NULL OR rule IS NULL OR rule = %(rule)s::text)
ORDER BY body ->> 'since', id;

-- Take tokens, or none: GCRA in one statement, on the database's clock (measurements G).
-- name: reserve
UPDATE rate SET tat_db = greatest(tat_db, moment.now_db - make_interval(secs => %(depth)s::double precision))
                         + make_interval(secs => %(each)s::double precision * %(tokens)s::integer)
FROM (SELECT db_now() AS now_db) AS moment
WHERE target = %(target)s::text
  AND greatest(tat_db, moment.now_db - make_interval(secs => %(depth)s::double precision))
      + make_interval(secs => %(each)s::double precision * %(tokens)s::integer) <= moment.now_db
RETURNING tat_db;

-- Seconds until those tokens could be had, if nobody else takes them.
-- name: wait
SELECT extract(epoch FROM greatest(tat_db, moment.now_db - make_interval(secs => %(depth)s::double precision))
                          + make_interval(secs => %(each)s::double precision * %(tokens)s::integer)
                          - moment.now_db)::double precision AS seconds
FROM rate, (SELECT db_now() AS now_db) AS moment
WHERE target = %(target)s::text;

-- A connector's row, with a full burst.
-- name: first
INSERT INTO rate (target, tat_db)
VALUES (%(target)s::text, db_now() - make_interval(secs => %(depth)s::double precision))
ON CONFLICT DO NOTHING;

-- Nobody gets a token before this moment.
-- name: push
INSERT INTO rate (target, tat_db) VALUES (%(target)s::text, %(until_db)s::timestamptz)
ON CONFLICT (target) DO UPDATE SET tat_db = greatest(rate.tat_db, excluded.tat_db);
