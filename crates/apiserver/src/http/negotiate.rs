//! What representation a client wants (SPEC 60 §4.1). Pure.

use http::HeaderMap;
use http::header::{ACCEPT, USER_AGENT};

use crate::request_info::Query;
use crate::status::ApiError;

/// Serialization of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    Yaml,
}

impl Format {
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
        }
    }
}

/// Version of `meta.k8s.io` that a transformed answer is labeled with; the bodies are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaVersion {
    V1,
    V1Beta1,
}

impl MetaVersion {
    pub fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "meta.k8s.io/v1",
            Self::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// Form of the answer's objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Whole,
    Table(MetaVersion),
    /// `PartialObjectMetadata`, one or a list of them.
    Metadata(MetaVersion),
}

/// The representation chosen for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Representation {
    pub format: Format,
    pub shape: Shape,
    /// Indented JSON.
    pub pretty: bool,
}

impl Representation {
    pub const JSON: Self = Self { format: Format::Json, shape: Shape::Whole, pretty: false };
}

/// One media range of an `Accept` header: type in lower case, parameters in any order.
#[derive(Debug)]
pub struct MediaRange<'a> {
    pub media_type: String,
    parameters: Vec<(&'a str, &'a str)>,
}

impl MediaRange<'_> {
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    fn is_json(&self) -> bool {
        matches!(self.media_type.as_str(), "application/json" | "application/*" | "*/*")
    }

    /// The `as;g;v` triple as a shape; `None` when the range asks for something we do not make.
    fn shape(&self) -> Option<Shape> {
        let Some(wanted) = self.parameter("as") else { return Some(Shape::Whole) };
        if self.parameter("g") != Some("meta.k8s.io") {
            return None;
        }
        let version = match self.parameter("v") {
            Some("v1") => MetaVersion::V1,
            Some("v1beta1") => MetaVersion::V1Beta1,
            _ => return None,
        };
        match wanted {
            "Table" => Some(Shape::Table(version)),
            "PartialObjectMetadata" | "PartialObjectMetadataList" => Some(Shape::Metadata(version)),
            _ => None,
        }
    }
}

/// The media ranges of all `Accept` headers in order; none when there is no header. `;q=` is ignored, as upstream does.
pub fn media_ranges(headers: &HeaderMap) -> Vec<MediaRange<'_>> {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| {
            let mut parts = range.split(';');
            let media_type =
                parts.next().map(|part| part.trim().to_ascii_lowercase()).filter(|part| !part.is_empty())?;
            let parameters = parts
                .filter_map(|part| part.split_once('='))
                .map(|(key, value)| (key.trim(), value.trim().trim_matches('"')))
                .collect();
            Some(MediaRange { media_type, parameters })
        })
        .collect()
}

/// Chooses the representation: the first acceptable range wins.
///
/// # Errors
/// 406 when nothing we make is acceptable.
pub fn negotiate(headers: &HeaderMap, query: &Query) -> Result<Representation, ApiError> {
    let pretty = wants_pretty(headers, query);
    let ranges = media_ranges(headers);
    if ranges.is_empty() {
        return Ok(Representation { pretty, ..Representation::JSON });
    }
    for range in &ranges {
        if range.is_json()
            && let Some(shape) = range.shape()
        {
            return Ok(Representation { format: Format::Json, shape, pretty });
        }
        if range.media_type == "application/yaml" && range.parameter("as").is_none() {
            return Ok(Representation { format: Format::Yaml, shape: Shape::Whole, pretty });
        }
    }
    Err(ApiError::not_acceptable())
}

/// For a watch, which is framed in JSON only.
///
/// # Errors
/// 406 as [`negotiate`], also when only YAML is accepted.
pub fn negotiate_watch(headers: &HeaderMap, query: &Query) -> Result<Representation, ApiError> {
    let ranges = media_ranges(headers);
    let json = ranges.iter().filter(|range| range.is_json()).find_map(MediaRange::shape);
    match json {
        Some(shape) => Ok(Representation { shape, ..Representation::JSON }),
        None if ranges.is_empty() => Ok(Representation { pretty: false, ..negotiate(headers, query)? }),
        None => Err(ApiError::not_acceptable()),
    }
}

