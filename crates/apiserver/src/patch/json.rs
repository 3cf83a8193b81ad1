//! RFC 6902 over the `json-patch` crate, with bounds: operations are many, each is small, and a `copy` in a loop
//! must not grow an object beyond what could have been sent.
// SPEC 60 §10.2

use json_patch::{PatchErrorKind, PatchOperation};
use serde_json::Value;

use crate::decode;
use crate::status::ApiError;

/// Most operations of one patch (SPEC 60 §23).
const MAX_OPERATIONS: usize = 10_000;
/// Bytes that all `copy` operations of one patch may add, about the largest body.
const MAX_COPIED: usize = 3 * 1024 * 1024;
/// How often one patch may make us measure the nesting of the whole object.
const MAX_MEASUREMENTS: usize = 64;

/// One operation, or what is wrong with it; a malformed one only counts when its turn comes.
pub(super) type Operation = Result<PatchOperation, String>;

/// Reads the list; 400 when it is no list, 413 when it is too long.
pub(super) fn operations(value: Value) -> Result<Vec<Operation>, ApiError> {
    let Value::Array(list) = value else {
        return Err(ApiError::bad_request(format!(
            "error decoding patch: json: cannot unmarshal {} into Go value of type []handlers.jsonPatchOp",
            decode::go_type(&value)
        )));
    };
    if list.len() > MAX_OPERATIONS {
        return Err(ApiError::too_large(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            list.len()
        )));
    }
    Ok(list.into_iter().map(operation).collect())
}

fn operation(value: Value) -> Operation {
    let word = value.get("op").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !matches!(word.as_str(), "add" | "remove" | "replace" | "move" | "copy" | "test") {
        return Err("op must be one of add, remove, replace, move, copy, test".to_owned());
    }
    serde_json::from_value(value)
        .map_err(|_| format!("{word} needs a JSON pointer in every path and, where it takes one, a value"))
}

/// Applies all operations to a copy, or none: 422 naming the operation that failed.
pub(super) fn apply(operations: &[Operation], original: &Value) -> Result<Value, ApiError> {
    let mut doc = original.clone();
    let mut bounds = Bounds { copied: 0, depth: decode::json::depth(&doc), measurements: 0 };
    for (i, operation) in operations.iter().enumerate() {
        let failed =
            |message: String| ApiError::unprocessable().with_cause("FieldValueInvalid", message, format!("patch[{i}]"));
        let operation = operation.as_ref().map_err(|problem| failed(problem.clone()))?;
        bounds.admit(operation, &doc).map_err(&failed)?;
        if tests_absence(operation, &doc) {
            continue;
        }
        json_patch::patch_unsafe(&mut doc, std::slice::from_ref(operation))
            .map_err(|error| failed(explain(operation, &error.kind)))?;
    }
    Ok(doc)
}

/// A `test` for null holds where the member is absent: upstream's library has it so, and kube-rs' finalizer helper
/// begins with `test /metadata/finalizers null`.
fn tests_absence(operation: &PatchOperation, doc: &Value) -> bool {
    let PatchOperation::Test(test) = operation else { return false };
    test.value.is_null()
        && doc.pointer(test.path.as_str()).is_none()
        && test.path.parent().is_some_and(|parent| doc.pointer(parent.as_str()).is_some_and(Value::is_object))
}

/// Never shows a value: objects may hold secrets.
fn explain(operation: &PatchOperation, kind: &PatchErrorKind) -> String {
    let path = operation.path();
    match kind {
        PatchErrorKind::TestFailed => format!("test failed at {path}"),
        PatchErrorKind::InvalidFromPointer => match operation {
            PatchOperation::Move(op) => format!("from does not exist: {}", op.from),
            PatchOperation::Copy(op) => format!("from does not exist: {}", op.from),
            _ => "from does not exist".to_owned(),
        },
        PatchErrorKind::CannotMoveInsideItself => format!("cannot move a value into itself: {path}"),
        _ => format!("path does not exist: {path}"),
    }
}

struct Bounds {
    copied: usize,
    /// Never less than the nesting of the object.
    depth: usize,
    measurements: usize,
}

impl Bounds {
    fn admit(&mut self, operation: &PatchOperation, doc: &Value) -> Result<(), String> {
        let (levels, parents) = match operation {
            PatchOperation::Remove(_) | PatchOperation::Test(_) => return Ok(()),
            PatchOperation::Add(op) => (decode::json::depth(&op.value), op.path.count()),
            PatchOperation::Replace(op) => (decode::json::depth(&op.value), op.path.count()),
            PatchOperation::Move(op) => (self.depth, op.path.count()),
            PatchOperation::Copy(op) => {
                if let Some(source) = doc.pointer(op.from.as_str()) {
                    self.copied = self.copied.saturating_add(decode::json::size(source));
                    if self.copied > MAX_COPIED {
                        return Err("copy operations add too much".to_owned());
                    }
                }
                (self.depth, op.path.count())
            }
        };
        let bound = self.depth.max(levels + parents);
        if bound <= decode::json::MAX_DEPTH {
            self.depth = bound;
            return Ok(());
        }
        // The estimate grows with every move; look at the object before refusing.
        self.measurements += 1;
        if self.measurements > MAX_MEASUREMENTS {
            return Err("the patch moves too many deeply nested values".to_owned());
        }
        self.depth = decode::json::depth(doc);
        let levels = match operation {
            PatchOperation::Move(op) => doc.pointer(op.from.as_str()).map_or(0, decode::json::depth),
            PatchOperation::Copy(op) => doc.pointer(op.from.as_str()).map_or(0, decode::json::depth),
            _ => levels,
        };
        self.depth = self.depth.max(levels + parents);
        if self.depth > decode::json::MAX_DEPTH {
            return Err("the patched object is nested too deeply".to_owned());
        }
        Ok(())
    }
}
