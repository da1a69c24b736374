-- The rule's own row, as a cycle reads it; unfinished leaves out the cycle that is under way.
-- name: rule
SELECT state, owner, severity, coalesce(next_scan_at <= %(now)s::timestamptz, false) AS scan_due,
       greatest(unfinished - CASE WHEN until_db > db_now() THEN 1 ELSE 0 END, 0) AS unfinished
FROM rule WHERE name = %(rule)s::text;

-- Its live incidents, oldest first.
-- name: live
SELECT key, body FROM incident WHERE rule = %(rule)s::text AND phase <> 'resolved' ORDER BY opened, id;

-- Its open attempts, and those whose outcome came when its incident could no longer be written (law 16).
-- name: open_attempts
SELECT body FROM attempt WHERE rule = %(rule)s::text AND result IS NULL
UNION ALL
SELECT attempt.body FROM incident JOIN attempt ON attempt.id = incident.body ->> 'flight' AND attempt.result IS NOT NULL
WHERE incident.rule = %(rule)s::text AND incident.phase <> 'resolved';

-- Its problems; delivered counts for the episode it belongs to.
-- name: problems
SELECT CASE WHEN delivered IS NOT NULL AND delivered_episode = (body ->> 'episode')::integer
            THEN body || jsonb_build_object('delivered', delivered)
            ELSE body || '{"delivered": null}' END AS body
FROM problem WHERE rule = %(rule)s::text ORDER BY id;

-- Words that wait for this cycle, in the order they were spoken.
-- name: directives
SELECT body FROM directive WHERE rule = %(rule)s::text AND obeyed IS NULL ORDER BY at, id;

-- Connectors that refuse us.
-- name: illnesses
SELECT body FROM illness ORDER BY connector;

-- Objects of this rule on which an attempt for another incident is on its way or settling, and until when.
-- name: busy_objects
SELECT incident.object, max(CASE WHEN attempt.result IS NULL THEN attempt.ends_by ELSE attempt.settled END) AS until
FROM attempt JOIN incident ON incident.object = attempt.object AND incident.id <> attempt.incident
WHERE (attempt.result IS NULL OR attempt.settled > %(now)s::timestamptz)
  AND incident.rule = %(rule)s::text AND incident.phase <> 'resolved'
GROUP BY incident.object;

-- Incidents of other rules on the same objects that people are being told of. A rule that is gone, disabled or only
-- observes tells nobody, so it speaks for nobody.
-- name: tellings
SELECT DISTINCT other.object, other.rule, rule.severity, other.opened
FROM incident AS other
JOIN incident AS mine ON mine.object = other.object AND mine.rule <> other.rule
JOIN rule ON rule.name = other.rule AND rule.active AND rule.mode <> 'observe'
WHERE mine.rule = %(rule)s::text AND mine.phase <> 'resolved' AND other.phase <> 'resolved'
  AND (other.phase IN ('escalated', 'quarantined') OR other.body -> 'levels' <> '{}')
ORDER BY other.object, other.rule, other.opened;

-- The rule's calls of the last hour; what was not sent is none.
-- name: calls
SELECT begun FROM attempt
WHERE rule = %(rule)s::text AND begun > %(now)s::timestamptz - interval '1 hour' AND result IS DISTINCT FROM 'not_sent'
ORDER BY begun;

-- The newest ended incident of each key.
-- name: previous
SELECT DISTINCT ON (key) body FROM incident
WHERE rule = %(rule)s::text AND phase = 'resolved' AND key = ANY (%(keys)s::text[])
ORDER BY key, ended DESC, id;

-- Note a change's id; nothing is touched when it was written before (law 18).
-- name: note_change
INSERT INTO committed (id, at_db) VALUES (%(id)s::text, db_now()) ON CONFLICT DO NOTHING;

