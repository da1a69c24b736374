-- Take pending messages for a while: those whose time has come, in the order they were written. One waits for every
-- earlier one to the same contact about the same problem by the same channel, so that a begin precedes its end and a
-- channel that is down keeps nothing back from one that is not.
-- name: lease
WITH moment AS MATERIALIZED (
    SELECT now_db, rule_time(now_db) AS now FROM (SELECT db_now() AS now_db) AS clock
), ready AS (
    SELECT dispatch.id FROM dispatch CROSS JOIN moment
    WHERE dispatch.state = 'pending'
      AND (dispatch.not_before IS NULL OR dispatch.not_before <= moment.now)
      AND (dispatch.until_db IS NULL OR dispatch.until_db <= moment.now_db)
      AND NOT EXISTS (
          SELECT FROM dispatch AS earlier
          WHERE earlier.state = 'pending' AND earlier.problem = dispatch.problem
            AND earlier.contact = dispatch.contact AND earlier.via = dispatch.via AND earlier.mirror = dispatch.mirror
            AND earlier.place < dispatch.place)
    ORDER BY dispatch.place, dispatch.id
    LIMIT %(limit)s::integer
    FOR UPDATE OF dispatch SKIP LOCKED
), leased AS (
    UPDATE dispatch SET holder = %(holder)s::text, epoch = epoch + 1, until_db = moment.now_db + %(lease)s::interval
    FROM ready, moment WHERE dispatch.id = ready.id
    RETURNING dispatch.*
)
SELECT leased.body || jsonb_build_object(
           'state', leased.state, 'tries', leased.tries, 'not_before', leased.not_before, 'reason', leased.reason,
           'epoch', leased.epoch, 'notice', notice.body, 'thread', coalesce((
               SELECT first.reference FROM dispatch AS first
               WHERE first.state = 'done' AND first.problem = leased.problem AND first.episode = leased.episode
                 AND first.contact = leased.contact AND first.via = leased.via AND first.reference <> ''
               ORDER BY first.place, first.id LIMIT 1), '')) AS body
FROM leased JOIN notice ON notice.id = leased.notice
ORDER BY leased.place, leased.id;

-- What waits behind a message that its notifier holds, up to the first that is not due: they leave as one. Nobody else
-- can lease them, as the message before them is pending.
-- name: behind
WITH moment AS MATERIALIZED (
    SELECT now_db, rule_time(now_db) AS now FROM (SELECT db_now() AS now_db) AS clock
), head AS (
    SELECT * FROM dispatch
    WHERE id = %(id)s::text AND epoch = %(epoch)s::bigint AND state = 'pending' AND NOT mirror
), waiting AS (
    SELECT dispatch.id, dispatch.place,
           (dispatch.not_before IS NULL OR dispatch.not_before <= moment.now)
           AND (dispatch.until_db IS NULL OR dispatch.until_db <= moment.now_db) AS due
    FROM dispatch CROSS JOIN moment JOIN head ON dispatch.problem = head.problem AND dispatch.episode = head.episode
        AND dispatch.contact = head.contact AND dispatch.via = head.via AND NOT dispatch.mirror
    WHERE dispatch.state = 'pending' AND dispatch.place > head.place
), leased AS (
    UPDATE dispatch SET holder = %(holder)s::text, epoch = epoch + 1, until_db = moment.now_db + %(lease)s::interval
    FROM waiting, moment
    WHERE dispatch.id = waiting.id AND dispatch.state = 'pending'
      AND NOT EXISTS (SELECT FROM waiting AS earlier WHERE NOT earlier.due AND earlier.place <= waiting.place)
    RETURNING dispatch.*
)
SELECT leased.body || jsonb_build_object(
           'state', leased.state, 'tries', leased.tries, 'not_before', leased.not_before, 'reason', leased.reason,
           'epoch', leased.epoch, 'notice', notice.body, 'thread', coalesce((
               SELECT first.reference FROM dispatch AS first
               WHERE first.state = 'done' AND first.problem = leased.problem AND first.episode = leased.episode
                 AND first.contact = leased.contact AND first.via = leased.via AND first.reference <> ''
               ORDER BY first.place, first.id LIMIT 1), '')) AS body
FROM leased JOIN notice ON notice.id = leased.notice
ORDER BY leased.place, leased.id;

-- The rule whose episode this message would be the first to reach its contact, locked before anything else: a commit takes
-- the rule's row first too, so neither waits for what the other holds.
-- name: first_of_its_episode
SELECT rule.name FROM dispatch
JOIN problem ON problem.id = dispatch.problem
JOIN rule ON rule.name = problem.rule
WHERE dispatch.id = %(id)s::text AND NOT dispatch.mirror AND coalesce(problem.delivered_episode < dispatch.episode, true)
FOR NO KEY UPDATE OF rule;

-- What became of a message, unless another notifier has it by now.
-- name: settle
UPDATE dispatch SET
    state = %(state)s::text, tries = %(tries)s::integer, not_before = %(not_before)s::timestamptz,
    reason = %(reason)s::text, reference = %(reference)s::text, holder = NULL, until_db = NULL,
    ended = CASE WHEN %(state)s::text <> 'pending' THEN %(now)s::timestamptz END
WHERE id = %(id)s::text AND epoch = %(epoch)s::bigint AND state = 'pending';

-- The first message of an episode that reached its contact; a mirror reaches nobody. One of an older episode that arrives
-- late takes nothing back.
-- name: delivered
UPDATE problem SET delivered = %(now)s::timestamptz, delivered_episode = dispatch.episode
FROM dispatch
WHERE dispatch.id = %(id)s::text AND NOT dispatch.mirror AND problem.id = dispatch.problem
  AND coalesce(problem.delivered_episode < dispatch.episode, true)
RETURNING problem.rule;

-- How many messages a contact was sent since a moment. Those of one episode that left as one were settled as of one moment.
-- name: sent
SELECT count(DISTINCT (problem, episode, via, ended)) AS sent FROM dispatch
WHERE contact = %(contact)s::text AND state = 'done' AND ended >= %(since)s::timestamptz AND NOT mirror;
