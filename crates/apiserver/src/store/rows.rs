//! Objects and events as rows, and back.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde_json::Value;
use uuid::Uuid;

use super::txn::{MAX_OBJECT_BYTES, at_revision};
use super::{ClusterId, Event, EventKind, Key, Name, Object, Resource, StoreError};
use crate::cache::View;

/// SPEC 60 §20.2: larger bodies are compressed.
const COMPRESS_ABOVE_BYTES: usize = 1_024;
/// Fastest level: bodies are written once and read at start.
const ZSTD_LEVEL: i32 = 1;
/// First byte of a compressed body; plain ones begin with `{`. Sealed bodies will get another.
const ZSTD: u8 = 1;
const HEADER_BYTES: usize = 5;

/// Body as stored: plain JSON, or `ZSTD`, its length (u32, little endian), one zstd frame.
fn pack(body: &[u8]) -> Vec<u8> {
    if body.len() <= COMPRESS_ABOVE_BYTES {
        return body.to_vec();
    }
    match (zstd::bulk::compress(body, ZSTD_LEVEL), u32::try_from(body.len())) {
        (Ok(frame), Ok(length)) if frame.len() + HEADER_BYTES < body.len() => {
            let mut packed = Vec::with_capacity(frame.len() + HEADER_BYTES);
            packed.push(ZSTD);
            packed.extend_from_slice(&length.to_le_bytes());
            packed.extend_from_slice(&frame);
            packed
        }
        // Compression is an economy: a body that does not shrink is stored as it is.
        _ => body.to_vec(),
    }
}

fn unpack(stored: &[u8]) -> Result<Bytes, StoreError> {
    let Some(packed) = stored.strip_prefix(&[ZSTD]) else { return Ok(Bytes::copy_from_slice(stored)) };
    let (length, frame) = packed.split_first_chunk::<4>().ok_or(StoreError::Body)?;
    let length = u32::from_le_bytes(*length) as usize;
    // Twice the limit, so that a later, lower limit does not make stored objects unreadable.
    if length > 2 * MAX_OBJECT_BYTES {
        return Err(StoreError::Body);
    }
    let body = zstd::bulk::decompress(frame, length).map_err(|_| StoreError::Body)?;
    Ok(Bytes::from(body.into_boxed_slice()))
}

/// What the tables hold beside the body.
struct Columns {
    generation: Option<i64>,
    created: Option<i64>,
    deleting: Option<i64>,
    version: String,
    owners: Vec<Uuid>,
}

/// What is read of a body for the columns: everything else is skipped without being built.
#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Head {
    api_version: Value,
    metadata: HeadMetadata,
}

/// Values as they are: a field of an unexpected type leaves its column empty and the others right.
#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct HeadMetadata {
    generation: Value,
    creation_timestamp: Value,
    deletion_timestamp: Value,
    owner_references: Value,
}

impl Columns {
    fn of(object: &Object) -> Self {
        let Head { api_version, metadata } = serde_json::from_slice(&object.encoded).unwrap_or_default();
        let micros = |field: &Value| field.as_str()?.parse::<Timestamp>().ok().map(Timestamp::as_microsecond);
        Self {
            generation: metadata.generation.as_i64(),
            created: micros(&metadata.creation_timestamp),
            deleting: micros(&metadata.deletion_timestamp),
            version: api_version.as_str().and_then(|text| text.rsplit('/').next()).unwrap_or_default().to_owned(),
            owners: owners(&metadata.owner_references),
        }
    }
}

/// The uids of `metadata.ownerReferences`, sorted, each once. Others than UUIDs own nothing.
fn owners(references: &Value) -> Vec<Uuid> {
    let uid = |reference: &Value| Uuid::try_parse(reference.get("uid")?.as_str()?).ok();
    let mut owners: Vec<_> = references.as_array().into_iter().flatten().filter_map(uid).collect();
    owners.sort_unstable();
    owners.dedup();
    owners
}

