//! Running other programs and looking at what they said.

use std::ffi::OsStr;
use std::fmt;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// What a program said and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The command line, for messages.
    pub line: String,
}

impl Output {
    /// The output, if the exit code is 0; panics with all that was said otherwise.
    #[track_caller]
    pub fn ok(&self) -> &Self {
        assert_eq!(self.code, 0, "{self}");
        self
    }

    /// The output, if the exit code is `code`.
    #[track_caller]
    pub fn fails_with(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "{self}");
        self
    }

    /// Standard output without white space around it.
    pub fn text(&self) -> &str {
        self.stdout.trim()
    }
}

impl fmt::Display for Output {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "$ {}\n{}{}(exit code {})", self.line, self.stdout, self.stderr, self.code)
    }
}

/// Runs `command` with `input` on its standard input and waits for its end.
pub fn run(command: &mut Command, input: &str) -> Output {
    let words: Vec<&OsStr> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    let line = words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("`{line}` cannot be started: {error}"));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let output = std::thread::scope(|scope| {
        // A program that ends without reading its input closes the pipe; that is its business.
        scope.spawn(move || drop(stdin.write_all(input.as_bytes())));
        child.wait_with_output()
    });
    let output = output.unwrap_or_else(|error| panic!("`{line}` cannot be waited for: {error}"));
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        line,
    }
}

/// Runs curl with `--silent --show-error` and the given arguments; a test without curl fails with the install line.
#[track_caller]
pub fn curl(arguments: &[&str]) -> Output {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "30"]).args(arguments);
    assert!(which("curl"), "curl is missing: apt-get install -y curl");
    run(&mut command, "")
}

/// Status code and body of a request made with curl.
#[track_caller]
pub fn curl_status(arguments: &[&str]) -> (u16, String) {
    let mut all = vec!["--write-out", "\n%{http_code}"];
    all.extend(arguments);
    let output = curl(&all);
    output.ok();
    let (body, status) = output.stdout.rsplit_once('\n').expect("curl writes the status last");
    (status.trim().parse().expect("curl writes a number"), body.to_owned())
}

/// Whether a program of that name is on PATH.
pub fn which(name: &str) -> bool {
    on_path().into_iter().any(|dir| dir.join(name).is_file())
}

/// The folders of PATH.
pub(crate) fn on_path() -> Vec<std::path::PathBuf> {
    std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}
