-- Times are rule time, unless their name ends in _db (law 12). A column beside `body` repeats what queries search or
-- order by; `body` is the whole value as JSON, and keys in it that older code does not know stay where they are.

-- The store's facts about itself: how rule time runs, which rules' revision is active, who may use it.
CREATE TABLE meta (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    origin     timestamptz NOT NULL,
    factor     double precision NOT NULL CHECK (factor > 0),
    least_code integer NOT NULL,
    revision   bigint NOT NULL DEFAULT 0,
    timeline   bigint
);

-- Database time: the one clock of all replicas. Every query asks here.
CREATE FUNCTION db_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp()';

-- Database time to rule time.
CREATE FUNCTION rule_time(moment timestamptz) RETURNS timestamptz LANGUAGE sql STABLE AS
    'SELECT origin + make_interval(secs => extract(epoch FROM moment - origin)::double precision * factor) FROM meta';

-- A rule is a row, and that it is due is a row (design section 4). until_db: the end of the lease, or the moment it
-- was given back. unfinished: cycles begun since one came to its end. nudged: a person spoke since the take.
CREATE TABLE rule (
    name          text PRIMARY KEY,
    digest        text NOT NULL,
    revision      bigint NOT NULL,
    every         interval NOT NULL,
    severity      integer NOT NULL,
    mode          text NOT NULL,
    owner         text NOT NULL,
    max_calls     integer NOT NULL,
    active        boolean NOT NULL,
    next_scan_at  timestamptz,
    next_visit_at timestamptz,
    holder        text,
    epoch         bigint NOT NULL DEFAULT 0,
    until_db      timestamptz,
    unfinished    integer NOT NULL DEFAULT 0,
    nudged        boolean NOT NULL DEFAULT false,
    state         jsonb NOT NULL DEFAULT '{}'
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 200);

CREATE TABLE incident (
    id         text PRIMARY KEY,
    rule       text NOT NULL,
    key        text NOT NULL,
    record_key text NOT NULL,
    object     text NOT NULL,
    phase      text NOT NULL,
    why        text NOT NULL,
    cause      text,
    opened     timestamptz NOT NULL,
    due        timestamptz,
    ended      timestamptz,
    resolution text,
    amount     numeric,
    currency   text,
    version    integer NOT NULL,
    body       jsonb NOT NULL
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);

-- One live incident per subject, whatever its phase (law 8).
CREATE UNIQUE INDEX incident_subject ON incident (rule, key) WHERE phase <> 'resolved';
CREATE INDEX incident_object ON incident (object) WHERE phase <> 'resolved';
CREATE INDEX incident_ended ON incident (rule, key, ended DESC) WHERE phase = 'resolved';

-- The ledger: every try, with its request, its outcome and the reply. Open while result is null.
CREATE TABLE attempt (
    id       text PRIMARY KEY,
    incident text NOT NULL,
    rule     text NOT NULL,
    object   text NOT NULL,
    begun    timestamptz NOT NULL,
    ends_by  timestamptz NOT NULL,
    ended    timestamptz,
    settled  timestamptz,
    holder   text NOT NULL,
    epoch    bigint NOT NULL,
    result   text,
    reason   text,
    body     jsonb NOT NULL
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);

-- One object, one actor (law 7): the last word when two gates open at once.
CREATE UNIQUE INDEX attempt_open ON attempt (object) WHERE result IS NULL;
CREATE INDEX attempt_incident ON attempt (incident, begun);
CREATE INDEX attempt_rule ON attempt (rule, begun);
CREATE INDEX attempt_object ON attempt (object, settled);
CREATE INDEX attempt_result ON attempt (rule, result);
CREATE INDEX attempt_settled ON attempt (settled);

-- What happened to an incident: a row whenever its phase or its why changes.
CREATE TABLE journal (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    incident   text NOT NULL,
    rule       text NOT NULL,
    key        text NOT NULL,
    at         timestamptz NOT NULL,
    phase      text NOT NULL,
    why        text NOT NULL,
    verdict    text NOT NULL,
    cause      text,
    resolution text,
    reason     text NOT NULL
);
CREATE INDEX journal_incident ON journal (incident, id);
CREATE INDEX journal_ended ON journal (rule, resolution) WHERE phase = 'resolved';
CREATE INDEX journal_phase ON journal (rule, phase, incident);

-- What one thread of notices is about. delivered belongs to delivered_episode and is written by the outbox alone.
CREATE TABLE problem (
    id                text PRIMARY KEY,
    rule              text NOT NULL,
    delivered         timestamptz,
    delivered_episode integer,
    body              jsonb NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX problem_rule ON problem (rule);

CREATE TABLE notice (
    place    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id       text NOT NULL UNIQUE,
    problem  text NOT NULL,
    rule     text NOT NULL,
    episode  integer NOT NULL,
    kind     text NOT NULL,
    sequence integer NOT NULL,
    at       timestamptz NOT NULL,
    body     jsonb NOT NULL,
    UNIQUE (problem, episode, kind, sequence)
);
CREATE INDEX notice_rule ON notice (rule);
CREATE INDEX notice_incidents ON notice USING gin ((body -> 'incidents'));

-- A notice on its way: what notifiers lease. place orders the messages to one contact about one problem.
CREATE TABLE dispatch (
    id         text PRIMARY KEY,
    notice     text NOT NULL,
    problem    text NOT NULL,
    episode    integer NOT NULL,
    place      bigint NOT NULL,
    contact    text NOT NULL,
    via        text NOT NULL,
    mirror     boolean NOT NULL,
    state      text NOT NULL,
    not_before timestamptz,
    tries      integer NOT NULL,
    reason     text NOT NULL,
    reference  text NOT NULL DEFAULT '',
    ended      timestamptz,
    holder     text,
    epoch      bigint NOT NULL DEFAULT 0,
    until_db   timestamptz,
    body       jsonb NOT NULL
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX dispatch_pending ON dispatch (place) WHERE state = 'pending';
CREATE INDEX dispatch_order ON dispatch (problem, contact, mirror, place) WHERE state = 'pending';
CREATE INDEX dispatch_thread ON dispatch (problem, episode, contact, via) WHERE state = 'done';
CREATE INDEX dispatch_notice ON dispatch (notice);
CREATE INDEX dispatch_sent ON dispatch (contact, ended) WHERE state = 'done';

-- A person's words, until the rule's next cycle has obeyed them, and afterwards as a record of who said what.
CREATE TABLE directive (
    id     text PRIMARY KEY,
    rule   text NOT NULL,
    at     timestamptz NOT NULL,
    obeyed timestamptz,
    body   jsonb NOT NULL
);
CREATE INDEX directive_waiting ON directive (rule, at) WHERE obeyed IS NULL;

CREATE TABLE pause (
    id        text PRIMARY KEY,
    rule      text,
    connector text,
    until     timestamptz,
    ended     timestamptz,
    ended_by  text,
    body      jsonb NOT NULL
);

-- Connectors that refuse us (law 21).
CREATE TABLE illness (
    connector text PRIMARY KEY,
    body      jsonb NOT NULL
);

-- One GCRA row per connector. Lost in a database crash: that is one burst more.
CREATE UNLOGGED TABLE rate (
    target text PRIMARY KEY,
    tat_db timestamptz NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 200);

-- Changes that were written, so that a commit without an answer can be repeated (law 18).
CREATE TABLE committed (
    id    text PRIMARY KEY,
    at_db timestamptz NOT NULL
);

-- What pruned rows had counted, so that totals never fall.
CREATE TABLE tally (
    rule  text NOT NULL,
    what  text NOT NULL,
    label text NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (rule, what, label)
);
