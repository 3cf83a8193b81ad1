//! Bodies that kubectl 1.33.2 sent to a listener of ours, and round trips through a small encoder.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn from_hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ascii"), 16).expect("hex"))
        .collect()
}

#[test]
fn bodies_of_kubectl_create_decode_to_the_json_they_stand_for() {
    let meta = |name: &str| json!({"name": name, "creationTimestamp": null});
    let rows = [
        (
            "ConfigMap",
            "6b3873000a0f0a0276311209436f6e6669674d617012340a180a0873657474696e677312001a0022002a003200380042\
             00120d0a05636f6c6f721204626c756512090a0473697a651201331a002200",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("settings"),
                   "data": {"color": "blue", "size": "3"}}),
        ),
        (
            "ConfigMap",
            "6b3873000a0f0a0276311209436f6e6669674d617012260a140a04626c6f6212001a0022002a003200380042001a0e0a\
             0762696e2e646174120300ff011a002200",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("blob"),
                   "binaryData": {"bin.dat": "AP8B"}}),
        ),
        (
            "Secret",
            "6b3873000a0c0a0276311206536563726574122e0a150a05746f6b656e12001a0022002a0032003800420012130a0870\
             617373776f7264120768756e746572321a001a002200",
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta("token"),
                   "data": {"password": "aHVudGVyMg=="}}),
        ),
        (
            "Namespace",
            "6b3873000a0f0a02763112094e616d657370616365121c0a140a0473686f7012001a0022002a0032003800420012001a\
             020a001a002200",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": meta("shop"), "spec": {}, "status": {}}),
        ),
        (
            "ServiceAccount",
            "6b3873000a140a027631120e536572766963654163636f756e7412170a150a05726f626f7412001a0022002a00320038\
             0042001a002200",
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta("robot")}),
        ),
        (
            "Service",
            "6b3873000a0d0a027631120753657276696365128d010a1f0a0377656212001a0022002a003200380042005a0a0a0361\
             70701203776562\
             12660a1b0a0738302d38303830120354435018502207080010903f1a0028000a220a093434332d6874747073120354\
             435018bb03220b080110001a0568747470732800120a0a0361707012037765621a002209436c757374657249503a0042\
             0052005a00600068001a020a001a002200",
            json!({"apiVersion": "v1", "kind": "Service",
                   "metadata": {"name": "web", "creationTimestamp": null, "labels": {"app": "web"}},
                   "spec": {"type": "ClusterIP", "selector": {"app": "web"}, "ports": [
                       {"name": "80-8080", "protocol": "TCP", "port": 80, "targetPort": 8080},
                       {"name": "443-https", "protocol": "TCP", "port": 443, "targetPort": "https"}]},
                   "status": {"loadBalancer": {}}}),
        ),
    ];
    for (kind, hex, expected) in rows {
        assert_eq!(decode(&from_hex(hex), kind), Ok(expected));
    }
}

#[test]
fn foreign_bytes_are_refused_without_showing_them() {
    let error = decode(br#"{"kind":"Secret","data":{"p":"s3cr3t"}}"#, "Secret").expect_err("no prefix");
    assert_eq!(error.code, 400);
    assert_eq!(
        error.message,
        "the object provided is unrecognized (must be of type Secret): provided data does not appear to be a \
         protobuf message, expected prefix [107 56 115 0] (39 bytes)"
    );
    let error = decode(b"k8s\0\x0a\xff", "Secret").expect_err("cut");
    assert_eq!(error.message, "the object provided is unrecognized (must be of type Secret): proto: unexpected EOF");
}

#[test]
fn kinds_outside_the_table_are_named() {
    let body = envelope("example.com/v1", "Widget", &[]);
    let error = decode(&body, "ConfigMap").expect_err("unknown kind");
    assert!(error.message.starts_with("Widget in version \"v1\" cannot be handled as a ConfigMap: "), "{error}");
}

#[test]
fn nesting_beyond_64_messages_is_refused() {
    let mut schema = Vec::new();
    let mut deepest_ok = 0;
    for levels in 0..200 {
        // spec.versions[0].schema.openAPIV3Schema.not.not...
        let validation = field(1, &schema);
        let version = field(4, &validation);
        let body = envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", &field(2, &field(7, &version)));
        match decode(&body, "CustomResourceDefinition") {
            Ok(_) => deepest_ok = levels,
            Err(error) => assert!(error.message.contains("nested more than 64 deep"), "{error}"),
        }
        schema = field(29 - 1, &schema);
    }
    assert!((50..64).contains(&deepest_ok), "{deepest_ok}");
}

#[test]
fn times_outside_the_calendar_are_refused() {
    // metadata.creationTimestamp.seconds = i64::MAX
    let time = [&[0x08][..], &varint(i64::MAX.cast_unsigned())].concat();
    let body = envelope("v1", "ConfigMap", &field(1, &field(8, &time)));
    assert!(decode(&body, "ConfigMap").expect_err("out of range").message.ends_with("proto: time is out of range"));
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).expect("seven bits"));
    out
}

fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut out = varint(number << 3 | 2);
    out.extend(varint(bytes.len() as u64));
    out.extend_from_slice(bytes);
    out
}

fn number(number: u64, value: u64) -> Vec<u8> {
    let mut out = varint(number << 3);
    out.extend(varint(value));
    out
}

fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
    [MAGIC, &field(1, &meta), &field(2, raw), &field(3, b""), &field(4, b"")].concat()
}

/// A small generator: proptest picks the seed, this picks everything else.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// A random value of a message and its encoding.
fn sample(table: &'static Table, message: &'static Message, dice: &mut Dice, depth: u32) -> (Value, Vec<u8>) {
    match message.form {
        Form::Time => {
            let seconds = 1 + dice.roll(4_000_000_000);
            let time = Timestamp::from_second(i64::try_from(seconds).expect("fits")).expect("in range");
            return (json!(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()), number(1, seconds));
        }
        Form::MicroTime => {
            let (seconds, micros) = (1 + dice.roll(4_000_000_000), dice.roll(1_000_000));
            let time = Timestamp::from_second(i64::try_from(seconds).expect("fits")).expect("in range");
            let text = format!("{}.{micros:06}Z", time.strftime("%Y-%m-%dT%H:%M:%S"));
            return (json!(text), [number(1, seconds), number(2, micros * 1000)].concat());
        }
        Form::IntOrString => {
            return if dice.roll(2) == 0 {
                let port = dice.roll(65536);
                (json!(port), [number(1, 0), number(2, port), field(3, b"")].concat())
            } else {
                (json!("https"), [number(1, 1), number(2, 0), field(3, b"https")].concat())
            };
        }
        Form::Json => {
            let value = json!({"f:data": {"f:x": {}}, "n": dice.roll(9)});
            return (value.clone(), field(1, value.to_string().as_bytes()));
        }
        Form::List => {
            return (json!(["a", "b"]), [field(1, b"a"), field(1, b"b")].concat());
        }
        Form::Either => {
            let choice = message.fields.last().expect("has fields");
            let (value, bytes) = sample_field(table, choice, dice, depth);
            return if bytes.is_empty() { (Value::Null, bytes) } else { (value, bytes) };
        }
        Form::Object => {}
    }
    let mut object = Map::new();
    let mut bytes = Vec::new();
    for one in &message.fields {
        if dice.roll(2) == 0 && depth > 0 {
            let (value, encoded) = sample_field(table, one, dice, depth - 1);
            let vanishes = match one.cardinality {
                Cardinality::One => !one.keeps_zero && is_zero(&value),
                Cardinality::Many | Cardinality::Map => encoded.is_empty(),
            };
            if !vanishes {
                object.insert(one.name.to_owned(), value);
            }
            bytes.extend(encoded);
        } else if dice.roll(3) == 0 {
            // A field from a newer release.
            bytes.extend(field(1000, b"newer"));
        }
    }
    (Value::Object(object), bytes)
}

