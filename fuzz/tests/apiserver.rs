//! What clients of the Kubernetes API send: bodies, patches, selectors, paths.

use serde_json::{Value, json};
use tidegate_apiserver::patch::{Patch, PatchKind};
use tidegate_apiserver::request_info::RequestInfo;
use tidegate_apiserver::selector::{FieldSelector, LabelSelector, SupportedFields};
use tidegate_apiserver::{decode, protobuf};
use tidegate_fuzz::{SHORT, texts};

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "a", "finalizers": ["e.com/x"], "labels": {"a": "b"}},
        "spec": {"ports": [{"name": "http", "port": 80}, {"name": "https", "port": 443}], "selector": {"app": "x"}},
    })
}

#[test]
fn protobuf_bodies_are_read_or_refused() {
    let kinds = ["ConfigMap", "Secret", "Namespace", "Service", "DeleteOptions"];
    bolero::check!().with_type::<(u8, Vec<u8>)>().with_test_time(SHORT).for_each(|(kind, bytes)| {
        let kind = kinds[usize::from(*kind) % kinds.len()];
        let _ = protobuf::decode(bytes, kind);
        let framed: Vec<u8> = [b"k8s\0", bytes.as_slice()].concat();
        let _ = protobuf::decode(&framed, kind);
    });
}

#[test]
fn json_bodies_mean_what_the_library_says() {
    bolero::check!().with_test_time(SHORT).for_each(|input: &[u8]| {
        if let Ok(parsed) = decode::json::parse(input) {
            let library: Value = serde_json::from_slice(input).expect("the library reads what we read");
            // Integral floats become integers on the way.
            let again = decode::json::parse(library.to_string().as_bytes()).expect("what it writes is JSON");
            assert_eq!(parsed.value, again.value);
        }
    });
}

#[test]
fn patches_of_any_bytes_give_an_object_or_an_error() {
    let original = service();
    let kinds = [PatchKind::Json, PatchKind::Merge, PatchKind::Strategic];
    bolero::check!().with_type::<(u8, Vec<u8>)>().with_test_time(SHORT).for_each(|(kind, bytes)| {
        let kind = kinds[usize::from(*kind) % kinds.len()];
        if let Ok(patch) = Patch::parse(kind, bytes)
            && let Ok(patched) = patch.apply("", "Service", &original)
        {
            assert_eq!(patched["kind"], "Service");
        }
    });
}

#[test]
fn a_merge_patch_applied_twice_changes_nothing_more() {
    let original = service();
    bolero::check!().with_test_time(SHORT).for_each(|input: &[u8]| {
        let Ok(patch) = Patch::parse(PatchKind::Merge, input) else { return };
        let Ok(once) = patch.apply("", "Service", &original) else { return };
        assert_eq!(patch.apply("", "Service", &once).unwrap(), once);
    });
}

#[test]
fn selectors_of_any_text_match_or_are_refused() {
    let object = service();
    let fields = SupportedFields::builtin("", "services");
    bolero::check!().with_test_time(SHORT).for_each(|input: &[u8]| {
        for text in texts(input, 2) {
            if let Ok(selector) = LabelSelector::parse(&text) {
                let _ = selector.matches(&object);
            }
            if let Ok(selector) = FieldSelector::parse(&text, &fields) {
                let _ = selector.matches(&object);
            }
        }
    });
}

#[test]
fn request_lines_of_any_text_are_routed_or_refused() {
    bolero::check!().with_test_time(SHORT).for_each(|input: &[u8]| {
        let parts = texts(input, 2);
        let path = parts.first().map(String::as_str).unwrap_or_default();
        let query = parts.get(1).map(String::as_str);
        let _ = RequestInfo::parse(&http::Method::GET, &format!("/{path}"), query);
    });
}
