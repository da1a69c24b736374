-- Whether there is a schema at all.
-- name: schema
SELECT to_regclass('alembic_version') AS migrated;

-- Which schema this is, and who may use it (law 17).
-- name: version
SELECT version_num AS revision, least_code FROM alembic_version, meta;

-- What every session is set to; a transaction whose process stands still ends before any lease does (8 s is the least),
-- and before those who wait for its locks give up.
-- name: set_up
SELECT set_config('timezone', 'UTC', false),
       set_config('lock_timeout', '10s', false),
       set_config('statement_timeout', '60s', false),
       set_config('idle_in_transaction_session_timeout', '5s', false);

-- After a failover (the server's timeline is another one) acknowledged rows may be missing: end every tenure, and let
-- nobody take a rule before what was last sent has settled (law 18).
-- name: after_failover
WITH server AS (
    SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint AS timeline
), before AS (
    SELECT meta.timeline FROM meta, server WHERE meta.timeline IS DISTINCT FROM server.timeline
), moved AS (
    UPDATE meta SET timeline = server.timeline FROM server, before
    WHERE meta.timeline IS NOT DISTINCT FROM before.timeline RETURNING before.timeline AS old
)
UPDATE rule SET epoch = epoch + 1, holder = NULL, until_db = db_now() + %(wait)s::interval
FROM moved WHERE moved.old IS NOT NULL;

-- Several reads of one moment.
-- name: as_of_one_moment
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;
