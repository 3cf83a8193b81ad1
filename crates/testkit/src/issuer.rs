//! A sample OIDC issuer: mints tokens, serves its keys over HTTP, rotates them, misbehaves on request.
//!
//! | path | answer |
//! |---|---|
//! | `/keys` | the JWKS of the published keys, or what [`Behavior`] says |
//! | `/moved` | the JWKS of the published keys, always: a target for redirects |
//! | `/.well-known/openid-configuration` | `issuer` and `jwks_uri` |
//! | anything else | 404 |
//!
//! [`Mint`] is the part without a socket: keys and tokens.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tidegate_runtime::Tasks;
use tidegate_tokens::signing::{SigningError, jwks};
use tidegate_tokens::{Algorithm, SigningKey};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The keys and tokens of one issuer.
#[derive(Debug)]
pub struct Mint {
    issuer: String,
    algorithm: Algorithm,
    keys: Mutex<Keys>,
}

#[derive(Debug)]
struct Keys {
    made: usize,
    /// The key that signs.
    current: Arc<SigningKey>,
    /// The keys that the JWKS shows, in order.
    published: Vec<Arc<SigningKey>>,
}

impl Mint {
    /// An issuer of that name with one key, called `key-1`.
    pub fn new(issuer: impl Into<String>, algorithm: Algorithm) -> Result<Self, SigningError> {
        let first = Arc::new(SigningKey::generate(algorithm, "key-1")?);
        let keys = Keys { made: 1, current: Arc::clone(&first), published: vec![first] };
        Ok(Self { issuer: issuer.into(), algorithm, keys: Mutex::new(keys) })
    }

    /// What tokens carry as `iss`.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The key that signs now.
    pub fn key(&self) -> Arc<SigningKey> {
        Arc::clone(&self.keys.lock().current)
    }

    /// A token for `subject` that expires at `expires_at` (seconds since 1970), signed with the present key.
    pub fn token(&self, subject: &str, expires_at: i64) -> Result<String, SigningError> {
        self.sign(&json!({ "sub": subject, "exp": expires_at }))
    }

    /// A token with these claims; `iss` is added when it is not among them.
    pub fn sign(&self, claims: &Value) -> Result<String, SigningError> {
        let mut claims = claims.clone();
        if let Some(members) = claims.as_object_mut() {
            members.entry("iss").or_insert_with(|| self.issuer.clone().into());
        }
        self.key().sign(&claims)
    }

    /// A new key signs from now on. The JWKS shows it, and the former ones only if `keep_former`.
    pub fn rotate(&self, keep_former: bool) -> Result<(), SigningError> {
        let number = self.keys.lock().made + 1;
        self.publish(SigningKey::generate(self.algorithm, &format!("key-{number}"))?, keep_former);
        Ok(())
    }

    /// A new key signs from now on **under the id of the former one**, which is gone.
    pub fn replace_under_same_id(&self) -> Result<(), SigningError> {
        let kid = self.key().kid().to_owned();
        self.publish(SigningKey::generate(self.algorithm, &kid)?, false);
        Ok(())
    }

    fn publish(&self, key: SigningKey, keep_former: bool) {
        let key = Arc::new(key);
        let mut keys = self.keys.lock();
        keys.made += 1;
        keys.current = Arc::clone(&key);
        if !keep_former {
            keys.published.clear();
        }
        keys.published.push(key);
    }

    /// The JWKS of the published keys.
    pub fn jwks(&self) -> Value {
        jwks(self.keys.lock().published.iter().map(AsRef::as_ref))
    }
}

/// How `/keys` answers.
#[derive(Clone, Debug, Default)]
pub enum Behavior {
    /// The JWKS.
    #[default]
    Good,
    /// This status, with the JWKS as body.
    Status(StatusCode),
    /// This body, with status 200.
    Body(Bytes),
    /// A valid JWKS with so many bytes of white space behind it, without a length.
    Huge(usize),
    /// The JWKS, after that time.
    Slow(Duration),
    /// Nothing: the connection is closed.
    Close,
    /// A redirect (302) to this target.
    Redirect(String),
}

