-- The schema of a store. It is written for the default name and made under another
-- one by replacing "rollforward." throughout.

-- What this store is. The row is written last: a schema without it is not finished.
CREATE TABLE rollforward.store (
  one        boolean PRIMARY KEY DEFAULT true CHECK (one),
  format     integer NOT NULL,                   -- of this schema; raised when it changes
  serialized boolean NOT NULL                    -- positions come from the counter, not from the fence
);

-- The numbers of appends. Number n holds the positions n*1000 to n*1000+999, so that
-- the events of an append stand together whoever else draws meanwhile. It has drawn 0
-- when it begins: last_value then always is a number that has been drawn, which a
-- sequence that was never asked cannot say.
CREATE SEQUENCE rollforward.appends AS bigint MINVALUE 0 START 0 CACHE 1;
SELECT nextval('rollforward.appends');

-- The last position of a store with serialized appends, and the lock that all take.
CREATE TABLE rollforward.counter (
  one      boolean PRIMARY KEY DEFAULT true CHECK (one),
  position bigint  NOT NULL
);
INSERT INTO rollforward.counter (position) VALUES (0);

-- Names compare byte by byte.
CREATE TABLE rollforward.events (
  position    bigint      NOT NULL PRIMARY KEY,  -- place in the log
  append      bigint      NOT NULL,              -- position of the first event of the same append
  id          uuid        NOT NULL UNIQUE,
  stream      text        NOT NULL COLLATE "C",
  version     bigint      NOT NULL,              -- place in the stream, contiguous from 1
  type        text        NOT NULL COLLATE "C",
  schema      integer     NOT NULL,              -- version of the payload's schema
  recorded_at timestamptz NOT NULL,
  tags        text,                              -- JSON array in the order given, NULL for none
  meta        text,                              -- JSON object, NULL for none
  data        text        NOT NULL,              -- the payload, JSON: text keeps every byte, jsonb would not
  UNIQUE (stream, version)
);
-- "+ 0" keeps the planner from the primary key, in whose order it would otherwise look
-- through the whole log for a type that is rarer than most.
CREATE INDEX events_by_type ON rollforward.events (type, (position + 0));

CREATE TABLE rollforward.event_tags (
  tag      text   NOT NULL COLLATE "C",
  position bigint NOT NULL,
  PRIMARY KEY (tag, position)
);

-- Caches of consumers; may be deleted at any time.
CREATE TABLE rollforward.checkpoints (
  name     text    NOT NULL PRIMARY KEY COLLATE "C",
  position bigint  NOT NULL,
  event    uuid    NOT NULL,
  format   integer NOT NULL,
  state    bytea
);

-- The fence: a lock that says "from here on positions may still come", held to the end
-- of the transaction. The number is read before the lock is taken, and positions are
-- drawn after it, so that all of a transaction's lie above its fence. Advisory locks
-- have 32 bits for it; who reads them knows the rest from the last number drawn.
CREATE FUNCTION rollforward.fence() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock_shared(
      'rollforward.appends'::regclass::oid::integer,
      ((last_value + 2147483648) % 4294967296 - 2147483648)::integer)
    FROM rollforward.appends;
END $$;

-- The last number up to which all is readable that ever will be. The order of the two
-- looks matters: what was drawn by the first and not committed holds its fence at the
-- second, and what holds none by then is seen by every statement that begins later. So
-- what is read up to here is read by a statement of its own.
CREATE FUNCTION rollforward.frontier() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  drawn  bigint;
  behind bigint; -- how far the oldest fence is from there
BEGIN
  SELECT last_value INTO drawn FROM rollforward.appends;
  SELECT min((objid::bigint - drawn % 4294967296 + 6442450944) % 4294967296 - 2147483648) INTO behind
    FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 2 AND classid = 'rollforward.appends'::regclass::oid
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database());
  RETURN least(drawn, drawn + behind);
END $$;

-- The position of the last event that is readable, or 0.
CREATE FUNCTION rollforward.head() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  last bigint := rollforward.frontier();
BEGIN
  RETURN coalesce((SELECT max(position) FROM rollforward.events WHERE position < (last + 1) * 1000), 0);
END $$;