/// Writes one event and its effect on the state, inside the caller's transaction.
pub(crate) fn apply(connection: &Connection, event: &Event, at: Timestamp) -> rusqlite::Result<()> {
    let object = &event.object;
    let key = &object.key;
    let (cluster, group, resource) = (key.cluster.0, &*key.resource.group, &*key.resource.resource);
    let (namespace, name) = (&*key.name.namespace, &*key.name.name);
    let revision = revision_to_sql(event.revision);
    let body = match event.kind {
        EventKind::Added | EventKind::Modified => Some(pack(&object.encoded)),
        EventKind::Deleted => None,
    };
    // The previous body is copied from the state row as it is stored, before that row changes.
    connection
        .prepare_cached(
            "INSERT INTO events (cluster, rv, type, grp, res, ns, name, at, body, prev) VALUES \
             (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, (SELECT body FROM objects \
             WHERE cluster = ?1 AND grp = ?4 AND res = ?5 AND ns = ?6 AND name = ?7))",
        )?
        .execute(params![
            cluster,
            revision,
            kind_to_sql(event.kind),
            group,
            resource,
            namespace,
            name,
            at.as_microsecond(),
            body
        ])?;
    let Some(body) = body else {
        connection
            .prepare_cached(
                "DELETE FROM objects WHERE cluster = ?1 AND grp = ?2 AND res = ?3 AND ns = ?4 AND name = ?5",
            )?
            .execute(params![cluster, group, resource, namespace, name])?;
        return write_owners(connection, event, &[]);
    };
    let columns = Columns::of(object);
    connection
        .prepare_cached(
            "INSERT INTO objects (cluster, grp, res, ns, name, uid, rv, gen, created, deleting, ver, body) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
             ON CONFLICT (cluster, grp, res, ns, name) DO UPDATE SET uid = ?6, rv = ?7, gen = ?8, created = ?9, \
             deleting = ?10, ver = ?11, body = ?12",
        )?
        .execute(params![
            cluster,
            group,
            resource,
            namespace,
            name,
            object.uid.as_bytes().as_slice(),
            revision,
            columns.generation,
            columns.created,
            columns.deleting,
            columns.version,
            body
        ])?;
    write_owners(connection, event, &columns.owners)
}

/// Brings the owner index of one object from what its previous version said to `owners`.
fn write_owners(connection: &Connection, event: &Event, owners: &[Uuid]) -> rusqlite::Result<()> {
    let before = event.previous.as_ref().map(|previous| Columns::of(previous).owners).unwrap_or_default();
    let key = &event.object.key;
    let change = |sql: &str, uid: &Uuid| {
        let uid = uid.as_bytes().as_slice();
        let (group, resource) = (&*key.resource.group, &*key.resource.resource);
        let row = params![key.cluster.0, uid, group, resource, &*key.name.namespace, &*key.name.name];
        connection.prepare_cached(sql)?.execute(row).map(drop)
    };
    for gone in before.iter().filter(|uid| !owners.contains(uid)) {
        change(
            "DELETE FROM owners WHERE cluster = ?1 AND owner_uid = ?2 AND grp = ?3 AND res = ?4 AND ns = ?5 \
             AND name = ?6",
            gone,
        )?;
    }
    for new in owners.iter().filter(|uid| !before.contains(uid)) {
        change("INSERT INTO owners (cluster, owner_uid, grp, res, ns, name) VALUES (?1, ?2, ?3, ?4, ?5, ?6)", new)?;
    }
    Ok(())
}

/// A logical cluster as stored.
pub(crate) struct ClusterRow {
    pub(crate) id: ClusterId,
    pub(crate) name: String,
    pub(crate) view: View,
    pub(crate) compacted: u64,
}

