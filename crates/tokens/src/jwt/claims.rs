//! What a token says.

use std::collections::HashMap;

use serde_json::Value;
use serde_json::value::RawValue;

use super::{JwtError, Member, object};

/// The registered claims that we use, and scopes. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claims {
    /// `iss`; `None` when absent or not a string.
    pub issuer: Option<String>,
    /// `sub`; `None` when absent or not a string.
    pub subject: Option<String>,
    /// `aud`: a single string is a list of one; anything but strings is no audience.
    pub audience: Vec<String>,
    /// `scope`, `scp` and `scopes` together: strings are split at spaces, lists taken as they are.
    pub scopes: Vec<String>,
    /// `exp`.
    pub expires_at: Option<i64>,
    /// `nbf`.
    pub not_before: Option<i64>,
    /// `iat`.
    pub issued_at: Option<i64>,
}

#[derive(serde::Deserialize)]
struct Payload<'a> {
    #[serde(borrow, default)]
    iss: Member<'a>,
    #[serde(borrow, default)]
    sub: Member<'a>,
    #[serde(borrow, default)]
    aud: Member<'a>,
    #[serde(borrow, default)]
    exp: Member<'a>,
    #[serde(borrow, default)]
    nbf: Member<'a>,
    #[serde(borrow, default)]
    iat: Member<'a>,
    #[serde(borrow, default)]
    scope: Member<'a>,
    #[serde(borrow, default)]
    scp: Member<'a>,
    #[serde(borrow, default)]
    scopes: Member<'a>,
}

impl Claims {
    /// Row 4 of `SPEC 30 §5.2`.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, JwtError> {
        let payload: Payload<'_> = object(payload).ok_or(JwtError::PayloadNotJson)?;
        let expires_at = integer(&payload.exp, JwtError::PayloadExp)?;
        let not_before = integer(&payload.nbf, JwtError::PayloadNbf)?;
        let issued_at = integer(&payload.iat, JwtError::PayloadIat)?;
        let mut scopes = Vec::new();
        for member in [payload.scope, payload.scp, payload.scopes] {
            match member {
                Member::Text(text) => {
                    scopes.extend(text.split(' ').filter(|s| !s.is_empty()).map(str::to_owned));
                }
                Member::Texts(list) => scopes.extend(list),
                Member::Absent | Member::Integer(_) | Member::Other => {}
            }
        }
        Ok(Self {
            issuer: text(payload.iss),
            subject: text(payload.sub),
            audience: match payload.aud {
                Member::Text(one) => vec![one.into_owned()],
                Member::Texts(list) => list,
                Member::Absent | Member::Integer(_) | Member::Other => Vec::new(),
            },
            scopes,
            expires_at,
            not_before,
            issued_at,
        })
    }
}

fn text(member: Member<'_>) -> Option<String> {
    match member {
        Member::Text(text) => Some(text.into_owned()),
        Member::Absent | Member::Integer(_) | Member::Texts(_) | Member::Other => None,
    }
}

fn integer(member: &Member<'_>, error: JwtError) -> Result<Option<i64>, JwtError> {
    match member {
        Member::Absent => Ok(None),
        Member::Integer(number) => Ok(Some(*number)),
        Member::Text(_) | Member::Texts(_) | Member::Other => Err(error),
    }
}

/// See [`super::UnverifiedJwt::claim_text`].
pub(super) fn claim_text(payload: &[u8], name: &str) -> Option<String> {
    let members: HashMap<String, &RawValue> = serde_json::from_slice(payload).ok()?;
    match serde_json::from_str(members.get(name)?.get()).ok()? {
        Value::Array(elements) => {
            elements.iter().map(scalar).collect::<Option<Vec<_>>>().map(|elements| elements.join(","))
        }
        value => scalar(&value),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