-- The first half of an append: it locks the streams, says where they stand, takes the
-- fence and draws numbers, in this order. Without patience it locks what is free and
-- names the rest as busy.
CREATE FUNCTION rollforward.reserve(names text[], n integer, patient boolean,
    OUT busy text[], OUT versions bigint[], OUT numbers bigint[], OUT at timestamptz) LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'the transaction is %, and an append needs READ COMMITTED: it has to see what others committed while it waited for a stream',
      upper(current_setting('transaction_isolation')) USING ERRCODE = 'RF001';
  END IF;
  IF current_setting('synchronous_commit') = 'off' THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
  LOCK TABLE rollforward.events IN ROW EXCLUSIVE MODE; -- Restore waits for it, and is waited for
  IF patient THEN
    PERFORM pg_advisory_xact_lock(key) FROM (
      SELECT DISTINCT hashtextextended(name, 'rollforward.appends'::regclass::oid::bigint) AS key FROM unnest(names) AS name ORDER BY 1
    ) AS sorted;
  ELSE
    SELECT array_agg(name) INTO busy FROM unnest(names) AS name
      WHERE NOT pg_try_advisory_xact_lock(hashtextextended(name, 'rollforward.appends'::regclass::oid::bigint));
  END IF;
  SELECT array_agg(coalesce((SELECT max(version) FROM rollforward.events WHERE stream = name), 0) ORDER BY i) INTO versions
    FROM unnest(names) WITH ORDINALITY AS u (name, i);
  PERFORM rollforward.fence();
  SELECT array_agg(nextval('rollforward.appends')) INTO numbers FROM generate_series(1, n);
  at := clock_timestamp();
END $$;

-- The same where appends are serialized: the counter's row is the one lock.
CREATE FUNCTION rollforward.reserve_serialized(names text[],
    OUT versions bigint[], OUT head bigint, OUT at timestamptz) LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'the transaction is %, and an append needs READ COMMITTED: it has to see what others committed while it waited for its turn',
      upper(current_setting('transaction_isolation')) USING ERRCODE = 'RF001';
  END IF;
  IF current_setting('synchronous_commit') = 'off' THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
  SELECT position INTO head FROM rollforward.counter FOR UPDATE;
  SELECT array_agg(coalesce((SELECT max(version) FROM rollforward.events WHERE stream = name), 0) ORDER BY i) INTO versions
    FROM unnest(names) WITH ORDINALITY AS u (name, i);
  at := clock_timestamp();
END $$;

-- The last version of a stream that stands at or before a position, by halving.
CREATE FUNCTION rollforward.version_at(name text, place bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
  low    bigint := 0;
  high   bigint := coalesce((SELECT max(version) FROM rollforward.events WHERE stream = name), 0);
  middle bigint;
BEGIN
  IF high > 0 AND (SELECT position FROM rollforward.events WHERE stream = name AND version = high) <= place THEN
    RETURN high;
  END IF;
  WHILE place > 0 AND low < high LOOP
    middle := low + (high - low + 1) / 2;
    IF (SELECT position FROM rollforward.events WHERE stream = name AND version = middle) <= place THEN
      low := middle;
    ELSE
      high := middle - 1;
    END IF;
  END LOOP;
  RETURN low;
END $$;

-- Who inserts by hand takes the fence as well. It fires before its own statement draws,
-- and cannot help one that inserts what an earlier statement drew.
CREATE FUNCTION rollforward.fence_inserts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM rollforward.fence();
  RETURN NULL;
END $$;
CREATE TRIGGER events_are_fenced BEFORE INSERT ON rollforward.events FOR EACH STATEMENT EXECUTE FUNCTION rollforward.fence_inserts();

-- History is added to and never changed, whoever is connected.
CREATE FUNCTION rollforward.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only: record a new event instead', TG_TABLE_NAME USING ERRCODE = 'RF002';
END $$;
CREATE TRIGGER events_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON rollforward.events
  FOR EACH STATEMENT EXECUTE FUNCTION rollforward.refuse();
CREATE TRIGGER event_tags_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON rollforward.event_tags
  FOR EACH STATEMENT EXECUTE FUNCTION rollforward.refuse();

-- For people: SELECT * FROM rollforward.history ORDER BY position DESC LIMIT 20
-- Metadata with the sign \u0000 shows nothing: JSON has it, and PostgreSQL cannot.
CREATE VIEW rollforward.history AS
SELECT position, recorded_at, stream, version, type, schema,
       m.meta ->> 'actor'   AS actor,
       m.meta ->> 'reason'  AS reason,
       m.meta ->> 'command' AS command,
       tags, data
FROM rollforward.events AS e
CROSS JOIN LATERAL (SELECT CASE WHEN strpos(e.meta, chr(92) || 'u0000') = 0 THEN e.meta::json END AS meta) AS m;
