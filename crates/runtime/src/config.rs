//! Configuration from flags, environment, file and defaults, in this precedence (`80` section 10).
//!
//! One typed value per process is parsed once and passed on. A key is known because the type has it: the names of the
//! variables follow from the serialized default (`exposure.jwt.requireExp` <-> `TIDEGATE_EXPOSURE_JWT_REQUIRE_EXP`), so
//! there is no second list to keep. This module reads no environment itself; the binary passes it in.

pub mod duration;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Everything that configuration is loaded from.
#[derive(Clone, Debug, Default)]
pub struct Sources<'a> {
    /// Name (for messages) and text of the file.
    pub file: Option<(&'a str, &'a str)>,
    /// The environment: all variables; those without the prefix are looked at only as aliases.
    pub environment: &'a [(String, String)],
    /// Values of flags that were given: the key's path, the flag (for messages), the value.
    pub flags: &'a [(&'a str, &'a str, Value)],
    /// Variable names of the original products, and the key's path that each of them sets.
    pub aliases: &'a [(&'a str, &'a str)],
    /// Variables with the prefix that are not keys of the file.
    pub other_variables: &'a [&'a str],
}

/// The loaded configuration.
#[derive(Clone, Debug)]
pub struct Loaded<C> {
    /// The effective values.
    pub config: C,
    /// Path of each key that does not have its default, and where its value came from.
    pub origins: BTreeMap<String, Origin>,
    /// What the operator should know; none of it prevents a start.
    pub warnings: Vec<String>,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The file.
    File,
    /// A variable of this name.
    Environment(String),
    /// A flag, as `--http`.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => formatter.write_str("file"),
            Self::Environment(name) => write!(formatter, "environment {name}"),
            Self::Flag(name) => write!(formatter, "flag {name}"),
        }
    }
}

/// Why configuration was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A key that does not exist.
    #[error("{file} line {line}, column {column}: unknown key `{key}`{}", suggestion(nearest.as_deref()))]
    UnknownKey {
        /// Name of the file.
        file: String,
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: u64,
        /// The key.
        key: String,
        /// The known key of that section that looks most like it.
        nearest: Option<String>,
    },
    /// The file is not YAML or a value has the wrong form.
    #[error("{file} line {line}, column {column}: {problem}")]
    File {
        /// Name of the file.
        file: String,
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: u64,
        /// What is wrong.
        problem: String,
    },
    /// A variable's or flag's value has the wrong form.
    #[error("{origin}: `{value}` is not a value of `{key}`: {problem}")]
    Value {
        /// Variable or flag.
        origin: String,
        /// As given.
        value: String,
        /// Path of the key.
        key: String,
        /// What is wrong.
        problem: String,
    },
}

const PREFIX: &str = "TIDEGATE_";

/// Loads a configuration.
pub fn load<C: Serialize + DeserializeOwned + Default>(sources: &Sources<'_>) -> Result<Loaded<C>, ConfigError> {
    let defaults = to_value(&C::default());
    let mut keys = Vec::new();
    leaves(&defaults, "", &mut |path, _| keys.push(path.to_owned()));

    let mut origins = BTreeMap::new();
    let mut warnings = Vec::new();
    let mut config = C::default();
    if let Some((name, text)) = sources.file {
        config = parse_file(name, text)?;
        note_file_keys(text, &keys, &mut origins);
    }
    let mut values = to_value(&config);

    for (alias, path) in sources.aliases {
        let Some((_, text)) = sources.environment.iter().find(|(name, _)| name == alias) else { continue };
        let variable = variable_of(path);
        if sources.environment.iter().any(|(name, _)| *name == variable) {
            continue;
        }
        warnings.push(format!("variable `{alias}` is accepted; its name here is `{variable}`"));
        config = set_text(&mut values, &defaults, path, text, &format!("environment {alias}"))?;
        origins.insert((*path).to_owned(), Origin::Environment((*alias).to_owned()));
    }
    let variables: BTreeMap<String, &String> = keys.iter().map(|path| (variable_of(path), path)).collect();
    for (name, text) in sources.environment {
        if !name.starts_with(PREFIX) || sources.other_variables.contains(&name.as_str()) {
            continue;
        }
        if let Some(path) = variables.get(name) {
            config = set_text(&mut values, &defaults, path, text, &format!("environment {name}"))?;
            origins.insert((*path).clone(), Origin::Environment(name.clone()));
        } else {
            let known = variables.keys().map(String::as_str).chain(sources.other_variables.iter().copied());
            warnings.push(format!("unknown variable `{name}` is ignored{}", suggestion(nearest(name, known))));
        }
    }
    for (path, flag, value) in sources.flags {
        set(&mut values, path, value.clone());
        config = from_value(&values).map_err(|problem| wrong_value(&format!("flag {flag}"), value, path, problem))?;
        origins.insert((*path).to_owned(), Origin::Flag((*flag).to_owned()));
    }
    Ok(Loaded { config, origins, warnings })
}

