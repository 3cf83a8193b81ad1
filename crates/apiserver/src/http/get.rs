//! GET of one object (SPEC 60 §7).

use http::StatusCode;

use super::Call;
use super::list::wait_for;
use super::options::parse_resource_version;
use super::respond::Answer;
use super::scale;
use crate::status::ApiError;

/// Answers with an object; `/status` shows the whole of it, as upstream does.
///
/// # Errors
/// 404; 504 for a version in the future.
pub(super) async fn get(call: &Call) -> Result<Answer, ApiError> {
    let target = &call.target;
    if let Some(version) = call.query.get("resourceVersion") {
        wait_for(call, parse_resource_version(version)?).await?;
    }
    if target.subresource_name() == "scale" {
        return scale::get(call);
    }
    let object = call.shared.store.get(&target.key(target.name())).ok_or_else(|| target.not_found(target.name()))?;
    call.object(StatusCode::OK, &object)
}
