//! GET of a collection (SPEC 60 §8).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use super::Call;
use super::negotiate::{Format, Shape};
use super::options::{ListOptions, VersionMatch};
use super::page::Position;
use super::respond::{self, Answer};
use super::select::Selection;
use crate::cache::Snapshot;
use crate::status::ApiError;
use crate::store::{ListError, Object};
use crate::table::ListMeta;

/// How long a list waits for a version that does not exist yet.
const FUTURE_WAIT: Duration = Duration::from_secs(3);

/// Answers a list.
///
/// # Errors
/// Those of SPEC 60 §8.
pub(super) async fn list(call: &Call) -> Result<Answer, ApiError> {
    let options = ListOptions::parse(&call.query, false)?;
    let selection = Selection::parse(&call.target, &options)?;
    let (snapshot, start) = state(call, &options).await?;
    let page = page(call, &options, &selection, &snapshot, start.as_ref());
    let representation = call.representation;
    let metadata = ListMeta {
        resource_version: snapshot.revision.to_string(),
        continue_token: page.next,
        remaining_item_count: page.remaining,
    };
    let view = call.view();
    match representation.shape {
        Shape::Table(version) => call.table(StatusCode::OK, &view, version, &page.objects, metadata),
        Shape::Whole | Shape::Metadata(_) => {
            let (kind, api_version) = match representation.shape {
                Shape::Metadata(version) => ("PartialObjectMetadataList", version.api_version()),
                Shape::Whole | Shape::Table(_) => (&*call.target.resource.list_kind, view.api_version.as_str()),
            };
            let items = page.objects.iter().map(|object| view.shaped(object, representation.shape));
            let body = encode(kind, api_version, &metadata, &items.collect::<Result<Vec<_>, _>>()?);
            if representation.format == Format::Json && !representation.pretty {
                return Ok(respond::bytes(StatusCode::OK, "application/json", body));
            }
            Ok(respond::encoded(StatusCode::OK, representation, body))
        }
    }
}

/// The state to list, and after which object to begin.
async fn state(call: &Call, options: &ListOptions) -> Result<(Snapshot, Option<Position>), ApiError> {
    let shared = &call.shared;
    let (cluster, resource) = (call.target.cluster, call.target.storage());
    if let Some(token) = &options.continue_token {
        let position = shared.page_key.position(&scope(call), token)?;
        if position.revision == 0 {
            return Ok((shared.store.snapshot(cluster, &resource), Some(position)));
        }
        return match shared.store.list_at(cluster, &resource, position.revision).await {
            Ok(snapshot) => Ok((snapshot, Some(position))),
            Err(ListError::Expired { .. } | ListError::Future { .. }) => {
                let fresh = Position { revision: 0, ..position };
                Err(ApiError::expired_continue(shared.page_key.token(&scope(call), &fresh)))
            }
            Err(ListError::Store(error)) => Err(super::store_error(&error)),
        };
    }
    let wanted = options.resource_version.unwrap_or(0);
    if wanted == 0 {
        return Ok((shared.store.snapshot(cluster, &resource), None));
    }
    wait_for(call, wanted).await?;
    let exact = match options.version_match {
        VersionMatch::Exact => true,
        VersionMatch::NotOlderThan => false,
        // What client-go's older pagers rely on.
        VersionMatch::Unspecified => options.limit.is_some(),
    };
    if !exact {
        return Ok((shared.store.snapshot(cluster, &resource), None));
    }
    match shared.store.list_at(cluster, &resource, wanted).await {
        Ok(snapshot) => Ok((snapshot, None)),
        Err(ListError::Expired { .. }) => {
            Err(ApiError::expired("The resourceVersion for the provided list is too old."))
        }
        Err(ListError::Future { requested, current }) => Err(ApiError::resource_version_too_large(requested, current)),
        Err(ListError::Store(error)) => Err(super::store_error(&error)),
    }
}

/// Waits a little for a version that does not exist yet.
///
/// # Errors
/// 504 when it still does not.
pub(super) async fn wait_for(call: &Call, wanted: u64) -> Result<(), ApiError> {
    let (store, cluster) = (&call.shared.store, call.target.cluster);
    if store.revision(cluster) >= wanted {
        return Ok(());
    }
    tokio::time::timeout(FUTURE_WAIT, store.reached(cluster, wanted))
        .await
        .map_err(|_| ApiError::resource_version_too_large(wanted, store.revision(cluster)))
}

struct Page {
    objects: Vec<Arc<Object>>,
    next: Option<String>,
    remaining: Option<u64>,
}

fn page(
    call: &Call,
    options: &ListOptions,
    selection: &Selection,
    snapshot: &Snapshot,
    start: Option<&Position>,
) -> Page {
    let after = start.map(|start| (start.namespace.as_str(), start.name.as_str()));
    let namespace = call.target.namespace.as_str();
    let mut rest: Box<dyn Iterator<Item = &Arc<Object>>> = match (namespace, after) {
        ("", None) => Box::new(snapshot.iter()),
        ("", Some((namespace, name))) => Box::new(snapshot.from(namespace, name)),
        (namespace, None) => Box::new(snapshot.namespace(namespace)),
        (namespace, Some((_, name))) => Box::new(snapshot.namespace_from(namespace, name)),
    };
    let limit = options.limit.unwrap_or(usize::MAX);
    let mut objects: Vec<Arc<Object>> = Vec::new();
    let mut next = None;
    let mut remaining = None;
    while let Some(object) = rest.next() {
        if after == Some((object.namespace(), object.name())) || !selection.matches(object) {
            continue;
        }
        if objects.len() < limit {
            objects.push(Arc::clone(object));
            continue;
        }
        next = objects.last().map(|last| {
            let position = Position {
                revision: start.map_or(snapshot.revision, |start| start.revision),
                namespace: last.namespace().to_owned(),
                name: last.name().to_owned(),
            };
            call.shared.page_key.token(&scope(call), &position)
        });
        // Counting what a selector would match costs as much as listing it.
        remaining = selection.is_all().then(|| 1 + rest.by_ref().count() as u64);
        break;
    }
    Page { objects, next, remaining }
}

/// What a continue token is good for.
fn scope(call: &Call) -> String {
    format!("{}/{}/{}", call.target.group(), call.target.plural(), call.target.namespace)
}

/// A list around encoded items: they are copied, not parsed.
fn encode(kind: &str, api_version: &str, metadata: &ListMeta, items: &[Bytes]) -> Bytes {
    let head = format!(
        "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{},\"items\":[",
        Value::from(kind),
        Value::from(api_version),
        // Two strings and a number: this cannot fail.
        serde_json::to_string(metadata).unwrap_or_default()
    );
    let size = head.len() + items.iter().map(|item| item.len() + 1).sum::<usize>() + 2;
    let mut body = Vec::with_capacity(size);
    body.extend_from_slice(head.as_bytes());
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(item);
    }
    body.extend_from_slice(b"]}");
    Bytes::from(body)
}
