use super::*;

fn policy() -> AddressPolicy {
    let policy = AddressPolicy::new(AddressPolicyOptions::default());
    policy.set_own_ports([4445, 6443]);
    policy.set_edge_ports([8080]);
    policy
}

fn refused(policy: &AddressPolicy, column: Column, address: &str) -> Option<RefusedClass> {
    policy.check(column, address.parse().unwrap()).err().map(|refusal| refusal.class)
}

#[test]
fn the_table_of_30_7_2_is_kept() {
    use RefusedClass::{EdgeListener, OwnListener, Special};
    let rows: &[(&str, Option<RefusedClass>, Option<RefusedClass>)] = &[
        ("169.254.169.254:80", Some(Special), Some(Special)),
        ("[fe80::1]:80", Some(Special), Some(Special)),
        ("[fd00:ec2::254]:80", Some(Special), Some(Special)),
        ("100.100.100.200:80", Some(Special), Some(Special)),
        ("192.0.0.192:80", Some(Special), Some(Special)),
        ("0.0.0.0:80", Some(Special), Some(Special)),
        ("0.1.2.3:80", Some(Special), Some(Special)),
        ("[::]:80", Some(Special), Some(Special)),
        ("224.0.0.1:80", Some(Special), Some(Special)),
        ("[ff02::1]:80", Some(Special), Some(Special)),
        ("255.255.255.255:80", Some(Special), Some(Special)),
        ("127.0.0.1:4445", Some(OwnListener), Some(OwnListener)),
        ("127.9.9.9:6443", Some(OwnListener), Some(OwnListener)),
        ("[::1]:4445", Some(OwnListener), Some(OwnListener)),
        ("0.0.0.0:4445", Some(OwnListener), Some(OwnListener)),
        ("127.0.0.1:8080", Some(EdgeListener), None),
        ("127.0.0.1:3000", None, None),
        ("[::1]:3000", None, None),
        ("10.1.2.3:4445", None, None),
        ("192.168.1.1:80", None, None),
        ("100.64.1.1:80", None, None),
        ("[fc00::1]:80", None, None),
        ("93.184.216.34:443", None, None),
    ];
    let policy = policy();
    for (address, upstream, fetch) in rows {
        assert_eq!(refused(&policy, Column::Upstream, address), *upstream, "U {address}");
        assert_eq!(refused(&policy, Column::Fetch, address), *fetch, "F {address}");
    }
}

#[test]
fn ipv4_inside_ipv6_is_unwrapped_first() {
    let policy = policy();
    for address in [
        "[::ffff:169.254.169.254]:80",
        "[::169.254.169.254]:80",
        "[64:ff9b::169.254.169.254]:80",
        "[2002:a9fe:a9fe::1]:80",
    ] {
        assert_eq!(refused(&policy, Column::Upstream, address), Some(RefusedClass::Special), "{address}");
    }
    for address in ["[::ffff:127.0.0.1]:4445", "[64:ff9b::7f00:1]:4445", "[2002:7f00:1::]:4445"] {
        assert_eq!(refused(&policy, Column::Fetch, address), Some(RefusedClass::OwnListener), "{address}");
    }
}

#[test]
fn overrides_allow_and_deny_but_never_open_an_own_listener() {
    let rules = ColumnRules {
        allow: vec!["169.254.0.0/16".parse().unwrap(), "127.0.0.0/8".parse().unwrap()],
        deny: vec!["169.254.169.254".parse().unwrap(), "10.0.0.0/8".parse().unwrap()],
    };
    let policy = AddressPolicy::new(AddressPolicyOptions { upstream: rules, ..AddressPolicyOptions::default() });
    policy.set_own_ports([4445]);
    let class = |address| refused(&policy, Column::Upstream, address);
    assert_eq!(class("169.254.1.1:80"), None);
    assert_eq!(class("169.254.169.254:80"), Some(RefusedClass::DeniedByConfiguration));
    assert_eq!(class("[::ffff:10.0.0.1]:80"), Some(RefusedClass::DeniedByConfiguration));
    assert_eq!(class("127.0.0.1:4445"), Some(RefusedClass::OwnListener));
    assert_eq!(refused(&policy, Column::Fetch, "169.254.1.1:80"), Some(RefusedClass::Special));
    assert_eq!(refused(&policy, Column::Fetch, "10.0.0.1:80"), None);
}