/// Reads the whole state, row by row in key order.
pub(crate) fn load(connection: &Connection) -> Result<Vec<ClusterRow>, StoreError> {
    let mut clusters = connection.prepare("SELECT id, name, seq, compacted FROM clusters ORDER BY id")?;
    let rows = clusters.query_map([], |row| {
        let (id, seq, compacted) = (ClusterId(row.get(0)?), row.get(2)?, row.get(3)?);
        let (seq, compacted) = (revision_from_sql(seq), revision_from_sql(compacted));
        Ok(ClusterRow { id, name: row.get(1)?, view: View::new(id, seq), compacted })
    })?;
    let mut clusters: Vec<_> = rows.collect::<rusqlite::Result<_>>()?;
    for cluster in &mut clusters {
        load_objects(connection, &mut cluster.view)?;
    }
    Ok(clusters)
}

fn load_objects(connection: &Connection, view: &mut View) -> Result<(), StoreError> {
    let mut statement = connection
        .prepare("SELECT grp, res, ns, name, rv, uid, body FROM objects WHERE cluster = ?1 ORDER BY 1, 2, 3, 4")?;
    let mut rows = statement.query(params![view.cluster().0])?;
    // Rows come in key order: resource and namespace are shared with the row before.
    let (mut resource, mut namespace): (Resource, Arc<str>) = (Resource::new("", ""), Arc::from(""));
    while let Some(row) = rows.next()? {
        let (group, plural) = (text(row, 0)?, text(row, 1)?);
        if (&*resource.group, &*resource.resource) != (group, plural) {
            resource = Resource::new(group, plural);
        }
        let in_namespace = text(row, 2)?;
        if &*namespace != in_namespace {
            namespace = Arc::from(in_namespace);
        }
        let name = Name { namespace: Arc::clone(&namespace), name: Arc::from(text(row, 3)?) };
        let uid = row.get_ref(5)?.as_blob().ok().and_then(|uid| Uuid::from_slice(uid).ok()).ok_or(StoreError::Body)?;
        let encoded = unpack(row.get_ref(6)?.as_blob().map_err(|_| StoreError::Body)?)?;
        let key = Key { cluster: view.cluster(), resource: resource.clone(), name };
        view.insert(Arc::new(Object::new(key, revision_from_sql(row.get(4)?), uid, encoded)));
    }
    Ok(())
}

fn text<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a str, StoreError> {
    row.get_ref(column)?.as_str().map_err(|_| StoreError::Body)
}

/// Events read from the table.
pub(crate) struct Chunk {
    pub(crate) events: Vec<Arc<Event>>,
    /// All events of the resource up to this revision are in `events`.
    pub(crate) reached: u64,
    /// The compaction mark of the same read transaction: a reader that stood below it has missed events.
    pub(crate) compacted: u64,
}

/// Bounds of one chunk: rows given, revisions looked at, bytes of bodies.
const CHUNK_ROWS: usize = 256;
const CHUNK_REVISIONS: u64 = 5_000;
const CHUNK_BYTES: usize = 4 << 20;

/// The oldest events of a resource in (`after`, `until`].
pub(crate) fn read_events(
    connection: &mut Connection,
    cluster: ClusterId,
    resource: &Resource,
    after: u64,
    until: u64,
) -> Result<Chunk, StoreError> {
    let transaction = connection.transaction()?;
    let compacted = transaction
        .prepare_cached("SELECT compacted FROM clusters WHERE id = ?1")?
        .query_row(params![cluster.0], |row| row.get(0))
        .optional()?
        .map_or(0, revision_from_sql);
    // Below the mark there is nothing; a reader that stands there is told so by `compacted`.
    let until = until.min(after.max(compacted).saturating_add(CHUNK_REVISIONS));
    let mut statement = transaction.prepare_cached(
        "SELECT rv, type, ns, name, body, prev FROM events \
         WHERE cluster = ?1 AND rv > ?2 AND rv <= ?3 AND grp = ?4 AND res = ?5 ORDER BY rv",
    )?;
    let (low, high) = (revision_to_sql(after), revision_to_sql(until));
    let mut rows = statement.query(params![cluster.0, low, high, &*resource.group, &*resource.resource])?;
    let mut chunk = Chunk { events: Vec::new(), reached: until, compacted };
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let event = event_from_row(row, cluster, resource)?;
        bytes += event.weight();
        let revision = event.revision;
        chunk.events.push(Arc::new(event));
        if chunk.events.len() >= CHUNK_ROWS || bytes >= CHUNK_BYTES {
            chunk.reached = revision;
            break;
        }
    }
    Ok(chunk)
}

