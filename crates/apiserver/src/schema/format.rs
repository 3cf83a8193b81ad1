//! The `format` keyword on strings. Unknown formats never fail.
//!
//! SPEC 60 §13.3: the list of known formats. Numeric formats (`int32`, `int64`, `float`) are ranges of numbers and are
//! checked with the numbers.

use std::net::{IpAddr, Ipv6Addr};

use base64::Engine as _;

/// A format that restricts strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    BsonObjectId,
    Uri,
    Email,
    Hostname,
    Ipv4,
    Ipv6,
    Cidr,
    Mac,
    /// Any version, or exactly the one given.
    Uuid(Option<u8>),
    /// 10 digits, 13 digits, or either.
    Isbn(Option<u8>),
    CreditCard,
    Ssn,
    HexColor,
    RgbColor,
    Byte,
    Date,
    DateTime,
    Duration,
}

impl Format {
    /// The format of that name; `None` for names without a check on strings.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "bsonobjectid" => Self::BsonObjectId,
            "uri" => Self::Uri,
            "email" => Self::Email,
            "hostname" => Self::Hostname,
            "ipv4" => Self::Ipv4,
            "ipv6" => Self::Ipv6,
            "cidr" => Self::Cidr,
            "mac" => Self::Mac,
            "uuid" => Self::Uuid(None),
            "uuid3" => Self::Uuid(Some(3)),
            "uuid4" => Self::Uuid(Some(4)),
            "uuid5" => Self::Uuid(Some(5)),
            "isbn" => Self::Isbn(None),
            "isbn10" => Self::Isbn(Some(10)),
            "isbn13" => Self::Isbn(Some(13)),
            "creditcard" => Self::CreditCard,
            "ssn" => Self::Ssn,
            "hexcolor" => Self::HexColor,
            "rgbcolor" => Self::RgbColor,
            "byte" => Self::Byte,
            "date" => Self::Date,
            "datetime" | "date-time" => Self::DateTime,
            "duration" => Self::Duration,
            _ => return None,
        })
    }

    /// Whether `text` has this format.
    pub(super) fn matches(self, text: &str) -> bool {
        match self {
            Self::BsonObjectId => text.len() == 24 && is_hex(text),
            Self::Uri => is_uri(text),
            Self::Email => is_email(text),
            Self::Hostname => is_hostname(text),
            // The dotted and the colon notation are what is meant, so a mapped address counts as both.
            Self::Ipv4 => text.contains('.') && text.parse::<IpAddr>().is_ok(),
            Self::Ipv6 => text.contains(':') && text.parse::<Ipv6Addr>().is_ok(),
            Self::Cidr => is_cidr(text),
            Self::Mac => is_mac(text),
            Self::Uuid(version) => is_uuid(text, version),
            Self::Isbn(digits) => is_isbn(text, digits),
            Self::CreditCard => is_credit_card(text),
            Self::Ssn => is_ssn(text),
            Self::HexColor => {
                let digits = text.strip_prefix('#').unwrap_or(text);
                matches!(digits.len(), 3 | 6) && is_hex(digits)
            }
            Self::RgbColor => is_rgb_color(text),
            Self::Byte => !text.is_empty() && base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
            Self::Date => is_date(text),
            Self::DateTime => is_date_time(text),
            Self::Duration => is_duration(text),
        }
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// An absolute URI or an absolute path, as in a request line.
fn is_uri(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|b| b < 0x20 || b == 0x7f) || !has_valid_escapes(text) {
        return false;
    }
    if text == "*" {
        return true;
    }
    let rest = match text.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => {
            if !rest.starts_with('/') {
                // Rootless, such as `mailto:a@b`: opaque.
                return true;
            }
            rest
        }
        _ if text.starts_with('/') => return true,
        _ => return false,
    };
    let Some(authority) = rest.strip_prefix("//") else {
        return true;
    };
    let end = authority.find(['/', '?', '#']).unwrap_or(authority.len());
    let authority = &authority[..end];
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (name, port) = if let Some(inner) = host.strip_prefix('[') {
        match inner.split_once(']') {
            Some((name, port)) => (name, port.strip_prefix(':').or_else(|| port.is_empty().then_some(""))),
            None => return false,
        }
    } else {
        host.split_once(':').map_or((host, Some("")), |(name, port)| (name, Some(port)))
    };
    let allowed = |b: u8| b >= 0x80 || b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:".contains(&b);
    name.bytes().all(allowed) && port.is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

