-- Rule time.
-- name: now
SELECT rule_time(db_now()) AS now;

-- All rules as they stand.
-- name: rules
SELECT name, digest, revision, active, mode, owner, severity, every, max_calls, next_scan_at, next_visit_at,
       holder, until_db, unfinished, state,
       (SELECT min(opened) FROM incident WHERE incident.rule = rule.name AND phase <> 'resolved') AS oldest
FROM rule ORDER BY name;

-- Incidents by what people filter by.
-- name: incidents
SELECT body FROM incident, (SELECT rule_time(db_now()) AS now) AS moment
WHERE (%(rule)s::text IS NULL OR rule = %(rule)s::text)
  AND CASE WHEN %(phases)s::text[] = '{}' THEN phase <> 'resolved' ELSE phase = ANY (%(phases)s::text[]) END
  AND (%(cause)s::text IS NULL OR cause = %(cause)s::text)
  AND opened <= moment.now - %(older)s::interval
  AND (NOT %(needs_person)s::boolean OR phase IN ('escalated', 'quarantined') AND NOT EXISTS (
        SELECT FROM (VALUES ('claimed'), ('dismissed'), ('excluded')) AS mark (name)
        WHERE body #>> ARRAY['marks', mark.name || '_by'] IS NOT NULL
          AND coalesce((body #>> ARRAY['marks', mark.name || '_until'])::timestamptz, 'infinity') > moment.now))
ORDER BY opened, id
LIMIT %(limit)s::integer;

-- The incidents whose id begins so; more than a few are too many.
-- name: incident
SELECT body FROM incident WHERE starts_with(id, %(id)s::text) ORDER BY id LIMIT 10;

-- Whatever a number from a chat may mean.
-- name: find
SELECT body FROM incident
WHERE starts_with(lower(id), lower(%(text)s::text))
   OR strpos(lower(key), lower(%(text)s::text)) > 0
   OR strpos(lower(record_key), lower(%(text)s::text)) > 0
   OR strpos(lower(object), lower(%(text)s::text)) > 0
   OR EXISTS (SELECT FROM jsonb_path_query(body -> 'facts', '$.**') AS fact (value)
              WHERE jsonb_typeof(fact.value) IN ('string', 'number')
                AND lower(fact.value #>> '{}') = lower(%(text)s::text))
ORDER BY phase = 'resolved', opened DESC, id
LIMIT %(limit)s::integer;

-- The attempts of an incident.
-- name: attempts
SELECT body FROM attempt WHERE incident = %(incident)s::text ORDER BY begun, id;

-- The journal of an incident.
-- name: journal
SELECT incident, rule, key, at, phase, why, verdict, cause, resolution, reason
FROM journal WHERE incident = %(incident)s::text ORDER BY id;

-- What people said about an incident.
-- name: words
SELECT body FROM directive WHERE body ->> 'incident' = %(incident)s::text ORDER BY at, id;

-- Notices with all their ways to people: about an incident, about a problem, or those that reached nobody though
-- somebody tried.
-- name: notices
SELECT notice.body, ways.list AS ways
FROM notice CROSS JOIN LATERAL (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'contact', contact, 'via', via, 'mirror', mirror, 'position', (dispatch.body ->> 'position')::integer,
               'state', state, 'tries', tries, 'not_before', not_before, 'reason', reason, 'reference', reference,
               'ended', ended) ORDER BY mirror, dispatch.body ->> 'position', dispatch.id), '[]') AS list,
           coalesce(bool_or(state = 'done' AND NOT mirror), false) AS reached,
           coalesce(bool_or(state = 'failed' OR tries > 0), false) AS tried
    FROM dispatch WHERE dispatch.notice = notice.id) AS ways
WHERE (%(incident)s::text IS NULL OR notice.body -> 'incidents' @> to_jsonb(%(incident)s::text))
  AND (%(problem)s::text IS NULL OR notice.problem = %(problem)s::text)
  AND (NOT %(undelivered)s::boolean OR ways.tried AND NOT ways.reached)
ORDER BY notice.place;

-- All numbers of the gauges: what stands now, what was counted ever, and what presses within the lead of a deadline.
-- name: counts
SELECT rule, 'phase' AS what, phase AS label, '' AS state, count(*)::numeric AS count
FROM incident WHERE phase <> 'resolved' GROUP BY rule, phase
UNION ALL
SELECT rule, 'why', why, '', count(*) FROM incident WHERE phase <> 'resolved' GROUP BY rule, why
UNION ALL
SELECT rule, 'risk', currency, '', sum(amount)
FROM incident WHERE phase NOT IN ('resolved', 'proved') AND amount IS NOT NULL GROUP BY rule, currency
UNION ALL
SELECT rule, what, label, '', sum(count) FROM (
    SELECT rule, 'resolution' AS what, resolution AS label, count(*) AS count
    FROM journal WHERE phase = 'resolved' AND resolution IS NOT NULL GROUP BY rule, resolution
    UNION ALL
    SELECT rule, 'attempt', coalesce(result, 'open'), count(*) FROM attempt GROUP BY rule, result
    UNION ALL
    SELECT rule, what, label, count FROM tally WHERE what IN ('resolution', 'attempt')) AS ever
GROUP BY rule, what, label
UNION ALL
SELECT rule, 'notice', kind, state, sum(count) FROM (
    SELECT notice.rule, notice.kind, dispatch.state, count(*) AS count
    FROM notice JOIN dispatch ON dispatch.notice = notice.id GROUP BY notice.rule, notice.kind, dispatch.state
    UNION ALL
    SELECT rule, split_part(label, ' ', 1), split_part(label, ' ', 2), count FROM tally WHERE what = 'notice') AS ever
GROUP BY rule, kind, state
UNION ALL
SELECT rule, 'last_hour', '', '', count(*)
FROM attempt, (SELECT rule_time(db_now()) AS now) AS moment
WHERE begun > moment.now - interval '1 hour' AND result IS DISTINCT FROM 'not_sent' GROUP BY rule
UNION ALL
SELECT rule, pressing.what, '', '', pressing.count FROM (
    SELECT rule,
           count(*) FILTER (WHERE phase IN ('escalated', 'quarantined') AND NOT EXISTS (
               SELECT FROM (VALUES ('claimed'), ('dismissed'), ('excluded')) AS mark (name)
               WHERE body #>> ARRAY['marks', mark.name || '_by'] IS NOT NULL
                 AND coalesce((body #>> ARRAY['marks', mark.name || '_until'])::timestamptz, 'infinity') > moment.now)) AS persons,
           count(*) FILTER (WHERE (body ->> 'deadline')::timestamptz > moment.now
               AND (body ->> 'deadline')::timestamptz <= moment.now + %(lead)s::interval) AS near,
           count(*) FILTER (WHERE (body ->> 'deadline')::timestamptz <= moment.now) AS missed
    FROM incident, (SELECT rule_time(db_now()) AS now) AS moment
    WHERE phase NOT IN ('resolved', 'proved') GROUP BY rule) AS live
CROSS JOIN LATERAL (VALUES ('needs_person', persons), ('deadlines_near', near), ('deadlines_missed', missed)) AS pressing (what, count)
UNION ALL
SELECT rule, 'undelivered', '', '', count(*) FROM (
    SELECT notice.rule FROM notice JOIN dispatch ON dispatch.notice = notice.id
    GROUP BY notice.id, notice.rule
    HAVING bool_or(dispatch.state = 'failed' OR dispatch.tries > 0)
       AND NOT bool_or(dispatch.state = 'done' AND NOT dispatch.mirror)) AS unheard
GROUP BY rule;

-- The last things that happened: journal lines and attempts.
-- name: recent
SELECT at, rule, incident, key, kind, word, why, reason FROM (
    (SELECT at, rule, incident, key, 'phase' AS kind, phase AS word, coalesce(resolution, why) AS why, reason,
            id AS place, '' AS attempt
     FROM journal ORDER BY id DESC LIMIT %(limit)s::integer)
    UNION ALL
    (SELECT coalesce(attempt.ended, attempt.begun), attempt.rule, attempt.incident, incident.key, 'attempt',
            attempt.body ->> 'step', coalesce(result, 'open'), coalesce(reason, ''), 0, attempt.id
     FROM attempt JOIN incident ON incident.id = attempt.incident
     ORDER BY coalesce(attempt.ended, attempt.begun) DESC, attempt.id DESC LIMIT %(limit)s::integer)
    ORDER BY at DESC, place DESC, incident DESC, attempt DESC LIMIT %(limit)s::integer) AS latest
ORDER BY at, place, incident, attempt;

-- A balance per rule.
-- name: totals
SELECT rule.name AS rule, count(incident.id) AS found,
       count(*) FILTER (WHERE phase <> 'resolved') AS live,
       count(*) FILTER (WHERE phase = 'resolved' AND resolution = 'healed') AS healed,
       count(*) FILTER (WHERE phase = 'resolved' AND resolution = 'handled') AS handled,
       count(*) FILTER (WHERE phase = 'resolved' AND resolution = 'self_healed') AS self_healed,
       count(*) FILTER (WHERE phase = 'resolved' AND resolution = 'gone') AS gone,
       count(*) FILTER (WHERE phase = 'resolved' AND resolution = 'dismissed') AS dismissed,
       count(*) FILTER (WHERE phase = 'resolved' AND resolution = 'told') AS told,
       (SELECT count(DISTINCT journal.incident) FROM journal
        WHERE journal.rule = rule.name AND journal.phase = 'escalated') AS escalated,
       (SELECT count(*) FROM attempt
        WHERE attempt.rule = rule.name AND result IS DISTINCT FROM 'not_sent') AS calls,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY ended - opened)
           FILTER (WHERE phase = 'resolved' AND resolution = 'healed') AS median,
       max(ended - opened) FILTER (WHERE phase = 'resolved' AND resolution = 'healed') AS longest
FROM rule LEFT JOIN incident ON incident.rule = rule.name
GROUP BY rule.name ORDER BY rule.name;