/// Every key of `config` with its value, in the order of the type.
pub fn flattened<C: Serialize>(config: &C) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    leaves(&to_value(config), "", &mut |path, value| all.push((path.to_owned(), value.clone())));
    all
}

/// The variable that sets the key at `path`.
pub fn variable_of(path: &str) -> String {
    let mut name = PREFIX.to_owned();
    for character in path.chars() {
        match character {
            '.' => name.push('_'),
            upper if upper.is_ascii_uppercase() => {
                name.push('_');
                name.push(upper);
            }
            other => name.push(other.to_ascii_uppercase()),
        }
    }
    name
}

/// The candidate that looks most like `word`, if any looks like it at all.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance * 2 <= word.len().max(candidate.len()))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map(|key| format!(", did you mean `{key}`?")).unwrap_or_default()
}

fn parse_file<C: DeserializeOwned + Default>(name: &str, text: &str) -> Result<C, ConfigError> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(C::default());
    }
    serde_saphyr::from_str(text).map_err(|error| {
        let (line, column) = error.location().map_or((1, 1), |location| (location.line(), location.column()));
        let file = name.to_owned();
        match error.without_snippet() {
            serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => ConfigError::UnknownKey {
                file,
                line,
                column,
                key: field.clone(),
                nearest: nearest(field, expected.iter().copied()).map(str::to_owned),
            },
            other => {
                let problem = other.to_string();
                // Some of the parser's messages end with the place, which is said already.
                let problem = problem.split(" at line ").next().unwrap_or(&problem).trim().to_owned();
                ConfigError::File { file, line, column, problem }
            }
        }
    })
}

fn note_file_keys(text: &str, keys: &[String], origins: &mut BTreeMap<String, Origin>) {
    // The typed reading succeeded, so the untyped one does, and every key in it is known.
    let Ok(tree) = serde_saphyr::from_str::<Value>(text) else { return };
    for key in keys {
        let found = key.split('.').try_fold(&tree, |node, part| node.get(part));
        if found.is_some() {
            origins.insert(key.clone(), Origin::File);
        }
    }
}

/// Sets a key from text; the form of its default says how the text is read.
fn set_text<C: DeserializeOwned>(
    values: &mut Value,
    defaults: &Value,
    path: &str,
    text: &str,
    origin: &str,
) -> Result<C, ConfigError> {
    let plain = Value::String(text.to_owned());
    let parsed = || serde_saphyr::from_str::<Value>(text).unwrap_or(Value::Null);
    let default = path.split('.').try_fold(defaults, |node, part| node.get(part)).unwrap_or(&Value::Null);
    let candidates = match default {
        Value::String(_) => vec![plain],
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => vec![parsed()],
        Value::Array(_) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            vec![items.map(|item| Value::String(item.to_owned())).collect()]
        }
        Value::Null => vec![plain, parsed()],
    };
    let mut problem = String::new();
    for candidate in candidates {
        let mut attempt = values.clone();
        set(&mut attempt, path, candidate);
        match from_value(&attempt) {
            Ok(config) => {
                *values = attempt;
                return Ok(config);
            }
            Err(error) => problem = error,
        }
    }
    Err(wrong_value(origin, &Value::String(text.to_owned()), path, problem))
}

fn wrong_value(origin: &str, value: &Value, key: &str, problem: String) -> ConfigError {
    let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    ConfigError::Value { origin: origin.to_owned(), value, key: key.to_owned(), problem }
}

fn set(values: &mut Value, path: &str, value: Value) {
    let mut node = values;
    for part in path.split('.') {
        if !node.is_object() {
            *node = Value::Object(serde_json::Map::new());
        }
        let Some(map) = node.as_object_mut() else { return };
        node = map.entry(part).or_insert(Value::Null);
    }
    *node = value;
}

fn leaves(node: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    match node {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                leaves(value, &path, visit);
            }
        }
        leaf => visit(path, leaf),
    }
}

fn to_value<C: Serialize>(config: &C) -> Value {
    serde_json::to_value(config).expect("configuration types have string keys only")
}

fn from_value<C: DeserializeOwned>(value: &Value) -> Result<C, String> {
    C::deserialize(value).map_err(|error| error.to_string())
}

/// Edit distance with transpositions of neighbors counted as one.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let at = |cells: &[usize], index: usize| cells.get(index).copied().unwrap_or(usize::MAX - 1);
            let mut cost = (at(&above, j) + usize::from(a != b)).min(at(&above, j + 1) + 1).min(at(&row, j) + 1);
            let is_swap = i > 0 && j > 0 && left.get(i - 1) == Some(b) && right.get(j - 1) == Some(a);
            if is_swap {
                cost = cost.min(at(&before, j - 1) + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