#[test]
fn cluster_mode_denies_loopback() {
    let policy = AddressPolicy::new(AddressPolicyOptions { allow_loopback: false, ..AddressPolicyOptions::default() });
    assert_eq!(refused(&policy, Column::Upstream, "127.0.0.1:3000"), Some(RefusedClass::Loopback));
    assert_eq!(refused(&policy, Column::Fetch, "[::1]:3000"), Some(RefusedClass::Loopback));
}

#[tokio::test]
async fn a_name_is_refused_when_any_of_its_addresses_is() {
    let policy = AddressPolicy::with_lookup(AddressPolicyOptions::default(), |host, port| {
        Box::pin(async move {
            match host.as_str() {
                "good.test" => {
                    Ok(vec![SocketAddr::from(([10, 0, 0, 1], port)), SocketAddr::from(([10, 0, 0, 2], port))])
                }
                "mixed.test" => {
                    Ok(vec![SocketAddr::from(([10, 0, 0, 1], port)), SocketAddr::from(([169, 254, 0, 1], port))])
                }
                "empty.test" => Ok(Vec::new()),
                _ => Err(io::Error::other("no such name")),
            }
        })
    });
    let resolve = |host: &'static str| policy.resolve(Column::Upstream, host, 80);
    assert_eq!(resolve("good.test").await.unwrap().len(), 2);
    assert_eq!(resolve("good.test.").await.unwrap().len(), 2);
    assert!(matches!(resolve("mixed.test").await, Err(ResolveError::Refused(_))));
    assert!(matches!(resolve("empty.test").await, Err(ResolveError::Lookup { .. })));
    assert!(matches!(resolve("other.test").await, Err(ResolveError::Lookup { .. })));
    assert_eq!(resolve("app.localhost").await.unwrap(), [SocketAddr::from(([127, 0, 0, 1], 80))]);
    assert_eq!(resolve("127.0.0.1").await.unwrap(), [SocketAddr::from(([127, 0, 0, 1], 80))]);
    assert_eq!(resolve("[::1]").await.unwrap(), [SocketAddr::from((Ipv6Addr::LOCALHOST, 80))]);
    assert_eq!(
        resolve("169.254.169.254").await.unwrap_err().to_string(),
        "address `169.254.169.254:80` is not allowed: link-local, metadata, unspecified, multicast and broadcast \
         addresses are never connected to"
    );
}

#[tokio::test]
async fn other_spellings_of_addresses_are_not_hosts() {
    let policy = policy();
    for host in [
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "127.1",
        "127.0.0.1.",
        "1.2.3.4.5",
        "",
        ".",
        "a..b",
        "-a.b",
        "a b",
        "a/b",
        "a:80",
        "[127.0.0.1]",
        "[::1",
        "host.0x7f",
        "ü.test",
        "fe80::1%lo",
    ] {
        let error = policy.resolve(Column::Fetch, host, 80).await.unwrap_err();
        assert!(matches!(error, ResolveError::InvalidHost(_)), "{host}: {error}");
    }
}

#[test]
fn networks_are_parsed_strictly() {
    for text in ["10.0.0.0/8", "192.168.1.1/32", "fc00::/7", "::/0", "0.0.0.0/0"] {
        assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
    }
    assert_eq!("10.0.0.1".parse::<Cidr>().unwrap().to_string(), "10.0.0.1/32");
    for text in ["10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "fc00::1/7", "x", "10.0.0.0/-1", ""] {
        assert!(text.parse::<Cidr>().is_err(), "{text}");
    }
    assert!("0.0.0.0/0".parse::<Cidr>().unwrap().contains("1.2.3.4".parse().unwrap()));
    assert!(!"0.0.0.0/0".parse::<Cidr>().unwrap().contains("::1".parse().unwrap()));
}

proptest::proptest! {
    #[test]
    fn no_wrapping_changes_the_decision(bits in proptest::prelude::any::<u32>(), port in 1_u16..) {
        let policy = policy();
        let v4 = Ipv4Addr::from_bits(bits);
        let mapped = v4.to_ipv6_mapped();
        let nat64 = Ipv6Addr::from_bits((0x64_ff9b_u128 << 96) | u128::from(bits));
        let class = |ip: IpAddr| policy.check(Column::Upstream, (ip, port).into()).err().map(|refusal| refusal.class);
        let plain = class(v4.into());
        proptest::prop_assert_eq!(class(mapped.into()), plain);
        proptest::prop_assert_eq!(class(nat64.into()), plain);
    }
}
