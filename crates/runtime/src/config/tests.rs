use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    domain: String,
    domains: Vec<String>,
    http: Option<String>,
    exposure: Exposure,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Exposure {
    require_exp: bool,
    #[serde(with = "duration")]
    jwks_ttl: Duration,
    max_body: u64,
    status: Option<u16>,
}

impl Default for Exposure {
    fn default() -> Self {
        Self { require_exp: true, jwks_ttl: Duration::from_mins(5), max_body: 0, status: None }
    }
}

fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn refused(text: &str) -> String {
    let sources = Sources { file: Some(("c.yaml", text)), ..Sources::default() };
    load::<Config>(&sources).unwrap_err().to_string()
}

#[test]
fn flag_wins_over_environment_over_file_over_default() {
    let environment = environment(&[("TIDEGATE_DOMAIN", "from-env"), ("TIDEGATE_HTTP", "e"), ("PATH", "/bin")]);
    let flags = [("http", "--http", json!("from-flag"))];
    let loaded = load::<Config>(&Sources {
        file: Some(("c.yaml", "domain: from-file\nhttp: f\nexposure:\n  maxBody: 7\n")),
        environment: &environment,
        flags: &flags,
        ..Sources::default()
    })
    .unwrap();
    assert_eq!(loaded.config.domain, "from-env");
    assert_eq!(loaded.config.http.as_deref(), Some("from-flag"));
    assert_eq!(loaded.config.exposure, Exposure { max_body: 7, ..Exposure::default() });
    let origins: Vec<String> = loaded.origins.iter().map(|(key, origin)| format!("{key}: {origin}")).collect();
    assert_eq!(origins, ["domain: environment TIDEGATE_DOMAIN", "exposure.maxBody: file", "http: flag --http"]);
    assert!(loaded.warnings.is_empty());
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_the_nearest_key() {
    assert_eq!(
        refused("domain: a\ndomian: b\n"),
        "c.yaml line 2, column 1: unknown key `domian`, did you mean `domain`?"
    );
    assert_eq!(
        refused("exposure:\n  jwksTTL: 5m\n"),
        "c.yaml line 2, column 3: unknown key `jwksTTL`, did you mean `jwksTtl`?"
    );
    assert_eq!(refused("zzzzzz: 1\n"), "c.yaml line 1, column 1: unknown key `zzzzzz`");
}

#[test]
fn a_wrong_value_is_refused_with_its_place() {
    let text = refused("exposure:\n  jwksTtl: 5\n");
    assert!(text.starts_with("c.yaml line 2, column 12: "), "{text}");
    assert!(text.contains("`5` is not a duration such as"), "{text}");
    assert!(refused("exposure:\n  maxBody: many\n").starts_with("c.yaml line 2, column 12: "));
    assert!(refused("domain: [\n").starts_with("c.yaml line "));
    assert!(refused("domain: a\ndomain: b\n").starts_with("c.yaml line 2, column 1: "));
}

#[test]
fn an_empty_file_changes_nothing() {
    for text in ["", "\n\n", "# a comment\n  # another\n"] {
        let sources = Sources { file: Some(("c.yaml", text)), ..Sources::default() };
        assert_eq!(load::<Config>(&sources).unwrap().config, Config::default());
    }
}

#[test]
fn variables_are_read_in_the_form_of_their_key() {
    let environment = environment(&[
        ("TIDEGATE_DOMAINS", "a.test, b.test"),
        ("TIDEGATE_EXPOSURE_REQUIRE_EXP", "false"),
        ("TIDEGATE_EXPOSURE_JWKS_TTL", "30s"),
        ("TIDEGATE_EXPOSURE_MAX_BODY", "12"),
        ("TIDEGATE_EXPOSURE_STATUS", "403"),
        ("TIDEGATE_HTTP", "8080"),
    ]);
    let loaded = load::<Config>(&Sources { environment: &environment, ..Sources::default() }).unwrap();
    let expected = Config {
        domain: String::new(),
        domains: vec!["a.test".to_owned(), "b.test".to_owned()],
        http: Some("8080".to_owned()),
        exposure: Exposure { require_exp: false, jwks_ttl: Duration::from_secs(30), max_body: 12, status: Some(403) },
    };
    assert_eq!(loaded.config, expected);
}

#[test]
fn a_wrong_variable_is_an_error_and_an_unknown_one_a_warning() {
    let wrong = environment(&[("TIDEGATE_EXPOSURE_MAX_BODY", "many")]);
    let error = load::<Config>(&Sources { environment: &wrong, ..Sources::default() }).unwrap_err().to_string();
    assert!(
        error.starts_with("environment TIDEGATE_EXPOSURE_MAX_BODY: `many` is not a value of `exposure.maxBody`: "),
        "{error}"
    );
    let unknown = environment(&[("TIDEGATE_DOMIAN", "x"), ("TIDEGATE_CONFIG", "c.yaml"), ("DOMAIN", "x")]);
    let sources = Sources { environment: &unknown, other_variables: &["TIDEGATE_CONFIG"], ..Sources::default() };
    let loaded = load::<Config>(&sources).unwrap();
    assert_eq!(loaded.warnings, ["unknown variable `TIDEGATE_DOMIAN` is ignored, did you mean `TIDEGATE_DOMAIN`?"]);
}

#[test]
fn an_original_name_is_accepted_with_a_warning_and_yields_to_ours() {
    let aliases = [("DOMAIN_NAME", "domain")];
    let alias = environment(&[("DOMAIN_NAME", "old.test")]);
    let loaded = load::<Config>(&Sources { environment: &alias, aliases: &aliases, ..Sources::default() }).unwrap();
    assert_eq!(loaded.config.domain, "old.test");
    assert_eq!(loaded.warnings, ["variable `DOMAIN_NAME` is accepted; its name here is `TIDEGATE_DOMAIN`"]);
    let both = environment(&[("DOMAIN_NAME", "old.test"), ("TIDEGATE_DOMAIN", "new.test")]);
    let loaded = load::<Config>(&Sources { environment: &both, aliases: &aliases, ..Sources::default() }).unwrap();
    assert_eq!(loaded.config.domain, "new.test");
}

#[test]
fn names_of_variables_follow_from_paths() {
    assert_eq!(variable_of("dataDir"), "TIDEGATE_DATA_DIR");
    assert_eq!(variable_of("exposure.jwt.requireExp"), "TIDEGATE_EXPOSURE_JWT_REQUIRE_EXP");
    let paths: Vec<String> = flattened(&Config::default()).into_iter().map(|(path, _)| path).collect();
    assert!(paths.contains(&"exposure.jwksTtl".to_owned()), "{paths:?}");
}