fn event_from_row(row: &Row<'_>, cluster: ClusterId, resource: &Resource) -> Result<Event, StoreError> {
    let revision = revision_from_sql(row.get(0)?);
    let kind = kind_from_sql(row.get(1)?).ok_or(StoreError::Body)?;
    let key = Key::new(cluster, resource, text(row, 2)?, text(row, 3)?);
    let stored = |column: usize| -> Result<Option<Arc<Object>>, StoreError> {
        let Some(blob) = row.get_ref(column)?.as_blob_or_null().map_err(|_| StoreError::Body)? else {
            return Ok(None);
        };
        object_from_body(key.clone(), unpack(blob)?).map(Arc::new).map(Some)
    };
    let previous = stored(5)?;
    let object = match (stored(4)?, &previous) {
        (Some(object), _) => object,
        (None, Some(previous)) => Arc::new(at_revision(previous, revision)),
        (None, None) => return Err(StoreError::Body),
    };
    Ok(Event::new(kind, object, previous))
}

/// An object whose uid and revision are known from its body only.
fn object_from_body(key: Key, encoded: Bytes) -> Result<Object, StoreError> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        uid: String,
        resource_version: String,
    }
    #[derive(serde::Deserialize)]
    struct Body {
        metadata: Metadata,
    }
    let Body { metadata } = serde_json::from_slice(&encoded).map_err(|_| StoreError::Body)?;
    let revision = metadata.resource_version.parse().map_err(|_| StoreError::Body)?;
    let uid = Uuid::try_parse(&metadata.uid).map_err(|_| StoreError::Body)?;
    Ok(Object::new(key, revision, uid, encoded))
}

/// The objects of a cluster that name `owner` in their `metadata.ownerReferences`.
pub(crate) fn read_dependents(
    connection: &Connection,
    cluster: ClusterId,
    owner: Uuid,
) -> Result<Vec<Key>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT grp, res, ns, name FROM owners WHERE cluster = ?1 AND owner_uid = ?2")?;
    let mut rows = statement.query(params![cluster.0, owner.as_bytes().as_slice()])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        let resource = Resource::new(text(row, 0)?, text(row, 1)?);
        keys.push(Key::new(cluster, &resource, text(row, 2)?, text(row, 3)?));
    }
    Ok(keys)
}

/// Revisions stay below `i64::MAX`: one a nanosecond would last 292 years.
pub(crate) fn revision_to_sql(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

pub(crate) fn revision_from_sql(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or(0)
}

fn kind_to_sql(kind: EventKind) -> i64 {
    match kind {
        EventKind::Added => 1,
        EventKind::Modified => 2,
        EventKind::Deleted => 3,
    }
}

fn kind_from_sql(kind: i64) -> Option<EventKind> {
    match kind {
        1 => Some(EventKind::Added),
        2 => Some(EventKind::Modified),
        3 => Some(EventKind::Deleted),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_survive_packing_and_only_long_ones_are_compressed() {
        for (length, compressed) in [(2, false), (COMPRESS_ABOVE_BYTES, false), (COMPRESS_ABOVE_BYTES + 1, true)] {
            let body = format!("{{{}}}", "a".repeat(length - 2));
            let packed = pack(body.as_bytes());
            assert_eq!(packed.first() == Some(&ZSTD), compressed, "{length}");
            assert_eq!(unpack(&packed).unwrap(), body.as_bytes());
        }
    }

    #[test]
    fn damaged_bodies_are_errors() {
        let packed = pack(&[b'a'; 5_000]);
        for damaged in [&packed[..3], &packed[..packed.len() - 4], &[ZSTD, 255, 255, 255, 255, 0][..], &[ZSTD]] {
            assert!(unpack(damaged).is_err(), "{damaged:?}");
        }
    }
}