-- Write incidents: new ones (version 0), and those that are still on the version they carry; each new phase or why goes
-- into the journal. Answers how many were written.
-- name: write_incidents
WITH given AS MATERIALIZED (
    SELECT given.body, i.* FROM jsonb_array_elements(%(bodies)s::jsonb) AS given (body),
         jsonb_to_record(given.body) AS i (
             id text, rule text, key text, record_key text, object text, phase text, why text, cause text,
             verdict text, reason text, opened timestamptz, due timestamptz, ended timestamptz, resolution text,
             value jsonb, version integer)
), noted AS (
    INSERT INTO journal (incident, rule, key, at, phase, why, verdict, cause, resolution, reason)
    SELECT given.id, given.rule, given.key, moment.now, given.phase, given.why, given.verdict, given.cause,
           given.resolution, given.reason
    FROM (SELECT rule_time(db_now()) AS now) AS moment, given LEFT JOIN incident AS old ON old.id = given.id
    WHERE old.id IS NULL OR (old.phase, old.why) IS DISTINCT FROM (given.phase, given.why)
    ORDER BY given.opened, given.id
), changed AS (
    UPDATE incident AS old SET
        key = given.key, record_key = given.record_key, object = given.object, phase = given.phase, why = given.why,
        cause = given.cause, opened = given.opened, due = given.due, ended = given.ended,
        resolution = given.resolution, amount = (given.value ->> 'amount')::numeric,
        currency = given.value ->> 'currency', version = old.version + 1,
        body = old.body || given.body || jsonb_build_object('version', old.version + 1)
    FROM given WHERE old.id = given.id AND old.version = given.version AND given.version > 0
    RETURNING old.id
), added AS (
    INSERT INTO incident (id, rule, key, record_key, object, phase, why, cause, opened, due, ended, resolution,
                          amount, currency, version, body)
    SELECT id, rule, key, record_key, object, phase, why, cause, opened, due, ended, resolution,
           (value ->> 'amount')::numeric, value ->> 'currency', 1, body || '{"version": 1}'
    FROM given WHERE version = 0
    RETURNING id
)
SELECT (SELECT count(*) FROM changed) + (SELECT count(*) FROM added) AS written;

-- Which of these incidents are on the version they carry; held to the end of the transaction.
-- name: current
SELECT incident.id FROM incident
JOIN unnest(%(ids)s::text[], %(versions)s::integer[]) AS given (id, version)
  ON incident.id = given.id AND incident.version = given.version
ORDER BY incident.id
FOR NO KEY UPDATE OF incident;

-- Which of these incidents want an object on which somebody acts: an open attempt of anyone but these, or one for another
-- incident that is still settling (law 7).
-- name: busy
SELECT given.incident
FROM unnest(%(objects)s::text[], %(incidents)s::text[]) AS given (object, incident)
WHERE EXISTS (
    SELECT FROM attempt
    WHERE attempt.object = given.object AND attempt.id <> ALL (%(own)s::text[])
      AND (attempt.result IS NULL
           OR attempt.settled > %(now)s::timestamptz AND attempt.incident <> given.incident));

-- Write intents; an object that somebody else took just now lets no second one in. In the order of objects, so that two
-- gates never wait for each other.
-- name: write_attempts
INSERT INTO attempt (id, incident, rule, object, begun, ends_by, holder, epoch, body)
SELECT a.id, a.incident, a.rule, a.object, a.begun, a.ends_by, a.holder, a.epoch, given.body
FROM jsonb_array_elements(%(bodies)s::jsonb) AS given (body),
     jsonb_to_record(given.body) AS a (id text, incident text, rule text, object text, begun timestamptz,
                                       ends_by timestamptz, holder text, epoch bigint)
ORDER BY a.object
ON CONFLICT (object) WHERE result IS NULL DO NOTHING
RETURNING id;

-- Take back intents that were not let in after all.
-- name: withdraw
DELETE FROM attempt WHERE id = ANY (%(ids)s::text[]);

-- Record outcomes: of open attempts, and, from their own sender, of those that were closed as crashed meanwhile (law 16).
-- name: write_outcomes
UPDATE attempt SET ended = given.ended, settled = given.settled, result = given.outcome ->> 'result',
                   reason = given.outcome ->> 'reason', body = attempt.body || given.body
