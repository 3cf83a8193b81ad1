//! One `bash` that runs the printed commands one after the other, so that a variable set by one is there for the next.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use parking_lot::Mutex;

use super::because;
use crate::exit::Failure;

/// Longest run of one command.
const PATIENCE: Duration = Duration::from_mins(1);
/// Lines of an answer that are shown.
const SHOWN_LINES: usize = 12;
/// Characters of a line that are shown.
const SHOWN_WIDTH: usize = 110;

/// Runs commands with the demo's environment.
pub(super) struct Shell {
    environment: Vec<(&'static str, String)>,
    path: OsString,
    /// Assignments (`NAME=...`) seen so far; they are repeated before each command.
    assignments: Mutex<String>,
}

impl Shell {
    /// A shell whose PATH begins with the folder of this binary, so that `tidegate` means the running one.
    pub(super) fn new(environment: Vec<(&'static str, String)>, path: Option<&str>) -> Result<Self, Failure> {
        let binary = std::env::current_exe().map_err(because("this binary cannot be found"))?;
        let folder = binary.parent().map(Path::to_owned).unwrap_or_default();
        let folders = std::iter::once(folder).chain(std::env::split_paths(path.unwrap_or("/usr/bin:/bin")));
        let path = std::env::join_paths(folders).map_err(because("PATH cannot be extended"))?;
        Ok(Self { environment, path, assignments: Mutex::default() })
    }

    /// Runs one line and returns what it printed on both streams.
    /// It fails when `bash` cannot be run or the command takes more than a minute.
    pub(super) async fn run(&self, line: &str) -> Result<String, Failure> {
        let assignments = self.assignments.lock().clone();
        let script = format!("exec 2>&1\n{assignments}{line}\n");
        let mut command = tokio::process::Command::new("bash");
        command.arg("-c").arg(script).env("PATH", &self.path).stdin(Stdio::null()).kill_on_drop(true);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let output = match tokio::time::timeout(PATIENCE, command.output()).await {
            Ok(output) => output.map_err(because("bash cannot be run"))?,
            Err(_) => return Err(Failure::new(format!("`{line}` did not end within {} s", PATIENCE.as_secs()))),
        };
        if is_assignment(line) {
            self.assignments.lock().extend([line, "\n"]);
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn is_assignment(line: &str) -> bool {
    let name = line.split('=').next().unwrap_or_default();
    !name.is_empty() && line.contains('=') && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

/// The first lines of an answer, indented, long lines cut.
pub(super) fn shortened(answer: &str) -> String {
    let lines: Vec<&str> = answer.lines().map(str::trim_end).collect();
    let cut = |line: &&str| {
        let shown: String = line.chars().take(SHOWN_WIDTH).collect();
        let mark = if shown.len() < line.len() { "…" } else { "" };
        format!("   {shown}{mark}")
    };
    let mut shown: Vec<String> = lines.iter().take(SHOWN_LINES).map(cut).collect();
    if lines.len() > SHOWN_LINES {
        shown.push(format!("   … {} more lines", lines.len() - SHOWN_LINES));
    }
    shown.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_variable_set_by_one_command_is_there_for_the_next() {
        let shell = Shell::new(vec![("GREETING", "hello".to_owned())], None).unwrap();
        assert_eq!(shell.run("NAME=$(echo reader)").await.unwrap(), "");
        assert_eq!(shell.run("echo $GREETING $NAME; echo oops >&2").await.unwrap(), "hello reader\noops\n");
    }

    #[test]
    fn long_answers_are_cut_and_say_so() {
        let answer = format!("{}\n{}", "x".repeat(300), "line\n".repeat(20));
        let shown = shortened(&answer);
        assert!(shown.lines().all(|line| line.chars().count() <= SHOWN_WIDTH + 4));
        assert!(shown.ends_with("… 9 more lines"));
    }
}
