-- Names stand once and are referred to by integer keys; they compare byte by byte.
CREATE TABLE streams (key INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE types   (key INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE tags    (key INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;

CREATE TABLE events (
  position    INTEGER PRIMARY KEY,                        -- place in the log
  append      INTEGER NOT NULL,                           -- position of the first event of the same append
  id          BLOB    NOT NULL UNIQUE,                    -- UUID, 16 bytes
  stream      INTEGER NOT NULL REFERENCES streams (key),
  version     INTEGER NOT NULL,                           -- place in the stream, contiguous from 1
  type        INTEGER NOT NULL REFERENCES types (key),
  schema      INTEGER NOT NULL,                           -- version of the payload's schema
  recorded_at INTEGER NOT NULL,                           -- microseconds since 1970, UTC
  tags        TEXT,                                       -- JSON array in the order given, NULL for none
  meta        TEXT,                                       -- JSON object, NULL for none
  data        TEXT    NOT NULL,                           -- the payload, JSON
  UNIQUE (stream, version)
) STRICT;

-- Which types there are among each 256 positions: by that one type is found in log
-- order. An index with an entry for every event would have an append write a page
-- for each of its types.
CREATE TABLE type_blocks (
  type  INTEGER NOT NULL REFERENCES types (key),
  block INTEGER NOT NULL,                                 -- position / 256
  PRIMARY KEY (type, block)
) STRICT, WITHOUT ROWID;

CREATE TABLE event_tags (
  tag      INTEGER NOT NULL REFERENCES tags (key),
  position INTEGER NOT NULL REFERENCES events (position),
  PRIMARY KEY (tag, position)
) STRICT, WITHOUT ROWID;

-- Caches of consumers; may be deleted at any time.
CREATE TABLE checkpoints (
  key      INTEGER PRIMARY KEY,
  name     TEXT    NOT NULL UNIQUE,
  position INTEGER NOT NULL,
  event    BLOB    NOT NULL,
  format   INTEGER NOT NULL,
  state    BLOB
) STRICT;

-- History is added to and never changed, whoever has the file open.
CREATE TRIGGER events_are_never_updated BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only: record a new event instead of changing one'); END;
CREATE TRIGGER events_are_never_deleted BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only: record a new event instead of deleting one'); END;
CREATE TRIGGER event_tags_are_never_updated BEFORE UPDATE ON event_tags
BEGIN SELECT RAISE(ABORT, 'event_tags belong to events, which are append-only'); END;
CREATE TRIGGER event_tags_are_never_deleted BEFORE DELETE ON event_tags
BEGIN SELECT RAISE(ABORT, 'event_tags belong to events, which are append-only'); END;
CREATE TRIGGER streams_are_never_updated BEFORE UPDATE ON streams
BEGIN SELECT RAISE(ABORT, 'streams are part of events, which are append-only'); END;
CREATE TRIGGER streams_are_never_deleted BEFORE DELETE ON streams
BEGIN SELECT RAISE(ABORT, 'streams are part of events, which are append-only'); END;
CREATE TRIGGER types_are_never_updated BEFORE UPDATE ON types
BEGIN SELECT RAISE(ABORT, 'types are part of events, which are append-only'); END;
CREATE TRIGGER types_are_never_deleted BEFORE DELETE ON types
BEGIN SELECT RAISE(ABORT, 'types are part of events, which are append-only'); END;
CREATE TRIGGER type_blocks_are_never_updated BEFORE UPDATE ON type_blocks
BEGIN SELECT RAISE(ABORT, 'type_blocks are part of events, which are append-only'); END;
CREATE TRIGGER type_blocks_are_never_deleted BEFORE DELETE ON type_blocks
BEGIN SELECT RAISE(ABORT, 'type_blocks are part of events, which are append-only'); END;
CREATE TRIGGER tags_are_never_updated BEFORE UPDATE ON tags
BEGIN SELECT RAISE(ABORT, 'tags are part of events, which are append-only'); END;
CREATE TRIGGER tags_are_never_deleted BEFORE DELETE ON tags
BEGIN SELECT RAISE(ABORT, 'tags are part of events, which are append-only'); END;

-- For people: sqlite3 changes.db 'SELECT * FROM history ORDER BY position DESC LIMIT 20'
CREATE VIEW history AS
SELECT e.position,
       strftime('%Y-%m-%dT%H:%M:%S', (e.recorded_at - (e.recorded_at % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
         || printf('.%06dZ', (e.recorded_at % 1000000 + 1000000) % 1000000) AS recorded_at,
       s.name AS stream,
       e.version,
       t.name AS type,
       e.schema,
       json_extract(e.meta, '$.actor')   AS actor,
       json_extract(e.meta, '$.reason')  AS reason,
       json_extract(e.meta, '$.command') AS command,
       e.tags,
       e.data
FROM events e JOIN streams s ON s.key = e.stream JOIN types t ON t.key = e.type;
