//! Dependency direction: arrows go down the layer table only, and two service crates never see each other.
//!
//! The manifests are read through `cargo metadata`; what an enabled feature really reaches is asked of `cargo tree`,
//! because optional dependencies that nothing enables stand in the lock file too.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// Layer of each crate; a crate may depend on lower layers, and inside layers 0 and 1 on the crates listed for it.
const LAYERS: &[(&str, u8, &[&str])] = &[
    ("kinds", 0, &[]),
    ("policy", 0, &["kinds"]),
    ("tokens", 0, &[]),
    ("pki", 0, &[]),
    ("runtime", 1, &["pki", "policy"]),
    ("apiserver", 2, &[]),
    ("exposure", 2, &[]),
    ("gateway", 2, &[]),
    ("tidegate", 3, &[]),
    ("testkit", 4, &[]),
    ("bench", 4, &["testkit"]),
];

/// Crates that no build of the product may reach.
const BANNED: &[&str] = &["ring", "openssl", "openssl-sys", "native-tls", "rsa", "serde_yaml", "chrono"];

/// Crates that the pure core may not reach.
const BANNED_IN_CORE: &[&str] = &["tokio", "hyper", "axum", "rusqlite"];

/// Crates that only some manifests may name, so that a change of other code does not wait for them to compile.
const CONFINED: &[(&str, &[&str])] = &[("rusqlite", &["tidegate-apiserver"])];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

/// Checks every rule and returns the number of workspace crates looked at.
///
/// # Errors
/// Names every offending edge at once.
pub(crate) fn check() -> Result<usize> {
    let metadata: Metadata =
        serde_json::from_slice(&cargo(&["metadata", "--format-version=1", "--no-deps", "--locked"])?)?;
    let mut problems = direction_problems(&metadata);
    for name in BANNED {
        if reaches(&["--workspace"], name)? {
            problems.push(format!("banned crate `{name}` is reached: cargo tree -i {name}"));
        }
    }
    for (core, ..) in LAYERS.iter().filter(|(_, layer, _)| *layer == 0) {
        for name in BANNED_IN_CORE {
            if reaches(&["-p", &format!("tidegate-{core}")], name)? {
                problems.push(format!("pure crate `{core}` reaches `{name}`"));
            }
        }
    }
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(metadata.packages.len())
}

fn direction_problems(metadata: &Metadata) -> Vec<String> {
    let layers: BTreeMap<String, (u8, &[&str])> =
        LAYERS.iter().map(|(name, layer, peers)| (package_name(name), (*layer, *peers))).collect();
    let mut problems = Vec::new();
    for package in &metadata.packages {
        let Some((layer, peers)) = layers.get(&package.name) else {
            if package.name != "xtask" {
                problems.push(format!("crate `{}` has no layer: add it to the table", package.name));
            }
            continue;
        };
        for dependency in package.dependencies.iter().filter(|dependency| dependency.kind.as_deref() != Some("dev")) {
            let allowed = CONFINED.iter().find(|(name, _)| *name == dependency.name).map(|(_, packages)| *packages);
            if allowed.is_some_and(|packages| !packages.contains(&package.name.as_str())) {
                problems.push(format!("`{}` may not name `{}`", package.name, dependency.name));
            }
            let Some((target, _)) = layers.get(&dependency.name) else { continue };
            let listed = dependency.name.strip_prefix("tidegate-").is_some_and(|name| peers.contains(&name));
            if target >= layer && !listed {
                problems.push(format!(
                    "`{}` (layer {layer}) depends on `{}` (layer {target})",
                    package.name, dependency.name
                ));
            }
        }
    }
    problems
}

/// The package of a crate's folder; the binary bears the product's name alone.
fn package_name(folder: &str) -> String {
    if folder == "tidegate" { folder.to_owned() } else { format!("tidegate-{folder}") }
}

/// Whether normal dependencies of the selected packages reach crate `name` with the features that are enabled.
fn reaches(selection: &[&str], name: &str) -> Result<bool> {
    let mut arguments = vec!["tree", "--locked", "--edges=normal", "--prefix=none", "--format={p}", "--no-dedupe"];
    arguments.extend(selection);
    let tree = String::from_utf8(cargo(&arguments)?)?;
    Ok(tree.lines().any(|line| line.split(' ').next() == Some(name)))
}

fn cargo(arguments: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new("cargo").args(arguments).output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("cargo {} failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        let dependencies = dependencies
            .iter()
            .map(|(name, kind)| Dependency { name: (*name).to_owned(), kind: kind.map(str::to_owned) })
            .collect();
        Package { name: name.to_owned(), dependencies }
    }

    #[test]
    fn a_service_crate_may_not_depend_on_another_service_crate() {
        let metadata = Metadata { packages: vec![package("tidegate-gateway", &[("tidegate-exposure", None)])] };
        assert_eq!(
            direction_problems(&metadata),
            ["`tidegate-gateway` (layer 2) depends on `tidegate-exposure` (layer 2)"]
        );
    }

    #[test]
    fn a_database_driver_stays_in_its_crate() {
        let uses = |name| Metadata { packages: vec![package(name, &[("rusqlite", None)])] };
        assert_eq!(direction_problems(&uses("tidegate-gateway")), ["`tidegate-gateway` may not name `rusqlite`"]);
        assert!(direction_problems(&uses("tidegate-apiserver")).is_empty());
    }

    #[test]
    fn test_only_dependencies_and_lower_layers_are_free() {
        let metadata = Metadata {
            packages: vec![
                package("tidegate-gateway", &[("tidegate-policy", None), ("tidegate-testkit", Some("dev"))]),
                package("tidegate-policy", &[("tidegate-kinds", None)]),
            ],
        };
        assert!(direction_problems(&metadata).is_empty());
    }

    #[test]
    fn a_crate_without_a_layer_is_named() {
        let metadata = Metadata { packages: vec![package("tidegate-surprise", &[])] };
        assert_eq!(direction_problems(&metadata), ["crate `tidegate-surprise` has no layer: add it to the table"]);
    }
}
