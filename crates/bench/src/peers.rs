//! Other proxies, when they are on PATH: the same hosts over the same upstream, no authentication, one worker, no logs.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::process::Measured;

/// A peer that was found and started.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    pub(crate) process: Measured,
    pub(crate) address: SocketAddr,
}

/// Writes a peer's configuration and returns the program's arguments.
type Configure = fn(&Path, SocketAddr, SocketAddr, usize) -> Result<Vec<String>>;

/// Starts every peer that is on PATH, serving hosts `open-0.localhost` to `open-{hosts - 1}.localhost`.
///
/// # Errors
/// A peer that is there but does not start.
pub(crate) async fn start_all(core: usize, dir: &Path, upstream: SocketAddr, hosts: usize) -> Result<Vec<Peer>> {
    let known: [(&'static str, &str, Configure); 3] =
        [("nginx", "-v", nginx), ("haproxy", "-v", haproxy), ("envoy", "--version", envoy)];
    let mut peers = Vec::new();
    for (name, version_flag, configure) in known {
        let Some(program) = on_path(name) else { continue };
        let address = free_address()?;
        let arguments = configure(dir, address, upstream, hosts)?;
        let process = Measured::start(core, &program, &arguments, Stdio::null())?;
        wait_for_listener(name, address).await?;
        peers.push(Peer { name, version: version(&program, version_flag), process, address });
    }
    Ok(peers)
}

fn nginx(dir: &Path, listen: SocketAddr, upstream: SocketAddr, hosts: usize) -> Result<Vec<String>> {
    let mut text = format!(
        "daemon off; worker_processes 1; error_log /dev/null; pid {dir}/nginx.pid;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; server_names_hash_max_size 262144; server_names_hash_bucket_size 128;\n\
         client_body_temp_path {dir}/nginx-body; proxy_temp_path {dir}/nginx-proxy; fastcgi_temp_path {dir}/nginx-fastcgi;\n\
         uwsgi_temp_path {dir}/nginx-uwsgi; scgi_temp_path {dir}/nginx-scgi; keepalive_requests 100000000;\n\
         upstream sample {{ server {upstream}; keepalive 64; keepalive_requests 100000000; }}\n",
        dir = dir.display()
    );
    for host in 0..hosts {
        writeln!(
            text,
            "server {{ listen {listen}; server_name open-{host}.localhost; location / {{ proxy_pass http://sample; \
             proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host; }} }}"
        )?;
    }
    text.push_str("}\n");
    let file = dir.join("nginx.conf");
    std::fs::write(&file, text)?;
    Ok(["-c", &file.display().to_string(), "-p", &dir.display().to_string()].map(str::to_owned).to_vec())
}

fn haproxy(dir: &Path, listen: SocketAddr, upstream: SocketAddr, hosts: usize) -> Result<Vec<String>> {
    let map = dir.join("haproxy.map");
    let mut lines = String::new();
    for host in 0..hosts {
        writeln!(lines, "open-{host}.localhost sample")?;
    }
    std::fs::write(&map, lines)?;
    let file = dir.join("haproxy.cfg");
    let text = format!(
        "global\n  nbthread 1\n  maxconn 1024\ndefaults\n  mode http\n  timeout connect 2s\n  timeout client 60s\n  \
         timeout server 60s\n  http-reuse always\nfrontend edge\n  bind {listen}\n  \
         use_backend %[req.hdr(host),lower,map({map})]\nbackend sample\n  server one {upstream}\n",
        map = map.display()
    );
    std::fs::write(&file, text)?;
    Ok(["-db", "-f", &file.display().to_string()].map(str::to_owned).to_vec())
}

fn envoy(dir: &Path, listen: SocketAddr, upstream: SocketAddr, hosts: usize) -> Result<Vec<String>> {
    let virtual_hosts: Vec<_> = (0..hosts)
        .map(|host| {
            serde_json::json!({
                "name": format!("open-{host}"), "domains": [format!("open-{host}.localhost")],
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "sample"}}],
            })
        })
        .collect();
    let socket = |address: SocketAddr| serde_json::json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}});
    let filters = "type.googleapis.com/envoy.extensions.filters";
    let manager = serde_json::json!({
        "@type": format!("{filters}.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "edge", "route_config": {"virtual_hosts": virtual_hosts},
        "http_filters": [{"name": "router", "typed_config": {"@type": format!("{filters}.http.router.v3.Router")}}],
    });
    let configuration = serde_json::json!({"static_resources": {
        "listeners": [{"address": socket(listen), "filter_chains": [{"filters": [
            {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]}],
        "clusters": [{"name": "sample", "type": "STATIC", "load_assignment": {"cluster_name": "sample",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(upstream)}}]}]}}],
    }});
    let file = dir.join("envoy.json");
    std::fs::write(&file, serde_json::to_vec(&configuration)?)?;
    Ok(["-c", &file.display().to_string(), "--concurrency", "1", "--log-level", "off"].map(str::to_owned).to_vec())
}

fn on_path(name: &str) -> Option<PathBuf> {
    let output = Command::new("sh").arg("-c").arg(format!("command -v {name}")).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    (output.status.success()).then(|| PathBuf::from(path.trim()))
}

/// First line a program prints of its version, on either stream.
fn version(program: &Path, flag: &str) -> String {
    let Ok(output) = Command::new(program).arg(flag).output() else { return String::new() };
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().find(|line| !line.is_empty()).unwrap_or_default().to_owned()
}

fn free_address() -> Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr().context("no free port")
}

async fn wait_for_listener(name: &str, address: SocketAddr) -> Result<()> {
    let begun = Instant::now();
    while tokio::net::TcpStream::connect(address).await.is_err() {
        ensure!(begun.elapsed() < Duration::from_secs(20), "{name} does not listen on {address}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