/// The format errors are sent in: whatever the client accepts, else JSON.
pub fn error_format(headers: &HeaderMap) -> Format {
    for range in media_ranges(headers) {
        if range.is_json() {
            return Format::Json;
        }
        if range.media_type == "application/yaml" {
            return Format::Yaml;
        }
    }
    Format::Json
}

/// Whether an aggregated discovery document is acceptable, and under which of its two version names (SPEC 60 §5.2).
pub fn aggregated_discovery(headers: &HeaderMap) -> Option<&'static str> {
    for range in media_ranges(headers) {
        if !range.is_json() {
            continue;
        }
        match (range.parameter("as"), range.parameter("g"), range.parameter("v")) {
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2")) => return Some("v2"),
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2beta1")) => return Some("v2beta1"),
            (None, ..) => return None,
            _ => {}
        }
    }
    None
}

fn wants_pretty(headers: &HeaderMap, query: &Query) -> bool {
    if query.has("pretty") {
        return query.flag("pretty");
    }
    headers
        .get(USER_AGENT)
        .and_then(|agent| agent.to_str().ok())
        .is_some_and(|agent| agent.starts_with("curl") || agent.starts_with("Wget"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, value.parse().unwrap());
        headers
    }

    #[test]
    fn the_first_acceptable_range_wins() {
        let table = Shape::Table(MetaVersion::V1);
        for (value, format, shape) in [
            ("application/json", Format::Json, Shape::Whole),
            ("*/*", Format::Json, Shape::Whole),
            ("application/yaml", Format::Yaml, Shape::Whole),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Format::Json,
                table,
            ),
            ("application/json; g=meta.k8s.io; as=Table; v=v1beta1", Format::Json, Shape::Table(MetaVersion::V1Beta1)),
            ("application/vnd.kubernetes.protobuf,application/json", Format::Json, Shape::Whole),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Format::Json,
                Shape::Metadata(MetaVersion::V1),
            ),
            ("application/json;as=Other;g=meta.k8s.io;v=v1, application/yaml", Format::Yaml, Shape::Whole),
            ("text/html;q=1, application/json;q=0.1", Format::Json, Shape::Whole),
        ] {
            let chosen = negotiate(&accept(value), &Query::default()).unwrap();
            assert_eq!((chosen.format, chosen.shape), (format, shape), "{value}");
        }
        assert_eq!(negotiate(&HeaderMap::new(), &Query::default()).unwrap(), Representation::JSON);
    }

    #[test]
    fn what_we_do_not_make_is_not_acceptable() {
        for value in [
            "application/vnd.kubernetes.protobuf",
            "application/cbor",
            "text/html",
            "application/json;as=Table;v=v2;g=meta.k8s.io",
        ] {
            assert_eq!(negotiate(&accept(value), &Query::default()).unwrap_err().code, 406, "{value}");
        }
        assert_eq!(negotiate_watch(&accept("application/yaml"), &Query::default()).unwrap_err().code, 406);
        let watch = negotiate_watch(&accept("application/json;stream=watch"), &Query::default()).unwrap();
        assert_eq!(watch.shape, Shape::Whole);
    }

    #[test]
    fn people_get_indented_json() {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, "curl/8.1".parse().unwrap());
        assert!(negotiate(&headers, &Query::default()).unwrap().pretty);
        assert!(!negotiate(&headers, &Query::parse("pretty=false").unwrap()).unwrap().pretty);
        assert!(negotiate(&HeaderMap::new(), &Query::parse("pretty=true").unwrap()).unwrap().pretty);
    }

    #[test]
    fn both_names_of_aggregated_discovery_are_known() {
        let v = |version: &str| format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
        assert_eq!(
            aggregated_discovery(&accept(&format!("{},{},application/json", v("v2"), v("v2beta1")))),
            Some("v2")
        );
        assert_eq!(aggregated_discovery(&accept(&format!("{},application/json", v("v2beta1")))), Some("v2beta1"));
        assert_eq!(aggregated_discovery(&accept(&format!("{},application/json", v("v9")))), None);
        assert_eq!(aggregated_discovery(&accept("application/json")), None);
    }
}
