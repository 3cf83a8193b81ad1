//! Paths and hosts as strangers send them.

use tidegate_fuzz::{SHORT, texts};
use tidegate_policy::{Host, NormalizedPath};

#[test]
fn a_normalized_path_is_its_own_normal_form_and_names_no_parent() {
    bolero::check!().with_test_time(SHORT).for_each(|input: &[u8]| {
        let raw = format!("/{}", texts(input, 1).concat());
        let Ok(path) = NormalizedPath::parse(&raw) else { return };
        let text = path.as_str();
        assert!(text.starts_with('/') && !text.contains("//") && !text.contains('\\'), "{raw} -> {text}");
        assert!(text.split('/').all(|segment| segment != "." && segment != ".."), "{raw} -> {text}");
        assert_eq!(NormalizedPath::parse(text).expect("a normal form is a path").as_str(), text);
        if let Some(Ok(decoded)) = path.decoded() {
            assert!(decoded.split('/').all(|segment| segment != ".."), "{raw} -> {decoded}");
        }
    });
}

#[test]
fn paths_of_dots_slashes_and_escapes_never_climb() {
    let pieces = ["/", ".", "..", "%2e", "%2E", "%2f", "%5c", "\\", ";", "a", "%252e", "%c0%ae"];
    bolero::check!().with_type::<Vec<u8>>().with_test_time(SHORT).for_each(|choice| {
        let raw: String = choice.iter().take(24).map(|index| pieces[usize::from(*index) % pieces.len()]).collect();
        let Ok(path) = NormalizedPath::parse(&format!("/{raw}")).map(NormalizedPath::into_owned) else { return };
        assert!(path.as_str().split('/').all(|segment| segment != ".."), "/{raw} -> {}", path.as_str());
        assert!(!path.as_str().to_ascii_lowercase().contains("%2e"), "/{raw} -> {}", path.as_str());
    });
}

#[test]
fn a_host_is_lower_case_without_port_and_stays_what_it_is() {
    bolero::check!().with_test_time(SHORT).for_each(|input: &[u8]| {
        for text in texts(input, 2) {
            let Ok(host) = Host::parse_authority(&text) else { continue };
            let name = host.as_str();
            assert!(!name.is_empty() && !name.bytes().any(|byte| byte.is_ascii_uppercase()), "{text} -> {name}");
            assert_eq!(Host::parse_authority(name).expect("a host is an authority").as_str(), name, "{text}");
        }
    });
}
