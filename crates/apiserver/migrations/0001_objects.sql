-- SPEC 60 §20.2: current state plus a bounded event log. Timestamps are microseconds UTC.

CREATE TABLE meta (
  key   TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE clusters (
  id        INTEGER PRIMARY KEY,
  name      TEXT NOT NULL UNIQUE,
  state     TEXT NOT NULL,
  spec      TEXT NOT NULL DEFAULT '{}',
  seq       INTEGER NOT NULL, -- highest revision given out
  compacted INTEGER NOT NULL  -- highest revision deleted from `events`
);

CREATE TABLE objects (
  cluster  INTEGER NOT NULL REFERENCES clusters (id),
  grp      TEXT NOT NULL,
  res      TEXT NOT NULL,
  ns       TEXT NOT NULL, -- empty for cluster-scoped objects
  name     TEXT NOT NULL,
  uid      BLOB NOT NULL UNIQUE,
  rv       INTEGER NOT NULL,
  gen      INTEGER,
  created  INTEGER,
  deleting INTEGER,
  ver      TEXT NOT NULL, -- version part of the stored apiVersion
  body     BLOB NOT NULL, -- canonical JSON, or 0x01, length (u32, little endian), zstd frame
  PRIMARY KEY (cluster, grp, res, ns, name)
) WITHOUT ROWID;

CREATE TABLE owners (
  cluster   INTEGER NOT NULL,
  owner_uid BLOB NOT NULL,
  grp       TEXT NOT NULL,
  res       TEXT NOT NULL,
  ns        TEXT NOT NULL,
  name      TEXT NOT NULL,
  PRIMARY KEY (cluster, owner_uid, grp, res, ns, name)
) WITHOUT ROWID;

CREATE TABLE events (
  cluster INTEGER NOT NULL,
  rv      INTEGER NOT NULL,
  type    INTEGER NOT NULL, -- 1 added, 2 modified, 3 deleted
  grp     TEXT NOT NULL,
  res     TEXT NOT NULL,
  ns      TEXT NOT NULL,
  name    TEXT NOT NULL,
  at      INTEGER NOT NULL,
  body    BLOB, -- the object after the change; NULL for a deletion (it is `prev` at `rv`)
  prev    BLOB, -- the object before the change; NULL for an addition
  PRIMARY KEY (cluster, rv)
) WITHOUT ROWID;