fn has_valid_escapes(text: &str) -> bool {
    text.split('%')
        .skip(1)
        .all(|after| after.as_bytes().get(..2).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)))
}

/// `local@domain`, alone or as `Name <local@domain>`.
fn is_email(text: &str) -> bool {
    let text = text.trim();
    let address = match text.strip_suffix('>') {
        Some(inner) => match inner.rsplit_once('<') {
            Some((_, address)) => address,
            None => return false,
        },
        None => text,
    };
    let Some((local, domain)) = address.rsplit_once('@') else {
        return false;
    };
    let is_atom = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    let is_dotted = |text: &str| text.split('.').all(|part| !part.is_empty() && part.chars().all(is_atom));
    let is_quoted = local.len() > 1
        && local
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
            .is_some_and(|inside| !inside.contains(['"', '\\', '\n', '\r']));
    (is_quoted || is_dotted(local)) && is_dotted(domain)
}

fn is_hostname(text: &str) -> bool {
    if text.len() > 255 {
        return false;
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.chars().count())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c == '-' || c.is_ascii_alphanumeric() || (!c.is_ascii() && c.is_alphabetic()))
    };
    let mut labels = text.split('.');
    let last = labels.next_back().unwrap_or_default();
    let single = !text.contains('.');
    labels.all(is_label)
        && is_label(last)
        && (single || (last.chars().count() >= 2 && last.chars().all(char::is_alphabetic)))
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let max = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    is_digits(bits) && (bits == "0" || !bits.starts_with('0')) && bits.parse::<u8>().is_ok_and(|bits| bits <= max)
}

/// 6, 8 or 20 octets, as `aa:bb:..`, `aa-bb-..` or `aabb.ccdd...`.
fn is_mac(text: &str) -> bool {
    let octets = |separator: char, width: usize| {
        let mut count = 0;
        for group in text.split(separator) {
            if group.len() != width || !is_hex(group) {
                return 0;
            }
            count += width / 2;
        }
        count
    };
    [octets(':', 2), octets('-', 2), octets('.', 4)].iter().any(|count| matches!(count, 6 | 8 | 20))
}

fn is_uuid(text: &str, version: Option<u8>) -> bool {
    // Each of the four hyphens may be left out on its own.
    let mut rest = text;
    let mut groups = [""; 5];
    for (index, (group, width)) in groups.iter_mut().zip([8, 4, 4, 4, 12]).enumerate() {
        if index > 0 {
            rest = rest.strip_prefix('-').unwrap_or(rest);
        }
        let Some((head, tail)) = rest.split_at_checked(width) else {
            return false;
        };
        if !is_hex(head) {
            return false;
        }
        (*group, rest) = (head, tail);
    }
    let [_, _, third, fourth, _] = groups;
    let has_variant = fourth.starts_with(['8', '9', 'a', 'b', 'A', 'B']);
    rest.is_empty()
        && match version {
            None => true,
            Some(3) => third.starts_with('3'),
            Some(4) => third.starts_with('4') && has_variant,
            Some(_) => third.starts_with('5') && has_variant,
        }
}

fn is_isbn(text: &str, digits: Option<u8>) -> bool {
    let compact: String = text.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
    let ten = || {
        compact.len() == 10 && {
            let mut sum = 0;
            for (weight, b) in (1_u32..).zip(compact.bytes()) {
                sum += weight
                    * match b {
                        b'0'..=b'9' => u32::from(b - b'0'),
                        b'X' if weight == 10 => 10,
                        _ => return false,
                    };
            }
            sum % 11 == 0
        }
    };
    let thirteen = || {
        compact.len() == 13
            && is_digits(&compact)
            && compact
                .bytes()
                .zip([1_u32, 3].into_iter().cycle())
                .map(|(b, weight)| u32::from(b - b'0') * weight)
                .sum::<u32>()
                % 10
                == 0
    };
    match digits {
        Some(10) => ten(),
        Some(_) => thirteen(),
        None => ten() || thirteen(),
    }
}