fn sample_field(table: &'static Table, one: &'static Field, dice: &mut Dice, depth: u32) -> (Value, Vec<u8>) {
    match one.cardinality {
        Cardinality::One => sample_value(table, one, one.number, dice, depth),
        Cardinality::Many => {
            let (mut list, mut bytes) = (Vec::new(), Vec::new());
            for _ in 0..dice.roll(3) {
                let (value, encoded) = sample_value(table, one, one.number, dice, depth);
                list.push(value);
                bytes.extend(encoded);
            }
            (Value::Array(list), bytes)
        }
        Cardinality::Map => {
            let (mut map, mut bytes) = (Map::new(), Vec::new());
            for key in ["k1", "k2"].iter().take(usize::try_from(dice.roll(3)).expect("small")) {
                let (value, encoded) = sample_value(table, one, 2, dice, depth);
                map.insert((*key).to_owned(), value);
                bytes.extend(field(one.number, &[field(1, key.as_bytes()), encoded].concat()));
            }
            (Value::Object(map), bytes)
        }
    }
}

fn sample_value(table: &'static Table, one: &'static Field, at: u64, dice: &mut Dice, depth: u32) -> (Value, Vec<u8>) {
    match one.kind {
        Type::Message(index) => {
            let (value, bytes) = sample(table, table.message(index).expect("in the table"), dice, depth);
            (value, field(at, &bytes))
        }
        Type::Scalar(Scalar::Str) => {
            let text = ["", "a", "ä", "name"][usize::try_from(dice.roll(4)).expect("small")];
            (json!(text), field(at, text.as_bytes()))
        }
        Type::Scalar(Scalar::Bytes) => {
            let bytes = [0, 255, 1];
            (json!(STANDARD.encode(bytes)), field(at, &bytes))
        }
        Type::Scalar(Scalar::Bool) => {
            let flag = dice.roll(2);
            (json!(flag == 1), number(at, flag))
        }
        Type::Scalar(Scalar::Int32 | Scalar::Int64) => {
            let value = i64::try_from(dice.roll(5)).expect("small") - 2;
            (json!(value), number(at, value.cast_unsigned()))
        }
        Type::Scalar(Scalar::Double) => {
            let value = 0.5 + f64::from(u32::try_from(dice.roll(4)).expect("small"));
            let mut bytes = varint(at << 3 | 1);
            bytes.extend(value.to_bits().to_le_bytes());
            (json!(value), bytes)
        }
    }
}

const KINDS: [(&str, &str, &str); 12] = [
    ("v1", "ConfigMap", "core/v1.ConfigMap"),
    ("v1", "Secret", "core/v1.Secret"),
    ("v1", "Namespace", "core/v1.Namespace"),
    ("v1", "ServiceAccount", "core/v1.ServiceAccount"),
    ("v1", "Service", "core/v1.Service"),
    ("v1", "Endpoints", "core/v1.Endpoints"),
    ("v1", "Event", "core/v1.Event"),
    ("events.k8s.io/v1", "Event", "events/v1.Event"),
    ("discovery.k8s.io/v1", "EndpointSlice", "discovery/v1.EndpointSlice"),
    ("coordination.k8s.io/v1", "Lease", "coordination/v1.Lease"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "apiextensions/v1.CustomResourceDefinition"),
    ("v1", "DeleteOptions", "meta/v1.DeleteOptions"),
];

proptest! {
    #[test]
    fn what_the_encoder_writes_is_decoded_to_the_same_object(seed in 1..u64::MAX, kind in 0..KINDS.len()) {
        let (api_version, kind, name) = KINDS[kind];
        let table = Table::get();
        let (mut value, bytes) = sample(table, table.named(name).expect("in the table"), &mut Dice(seed), 7);
        value["apiVersion"] = json!(api_version);
        value["kind"] = json!(kind);
        prop_assert_eq!(decode(&envelope(api_version, kind, &bytes), kind), Ok(value));
    }

    #[test]
    fn damaged_messages_never_panic(
        seed in 1..u64::MAX, kind in 0..KINDS.len(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let (api_version, kind, name) = KINDS[kind];
        let table = Table::get();
        let (_, bytes) = sample(table, table.named(name).expect("in the table"), &mut Dice(seed), 5);
        let mut body = envelope(api_version, kind, &bytes);
        for (at, byte) in damage {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let _ = decode(&body, kind);
        let _ = decode(&body[..cut.index(body.len())], kind);
    }

    #[test]
    fn arbitrary_bytes_after_the_prefix_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&[MAGIC, &bytes].concat(), "ConfigMap");
        let _ = decode(&envelope("v1", "Service", &bytes), "Service");
    }
}
