use serde_json::json;

use super::*;

fn refused(text: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    std::fs::write(&path, text).unwrap();
    let message = load(Some(&path), &[], &[]).unwrap_err().to_string();
    message.replace(&path.display().to_string(), "c.yaml")
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let settings = load(None, &[], &[]).unwrap().config;
    let listeners: Vec<String> = settings.listeners().iter().map(|(key, listen)| format!("{key}={listen}")).collect();
    assert_eq!(
        listeners,
        [
            "http=127.0.0.1:8080",
            "https=127.0.0.1:8443",
            "kube=127.0.0.1:6443",
            "outbound=127.0.0.1:8082",
            "admin=127.0.0.1:4445",
            "decisions=127.0.0.1:4456"
        ]
    );
    assert_eq!(settings.domain, "localhost");
    assert_eq!(settings.data_dir, PathBuf::from("./.tidegate"));
}

#[test]
fn every_variable_of_the_contract_is_known() {
    let variables = [
        ("TIDEGATE_DATA_DIR", "/tmp/x"),
        ("TIDEGATE_DOMAIN", "apps.test"),
        ("TIDEGATE_HTTP", "127.0.0.1:0"),
        ("TIDEGATE_HTTPS", "127.0.0.1:0"),
        ("TIDEGATE_KUBE", "127.0.0.1:0"),
        ("TIDEGATE_OUTBOUND", "off"),
        ("TIDEGATE_ADMIN", "localhost:0"),
        ("TIDEGATE_DECISIONS", "off"),
        ("TIDEGATE_ADMIN_PASSWORD", "x"),
    ];
    let environment: Vec<_> = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let loaded = load(None, &environment, &[("http", "--http", json!("127.0.0.1:9"))]).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(loaded.config.decisions, Listen::Off);
    assert_eq!(loaded.config.http, Listen::loopback(9));
    assert_eq!(loaded.config.admin, Listen::loopback(0));
}

#[test]
fn mistakes_are_named_with_their_place() {
    assert_eq!(
        refused("exposure:\n  jwks_ttl: 5m\n"),
        "error: c.yaml line 2, column 3: unknown key `jwks_ttl`, did you mean `jwksTtl`?\n  try       tidegate config default"
    );
    assert!(refused("http: somewhere\n").contains("c.yaml line 1, column 7: `somewhere` is not an address"));
    let all = refused(
        "domain: Not_A_Domain\nadmin: off\nhttp: 127.0.0.1:1\nhttps: 0.0.0.0:1\nexposure: {jwt: {missingTokenStatus: 200}}\n",
    );
    for part in [
        "domain: `Not_A_Domain`",
        "admin: cannot be `off`",
        "https: `0.0.0.0:1` is also the address of `http`",
        "exposure.jwt.missingTokenStatus: `200`",
    ] {
        assert!(all.contains(part), "{part} in {all}");
    }
}