fn is_credit_card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    let luhn: u32 = digits
        .iter()
        .rev()
        .zip([false, true].into_iter().cycle())
        .map(|(digit, doubled)| match (doubled, digit * 2) {
            (false, _) => *digit,
            (true, twice) if twice > 9 => twice - 9,
            (true, twice) => twice,
        })
        .sum();
    (13..=19).contains(&digits.len())
        && text.chars().all(|c| c.is_ascii_digit() || matches!(c, ' ' | '-'))
        && luhn.is_multiple_of(10)
}

fn is_ssn(text: &str) -> bool {
    let compact: String = text.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
    let separators_fit = {
        let bytes = text.as_bytes();
        let is_separator = |index: usize| bytes.get(index).is_some_and(|b| matches!(b, b' ' | b'-'));
        match text.len() {
            9 => true,
            10 => is_separator(3) || is_separator(5),
            11 => is_separator(3) && is_separator(6),
            _ => false,
        }
    };
    compact.len() == 9 && is_digits(&compact) && separators_fit
}

fn is_rgb_color(text: &str) -> bool {
    let Some(inside) = text.strip_prefix("rgb(").and_then(|rest| rest.strip_suffix(')')) else {
        return false;
    };
    let mut count = 0;
    inside.split(',').all(|part| {
        count += 1;
        let part = part.trim();
        is_digits(part) && (part == "0" || !part.starts_with('0')) && part.parse::<u8>().is_ok()
    }) && count == 3
}

fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    text.len() == 10
        && bytes.get(4) == Some(&b'-')
        && bytes.get(7) == Some(&b'-')
        && text.parse::<jiff::civil::Date>().is_ok()
}

/// RFC 3339 with a zone; no leap seconds.
fn is_date_time(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let Some((date, time)) = lower.split_once('t') else {
        return false;
    };
    let Some((clock, rest)) = time.split_at_checked(8) else {
        return false;
    };
    let two = |text: Option<&str>, max: u8| {
        text.is_some_and(|text| text.len() == 2 && is_digits(text) && text.parse::<u8>().is_ok_and(|n| n <= max))
    };
    let mut parts = clock.split(':');
    let clock_fits = two(parts.next(), 23) && two(parts.next(), 59) && two(parts.next(), 59) && parts.next().is_none();
    let zone = match rest.strip_prefix(['.', ',']) {
        Some(fraction) => {
            let end = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
            if end == 0 {
                return false;
            }
            &fraction[end..]
        }
        None => rest,
    };
    let zone_fits = zone == "z"
        || zone
            .strip_prefix(['+', '-'])
            .and_then(|offset| offset.split_once(':'))
            .is_some_and(|(hours, minutes)| two(Some(hours), 99) && two(Some(minutes), 99));
    is_date(date) && clock_fits && zone_fits
}