FROM (SELECT given.body, a.* FROM jsonb_array_elements(%(bodies)s::jsonb) AS given (body),
          jsonb_to_record(given.body) AS a (id text, holder text, epoch bigint, ended timestamptz,
                                            settled timestamptz, outcome jsonb)) AS given
WHERE attempt.id = given.id AND attempt.holder = given.holder AND attempt.epoch = given.epoch
  AND (attempt.result IS NULL OR %(late)s::boolean AND attempt.reason = 'crashed');

-- Write problems; when one was delivered is the outbox's to say.
-- name: write_problems
INSERT INTO problem (id, rule, body)
SELECT p.id, p.rule, given.body
FROM jsonb_array_elements(%(bodies)s::jsonb) AS given (body), jsonb_to_record(given.body) AS p (id text, rule text)
ON CONFLICT (id) DO UPDATE SET body = problem.body || excluded.body;

-- Write notices; the same one twice is one. That a connector fell ill is told by whoever noted it first.
-- name: write_notices
INSERT INTO notice (id, problem, rule, episode, kind, sequence, at, body)
SELECT n.id, n.problem, n.rule, n.episode, n.kind, n.sequence, n.at, given.body
FROM jsonb_array_elements(%(bodies)s::jsonb) WITH ORDINALITY AS given (body, place),
     jsonb_to_record(given.body) AS n (id text, problem text, rule text, episode integer, kind text,
                                       sequence integer, at timestamptz)
WHERE n.kind <> 'connector_ill'
   OR EXISTS (SELECT FROM illness WHERE connector = given.body #>> '{context,connector}'
              AND (body ->> 'since')::timestamptz = (given.body #>> '{context,since}')::timestamptz)
ORDER BY given.place
ON CONFLICT DO NOTHING;

-- Send notices on their way, each at its notice's place in the order. One that may go sooner takes with it those before it
-- that only wait for working hours: messages to one contact about one problem by one channel follow each other.
-- name: write_dispatches
WITH sent AS (INSERT INTO dispatch (id, notice, problem, episode, place, contact, via, mirror, state, not_before, tries, reason, body)
SELECT d.id, notice.id, notice.problem, notice.episode, notice.place, d.contact, d.via, d.mirror, d.state,
       d.not_before, d.tries, d.reason, given.body
FROM jsonb_array_elements(%(bodies)s::jsonb) AS given (body),
     jsonb_to_record(given.body) AS d (id text, notice text, contact text, via text, mirror boolean, state text,
                                       not_before timestamptz, tries integer, reason text)
JOIN notice ON notice.id = d.notice
ON CONFLICT (id) DO NOTHING
RETURNING problem, contact, via, mirror, place, not_before)
UPDATE dispatch AS earlier SET not_before = sent.not_before FROM sent
WHERE earlier.state = 'pending' AND earlier.tries = 0 AND earlier.problem = sent.problem AND earlier.contact = sent.contact
  AND earlier.via = sent.via AND earlier.mirror = sent.mirror AND earlier.place < sent.place
  AND earlier.not_before > greatest(sent.not_before, rule_time(db_now()));

-- A person's word.
-- name: direct
INSERT INTO directive (id, rule, at, body)
SELECT d.id, d.rule, d.at, given.body
FROM (SELECT %(body)s::jsonb AS body) AS given,
     jsonb_to_record(given.body) AS d (id text, rule text, at timestamptz)
ON CONFLICT (id) DO NOTHING;

-- Words that were obeyed.
-- name: obeyed
UPDATE directive SET obeyed = rule_time(db_now()) WHERE id = ANY (%(ids)s::text[]) AND obeyed IS NULL;

-- Connectors that refuse us now; since when is said by the first who noted it.
-- name: ill
INSERT INTO illness (connector, body)
SELECT body ->> 'connector', body FROM jsonb_array_elements(%(bodies)s::jsonb) AS given (body)
ORDER BY body ->> 'connector'
ON CONFLICT (connector) DO UPDATE SET body = illness.body || excluded.body || jsonb_build_object('since', illness.body -> 'since');

-- Connectors that answer again.
-- name: well
DELETE FROM illness WHERE connector = ANY (%(connectors)s::text[]);