struct State {
    mint: Mint,
    behavior: Mutex<Behavior>,
    cache_control: Mutex<Option<HeaderValue>>,
    fetches: AtomicUsize,
    finished: AtomicUsize,
}

/// A running sample issuer; it ends when dropped.
pub struct Issuer {
    address: SocketAddr,
    state: Arc<State>,
    stop: CancellationToken,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Issuer {
    /// Starts an issuer with one ES256 key (the cheapest to make) on a free port of 127.0.0.1.
    pub async fn start() -> io::Result<Self> {
        Self::start_with(Algorithm::Es256, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Starts an issuer with one key of that algorithm.
    pub async fn start_with(algorithm: Algorithm, address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let mint = Mint::new(format!("http://{address}"), algorithm).map_err(io::Error::other)?;
        let state = Arc::new(State {
            mint,
            behavior: Mutex::default(),
            cache_control: Mutex::default(),
            fetches: AtomicUsize::new(0),
            finished: AtomicUsize::new(0),
        });
        let tasks = Tasks::new();
        let stop = tasks.shutdown().clone();
        drop(tasks.spawn("sample-issuer", accept(listener, Arc::clone(&state), tasks.clone())));
        Ok(Self { address, state, stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What tokens carry as `iss`.
    pub fn issuer(&self) -> &str {
        self.state.mint.issuer()
    }

    /// Where the keys are.
    pub fn jwks_uri(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    /// Keys and tokens.
    pub fn mint(&self) -> &Mint {
        &self.state.mint
    }

    /// Changes how `/keys` answers from now on.
    pub fn behave(&self, behavior: Behavior) {
        *self.state.behavior.lock() = behavior;
    }

    /// Sets the `Cache-Control` of `/keys`; none at first.
    pub fn set_cache_control(&self, value: &'static str) {
        *self.state.cache_control.lock() = Some(HeaderValue::from_static(value));
    }

    /// Requests for `/keys` that have arrived so far.
    pub fn fetches(&self) -> usize {
        self.state.fetches.load(Ordering::SeqCst)
    }

    /// Requests for `/keys` of which the answer was begun so far; a slow one counts in [`Self::fetches`] before.
    pub fn answered(&self) -> usize {
        self.state.finished.load(Ordering::SeqCst)
    }

    /// Stops listening and cuts all connections.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>, tasks: Tasks) {
    let stop = tasks.shutdown().clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let Ok((socket, _)) = accepted else { continue };
        let (state, stop) = (Arc::clone(&state), stop.clone());
        drop(tasks.spawn("sample-issuer-connection", async move {
            let service = service_fn(|request| answer(request, Arc::clone(&state)));
            let serve = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service);
            tokio::select! {
                // How a connection ends is up to the client.
                _ = serve => {}
                () = stop.cancelled() => {}
            }
        }));
    }
}

async fn answer(request: Request<Incoming>, state: Arc<State>) -> io::Result<Response<Body>> {
    match request.uri().path() {
        "/keys" => {
            state.fetches.fetch_add(1, Ordering::SeqCst);
            let answer = keys(&state).await;
            state.finished.fetch_add(1, Ordering::SeqCst);
            answer
        }
        "/moved" => Ok(json_answer(&state.mint.jwks())),
        "/.well-known/openid-configuration" => {
            let issuer = state.mint.issuer();
            Ok(json_answer(&json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/keys") })))
        }
        _ => Ok(with_status(StatusCode::NOT_FOUND, Response::new(full("no such document")))),
    }
}

async fn keys(state: &State) -> io::Result<Response<Body>> {
    let behavior = state.behavior.lock().clone();
    if let Behavior::Slow(delay) = behavior {
        tokio::time::sleep(delay).await;
    }
    let jwks = state.mint.jwks();
    let mut answer = match behavior {
        Behavior::Good | Behavior::Slow(_) => json_answer(&jwks),
        Behavior::Status(status) => with_status(status, json_answer(&jwks)),
        Behavior::Body(body) => Response::new(full(body)),
        Behavior::Huge(bytes) => Response::new(padded(jwks.to_string(), bytes)),
        Behavior::Close => return Err(io::Error::other("closed on request")),
        Behavior::Redirect(target) => {
            let mut answer = with_status(StatusCode::FOUND, Response::new(full("")));
            answer.headers_mut().insert(LOCATION, target.parse().map_err(io::Error::other)?);
            answer
        }
    };
    if let Some(value) = state.cache_control.lock().clone() {
        answer.headers_mut().insert(CACHE_CONTROL, value);
    }
    Ok(answer)
}

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn json_answer(document: &Value) -> Response<Body> {
    let mut answer = Response::new(full(document.to_string()));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn with_status(status: StatusCode, mut answer: Response<Body>) -> Response<Body> {
    *answer.status_mut() = status;
    answer
}

fn padded(document: String, bytes: usize) -> Body {
    const PART: usize = 16 * 1024;
    let padding = (0..bytes.div_ceil(PART)).map(move |part| Bytes::from(vec![b' '; PART.min(bytes - part * PART)]));
    let parts = std::iter::once(Bytes::from(document)).chain(padding);
    StreamBody::new(stream::iter(parts.map(|part| Ok(Frame::data(part))))).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use tidegate_tokens::{KeySet, Options, verify};

    use super::*;

    async fn fetch(issuer: &Issuer) -> (StatusCode, Bytes) {
        let policy = tidegate_runtime::AddressPolicy::new(tidegate_runtime::AddressPolicyOptions::default());
        let client = tidegate_runtime::http_client(&policy, tidegate_runtime::HttpClientOptions::default());
        let fetched = client.get(&issuer.jwks_uri(), "application/json").await.unwrap();
        (fetched.status, fetched.body)
    }

    #[tokio::test]
    async fn tokens_verify_with_the_published_keys_until_rotation_drops_their_key() {
        let issuer = Issuer::start().await.unwrap();
        let options = Options { now: 1_000, ..Options::default() };
        let check = |token: &str, body: &[u8]| verify(token, &KeySet::parse(body).unwrap(), options);
        let first = issuer.mint().token("jane", 2_000).unwrap();
        let (_, body) = fetch(&issuer).await;
        let claims = check(&first, &body).unwrap();
        assert_eq!(claims.issuer.as_deref(), Some(issuer.issuer()));
        assert_eq!(claims.subject.as_deref(), Some("jane"));

        issuer.mint().rotate(true).unwrap();
        let second = issuer.mint().token("jane", 2_000).unwrap();
        let (_, body) = fetch(&issuer).await;
        assert!(check(&first, &body).is_ok() && check(&second, &body).is_ok());

        issuer.mint().rotate(false).unwrap();
        let (_, body) = fetch(&issuer).await;
        assert!(check(&first, &body).is_err() && check(&second, &body).is_err());
        assert_eq!(issuer.fetches(), 3);
    }

    #[tokio::test]
    async fn the_issuer_misbehaves_as_told() {
        let issuer = Issuer::start().await.unwrap();
        issuer.behave(Behavior::Status(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(fetch(&issuer).await.0, StatusCode::SERVICE_UNAVAILABLE);
        issuer.behave(Behavior::Body(Bytes::from_static(b"sorry")));
        assert_eq!(fetch(&issuer).await.1, "sorry");
        issuer.behave(Behavior::Huge(100_000));
        assert!(fetch(&issuer).await.1.len() > 100_000);
        issuer.behave(Behavior::Redirect("/moved".to_owned()));
        assert!(KeySet::parse(&fetch(&issuer).await.1).is_ok());
    }
}