/// Go's notation (`1h2.5m`), or numbers with words (`3 days`).
fn is_duration(text: &str) -> bool {
    const UNITS: &[&str] = &[
        "ns",
        "us",
        "µs",
        "μs",
        "ms",
        "s",
        "m",
        "h",
        "nano",
        "nanos",
        "nanosecond",
        "nanoseconds",
        "micro",
        "micros",
        "microsecond",
        "microseconds",
        "milli",
        "millis",
        "millisecond",
        "milliseconds",
        "sec",
        "secs",
        "second",
        "seconds",
        "min",
        "mins",
        "minute",
        "minutes",
        "hr",
        "hour",
        "hours",
        "d",
        "day",
        "days",
        "w",
        "wk",
        "week",
        "weeks",
    ];
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned == "0" {
        return true;
    }
    let mut rest = unsigned.trim();
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number = &rest[..end];
        if !number.bytes().any(|b| b.is_ascii_digit()) || number.matches('.').count() > 1 {
            return false;
        }
        rest = rest[end..].trim_start();
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').unwrap_or(rest.len());
        if !UNITS.contains(&&rest[..end]) {
            return false;
        }
        rest = rest[end..].trim_start();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::Format;

    fn check(name: &str, matching: &[&str], other: &[&str]) {
        let format = Format::parse(name).unwrap_or_else(|| panic!("{name} is known"));
        for text in matching {
            assert!(format.matches(text), "{name} must accept {text:?}");
        }
        for text in other {
            assert!(!format.matches(text), "{name} must refuse {text:?}");
        }
    }

    #[test]
    fn every_known_format_accepts_and_refuses() {
        check("bsonobjectid", &["507f1f77bcf86cd799439011"], &["507f", ""]);
        check(
            "uri",
            &["http://a.b/c?d#e", "/a", "mailto:a@b", "https://[::1]:80/", "http://u:p@h:1", "*"],
            &["", "a", "http://a b/", "http://a:b/", "http://[::1", "http://a/%zz", "//\n"],
        );
        check("email", &["a@b", "a.b@c.de", "N <a@b.c>", "\"a b\"@c"], &["a", "a@", "@b", "a b@c", "a..b@c", "N <a@b"]);
        check("hostname", &["a", "a.bc", "a-b.example"], &["", "-a", "a-", "a..bc", "a.b", "a.1c", "a_b"]);
        check("ipv4", &["1.2.3.4"], &["::1", "1.2.3", "1.2.3.256"]);
        check("ipv6", &["::1", "fe80::1"], &["1.2.3.4", "fe80::1%lo", ":"]);
        check("cidr", &["10.0.0.0/8", "::/0"], &["10.0.0.0", "10.0.0.0/33", "10.0.0.0/08", "::/129"]);
        check(
            "mac",
            &["01:23:45:67:89:ab", "0123.4567.89ab", "01-23-45-67-89-ab-cd-ef"],
            &["01:23", "01:23:45:67:89:zz"],
        );
        check(
            "uuid",
            &["6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6ba7b8109dad11d180b400c04fd430c8"],
            &["6ba7b810", "x"],
        );
        check("uuid4", &["6ba7b810-9dad-41d1-80b4-00c04fd430c8"], &["6ba7b810-9dad-11d1-80b4-00c04fd430c8"]);
        check("uuid3", &["6ba7b810-9dad-31d1-80b4-00c04fd430c8"], &["6ba7b810-9dad-41d1-80b4-00c04fd430c8"]);
        check("uuid5", &["6ba7b810-9dad-51d1-80b4-00c04fd430c8"], &["6ba7b810-9dad-51d1-00b4-00c04fd430c8"]);
        check("isbn", &["0-306-40615-2", "978-0-306-40615-7", "080442957X"], &["0306406153", "9780306406158"]);
        check("isbn10", &["0306406152"], &["9780306406157"]);
        check("isbn13", &["9780306406157"], &["0306406152"]);
        check("creditcard", &["4111 1111 1111 1111"], &["4111 1111 1111 1112", "4111", "4111x11111111111"]);
        check("ssn", &["111-22-3333", "111223333"], &["11-22-3333", "1112233334"]);
        check("hexcolor", &["#fff", "00ff00"], &["#ff", "#ggg"]);
        check("rgbcolor", &["rgb(0, 12,255)"], &["rgb(0,0)", "rgb(0,0,256)", "rgb(01,0,0)"]);
        check("byte", &["YQ=="], &["", "YQ", "?"]);
        check("date", &["2026-02-28"], &["2026-02-30", "2026-2-3", "x"]);
        check(
            "date-time",
            &["2026-01-02T03:04:05Z", "2026-01-02t03:04:05.123+01:00"],
            &["2026-01-02", "2026-01-02T24:00:00Z", "2026-01-02T03:04:05", "2026-01-02T03:04:05.Z", "x"],
        );
        check("duration", &["1h2m", "1.5s", "3 days", "-2ms", "0", "1 week 2 days"], &["", "1", "h", "1x", "1..5s"]);
    }

    #[test]
    fn unknown_and_numeric_formats_have_no_check_on_strings() {
        for name in ["int32", "int64", "float", "double", "password", "quantity", ""] {
            assert_eq!(Format::parse(name), None);
        }
    }
}
