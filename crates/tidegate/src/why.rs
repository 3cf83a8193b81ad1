//! `tidegate why`: what the gateway would do with a request, step by step, asked of the table that requests go through.

use std::io::{IsTerminal as _, Read as _};

use serde::Deserialize;
use serde_json::json;

use crate::cli::Context;
use crate::exit::{Code, Failure, Outcome};
use crate::output::{self, Sign};
use crate::{local_http, status};

/// Longest token that is read from standard input; the gateway refuses longer ones anyway.
const MAX_TOKEN_BYTES: u64 = 64 << 10;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// HTTP method
    method: String,
    /// URL, as the caller writes it
    url: String,
    /// Bearer token
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_stdin")]
    token: Option<String>,
    /// Read the bearer token from standard input
    #[arg(long)]
    token_stdin: bool,
    /// Further header line, as `Host: my-app.localhost`; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Form of the answer
    #[arg(short, long, value_name = "FORM", value_parser = ["table", "json"], default_value = "table")]
    output: String,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| format!("`{text}` is not `Name: value`"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

#[derive(Deserialize)]
struct Explanation {
    steps: Vec<Step>,
    allowed: bool,
    status: Option<u16>,
    reason: Option<String>,
    route: Option<String>,
}

#[derive(Deserialize)]
struct Step {
    name: String,
    ok: bool,
    detail: String,
}

/// Prints every step; ends with code 0 when the request would reach its upstream, with 5 otherwise.
pub(crate) async fn run(args: &Args, context: Context<'_>) -> Outcome {
    let url = if args.url.contains("://") { args.url.clone() } else { format!("http://{}", args.url) };
    let token = if args.token_stdin { Some(read_token()?) } else { args.token.clone() };
    let question = json!({"method": args.method.to_uppercase(), "url": url, "headers": args.headers, "token": token});
    let endpoints = status::endpoints(&status::data_dir(context))?;
    let answer = local_http::post(status::admin_address(&endpoints)?, "/debug/decide", &question).await?;
    if answer.status != 200 {
        return Err(Failure::new(format!("the platform cannot explain this: {}", answer.body.trim())));
    }
    let explanation: Explanation = serde_json::from_str(&answer.body)
        .map_err(|error| Failure::new(format!("the answer of the platform is not understood: {error}")))?;
    if args.output == "json" {
        output::answer(answer.body.trim_end());
    } else {
        print(&explanation, context);
    }
    if explanation.allowed { Ok(()) } else { Err(Failure::silent(Code::Refused)) }
}

fn print(explanation: &Explanation, context: Context<'_>) {
    let signs = context.signs(std::io::stdout().is_terminal());
    for step in &explanation.steps {
        let sign = signs.show(if step.ok { Sign::Good } else { Sign::Bad });
        output::answer(format_args!("{sign} {:<9} {}", step.name, step.detail));
    }
    let route = explanation.route.as_deref().map(|route| format!(" by {route}")).unwrap_or_default();
    if explanation.allowed {
        output::answer(format_args!("allowed{route}: the upstream answers"));
        return;
    }
    let status = explanation.status.map(|status| status.to_string()).unwrap_or_default();
    let reason = explanation.reason.as_deref().unwrap_or("no_route");
    output::answer(format_args!("refused{route}: {status} {reason}"));
    if let Some(cure) = cure(reason) {
        output::note(format_args!("try: {cure}"));
    }
}

/// What helps against a reason (the words of `90` section 5).
fn cure(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "no_host" => "tidegate routes lists the hosts that exist; `-H 'Host: NAME'` asks for another one",
        "no_route" => "tidegate routes lists what is exposed",
        "token_missing" => {
            "send `Authorization: Bearer TOKEN`, or exclude the path in spec.authentication[].jwt.triggerRule"
        }
        "token_malformed" => "the token must be three base64url parts joined by dots; check what the shell made of it",
        "token_expired" => "get a new token; compare clocks if it is new",
        "token_not_yet_valid" => "compare the clocks of issuer and gateway",
        "issuer_unknown" => "compare the token's `iss` with spec.authentication[].jwt.issuer, byte by byte",
        "signature_invalid" => "compare the token's issuer with the keys at spec.authentication[].jwt.jwksUri",
        "key_unknown" => "the issuer does not publish the key that signed the token; look at its jwksUri",
        "alg_refused" => "exposure.jwt.algorithms says which signature algorithms are accepted",
        "jwks_unavailable" => {
            "fetch spec.authentication[].jwt.jwksUri by hand; kubectl get events shows JwksUnreachable"
        }
        "no_endpoints" => "kubectl get service,endpointslices shows where the Service leads",
        _ => return None,
    })
}

fn read_token() -> Result<String, Failure> {
    let mut token = String::new();
    std::io::stdin()
        .take(MAX_TOKEN_BYTES)
        .read_to_string(&mut token)
        .map_err(|error| Failure::usage(format!("the token cannot be read: {error}")))?;
    Ok(token.trim().to_owned())
}
