//! Where the product may connect: one policy for every connection that a resource, a request or an external party
//! causes (`30` section 7.2).
//!
//! A caller resolves a name once with [`AddressPolicy::resolve`], which checks **all** addresses of the name, and
//! connects to one of the returned addresses without a second look-up; it does so again on each redirect hop. Forms
//! that carry an IPv4 address inside IPv6 are unwrapped before the check.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::BoxFuture;

/// Longest wait for the system's resolver.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// For what a connection is made; a column of the table in `30` section 7.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Column {
    /// U: upstreams of exposures.
    Upstream,
    /// F: keys and decisions (JWKS, introspection, ...).
    Fetch,
}

/// What an operator allows or denies beyond the table (`exposure.upstream.*`, `exposure.fetch.*`). Deny wins.
#[derive(Clone, Debug, Default)]
pub struct ColumnRules {
    /// Networks that are allowed although the table denies them (never a port of this process itself).
    pub allow: Vec<Cidr>,
    /// Networks that are denied although the table allows them.
    pub deny: Vec<Cidr>,
}

/// How an [`AddressPolicy`] is built.
#[derive(Clone, Debug)]
pub struct AddressPolicyOptions {
    /// Loopback is allowed (embedded mode) or denied (cluster mode).
    pub allow_loopback: bool,
    /// Overrides for [`Column::Upstream`].
    pub upstream: ColumnRules,
    /// Overrides for [`Column::Fetch`].
    pub fetch: ColumnRules,
}

impl Default for AddressPolicyOptions {
    /// Embedded mode, no overrides.
    fn default() -> Self {
        Self { allow_loopback: true, upstream: ColumnRules::default(), fetch: ColumnRules::default() }
    }
}

/// Decides whether an address may be connected to. Cheap to clone; clones share the ports.
#[derive(Clone)]
pub struct AddressPolicy {
    inner: Arc<Inner>,
}

struct Inner {
    options: AddressPolicyOptions,
    ports: ArcSwap<Ports>,
    lookup: Box<Lookup>,
}

#[derive(Clone, Debug, Default)]
struct Ports {
    own: HashSet<u16>,
    edge: HashSet<u16>,
}

type Lookup = dyn Fn(String, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

/// Why an address was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("address `{address}` is not allowed: {class}")]
pub struct AddressRefusal {
    /// The address as it was given (not unwrapped).
    pub address: SocketAddr,
    /// The row of the table that refused it.
    pub class: RefusedClass,
}

/// The rows of `30` section 7.2 that refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusedClass {
    /// Link-local, cloud metadata, unspecified, multicast or broadcast.
    Special,
    /// A listener of this process that is not the edge.
    OwnListener,
    /// An edge listener, for an upstream: a loop.
    EdgeListener,
    /// Loopback outside embedded mode.
    Loopback,
    /// A network that the configuration denies.
    DeniedByConfiguration,
}

impl fmt::Display for RefusedClass {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Special => {
                "link-local, metadata, unspecified, multicast and broadcast addresses are never connected to"
            }
            Self::OwnListener => "it is a listener of this process",
            Self::EdgeListener => "it is this gateway's own listener and would loop",
            Self::Loopback => "loopback is not reachable from here",
            Self::DeniedByConfiguration => "it is in a network listed in `denyCidrs`",
        })
    }
}

/// Why a name gave no address to connect to.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Neither a DNS name nor an address in its usual spelling (decimal, octal and hexadecimal spellings are refused).
    #[error("`{0}` is neither a host name nor an IP address in its usual spelling")]
    InvalidHost(String),
    /// One of its addresses is refused, so none is used.
    #[error(transparent)]
    Refused(#[from] AddressRefusal),
    /// The resolver failed or knows no such name.
    #[error("host `{host}` cannot be resolved")]
    Lookup {
        /// The name asked for.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
}

impl AddressPolicy {
    /// A policy over the system's resolver.
    pub fn new(options: AddressPolicyOptions) -> Self {
        Self::with_lookup(options, |host, port| {
            Box::pin(async move {
                let addresses = tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((host, port)))
                    .await
                    .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer within 5 s"))??;
                Ok(addresses.collect())
            })
        })
    }

    /// A policy that asks `lookup` instead of the system's resolver.
    pub fn with_lookup(
        options: AddressPolicyOptions,
        lookup: impl Fn(String, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync + 'static,
    ) -> Self {
        let inner = Inner { options, ports: ArcSwap::default(), lookup: Box::new(lookup) };
        Self { inner: Arc::new(inner) }
    }

    /// Sets the ports where this process listens, except the edge; called once they are bound.
    pub fn set_own_ports(&self, ports: impl IntoIterator<Item = u16>) {
        let own: HashSet<u16> = ports.into_iter().collect();
        self.inner.ports.rcu(|old| Ports { own: own.clone(), edge: old.edge.clone() });
    }

    /// Sets the ports of the edge listeners; called once they are bound.
    pub fn set_edge_ports(&self, ports: impl IntoIterator<Item = u16>) {
        let edge: HashSet<u16> = ports.into_iter().collect();
        self.inner.ports.rcu(|old| Ports { own: old.own.clone(), edge: edge.clone() });
    }

    /// Whether `address` may be connected to.
    pub fn check(&self, column: Column, address: SocketAddr) -> Result<(), AddressRefusal> {
        let refuse = |class| Err(AddressRefusal { address, class });
        let ip = unwrap_ipv4(address.ip());
        let ports = self.inner.ports.load();
        // SPEC 30 §7.2: this row cannot be allowed.
        if ports.own.contains(&address.port()) && is_own_address(ip) {
            return refuse(RefusedClass::OwnListener);
        }
        let rules = match column {
            Column::Upstream => &self.inner.options.upstream,
            Column::Fetch => &self.inner.options.fetch,
        };
        if rules.deny.iter().any(|network| network.contains(ip)) {
            return refuse(RefusedClass::DeniedByConfiguration);
        }
        if rules.allow.iter().any(|network| network.contains(ip)) {
            return Ok(());
        }
        if is_special(ip) {
            return refuse(RefusedClass::Special);
        }
        if column == Column::Upstream && ports.edge.contains(&address.port()) && is_own_address(ip) {
            return refuse(RefusedClass::EdgeListener);
        }
        if ip.is_loopback() && !self.inner.options.allow_loopback {
            return refuse(RefusedClass::Loopback);
        }
        Ok(())
    }

    /// The addresses of `host` (a DNS name, or an address, IPv6 with or without brackets) with `port`, all of them
    /// checked: one refused address refuses the name. Never empty.
    pub async fn resolve(&self, column: Column, host: &str, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
        if let Some(ip) = parse_ip(host) {
            let address = SocketAddr::new(ip, port);
            self.check(column, address)?;
            return Ok(vec![address]);
        }
        let name = host.strip_suffix('.').unwrap_or(host);
        if !is_dns_name(name) {
            return Err(ResolveError::InvalidHost(host.to_owned()));
        }
        let lookup_error = |source| ResolveError::Lookup { host: host.to_owned(), source };
        let addresses = if is_below_localhost(name) {
            // RFC 6761 section 6.3: resolvers may not know `*.localhost`, its meaning is fixed.
            vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))]
        } else {
            (self.inner.lookup)(name.to_owned(), port).await.map_err(lookup_error)?
        };
        if addresses.is_empty() {
            return Err(lookup_error(io::Error::new(io::ErrorKind::NotFound, "the name has no address")));
        }
        for address in &addresses {
            self.check(column, *address)?;
        }
        Ok(addresses)
    }
}

impl fmt::Debug for AddressPolicy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("AddressPolicy")
            .field("options", &self.inner.options)
            .field("ports", &self.inner.ports.load())
            .finish_non_exhaustive()
    }
}

/// An IP network such as `10.0.0.0/8`; a bare address is the network of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    network: IpAddr,
    bits: u8,
}

/// Why a text is no [`Cidr`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a network: write it as `10.0.0.0/8` or `fc00::/7`, without bits outside the prefix")]
pub struct CidrError(String);

impl Cidr {
    /// Whether `ip` lies in the network. IPv6 forms that carry an IPv4 address are unwrapped first.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.network, unwrap_ipv4(ip)) {
            (IpAddr::V4(network), IpAddr::V4(ip)) => masked_v4(ip, self.bits) == network,
            (IpAddr::V6(network), IpAddr::V6(ip)) => masked_v6(ip, self.bits) == network,
            _ => false,
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || CidrError(text.to_owned());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| error())?)),
            None => (text, None),
        };
        let network: IpAddr = address.parse().map_err(|_| error())?;
        let width = if network.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        let is_exact = bits <= width
            && match network {
                IpAddr::V4(ip) => masked_v4(ip, bits) == ip,
                IpAddr::V6(ip) => masked_v6(ip, bits) == ip,
            };
        if is_exact { Ok(Self { network, bits }) } else { Err(error()) }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.network, self.bits)
    }
}

impl serde::Serialize for Cidr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Cidr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

fn masked_v4(ip: Ipv4Addr, bits: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(ip.to_bits() & u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0))
}

fn masked_v6(ip: Ipv6Addr, bits: u8) -> Ipv6Addr {
    Ipv6Addr::from_bits(ip.to_bits() & u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0))
}

/// The IPv4 address inside mapped, compatible, NAT64 and 6to4 forms; any other address unchanged.
#[expect(clippy::many_single_char_names, reason = "sixteen octets of one address, in order")]
fn unwrap_ipv4(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    if v6.is_loopback() || v6.is_unspecified() {
        return ip;
    }
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = v6.octets();
    match [a, b, c, d, e, f, g, h, i, j, k, l] {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        | [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]
        | [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0] => Ipv4Addr::new(m, n, o, p).into(),
        [0x20, 0x02, ..] => Ipv4Addr::new(c, d, e, f).into(),
        _ => ip,
    }
}

/// First row of the table.
fn is_special(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_broadcast()
                || ip == Ipv4Addr::new(100, 100, 100, 200)
                || ip == Ipv4Addr::new(192, 0, 0, 192)
                // "This network": the kernel takes 0.x.x.x for this host.
                || ip.octets().first() == Some(&0)
        }
        IpAddr::V6(ip) => {
            ip.is_unicast_link_local()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)
        }
    }
}

/// Whether `ip` is an address of this machine: loopback, or one that a socket can be bound to.
fn is_own_address(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified() || UdpSocket::bind((ip, 0)).is_ok()
}

fn parse_ip(host: &str) -> Option<IpAddr> {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inner {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse().ok(),
    }
}

fn is_below_localhost(name: &str) -> bool {
    name.len() > 10
        && name.is_char_boundary(name.len() - 10)
        && name[name.len() - 10..].eq_ignore_ascii_case(".localhost")
}

/// Letters, digits, hyphens and underscores in labels of 1 to 63, at most 253 in all, and a last label that is not a
/// number in any spelling (`127.1`, `2130706433`, `0x7f000001` and `0177.0.0.1` are addresses to some resolvers).
fn is_dns_name(name: &str) -> bool {
    let label_is_valid = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let last = name.rsplit('.').next().unwrap_or(name);
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
        || last
            .strip_prefix("0x")
            .or_else(|| last.strip_prefix("0X"))
            .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    name.len() <= 253 && name.split('.').all(label_is_valid) && !is_number
}

#[cfg(test)]
mod tests;
