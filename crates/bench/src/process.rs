//! Child processes that are measured: started on one core, asked for CPU time and memory, ended by pid.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Clock ticks per second of `/proc/<pid>/stat`; fixed at 100 for user space on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// A child that ends when this value is dropped.
pub(crate) struct Measured {
    child: Child,
}

impl Measured {
    /// Starts `command` pinned to `core` with `taskset`.
    ///
    /// # Errors
    /// `taskset` (package util-linux) or the program cannot be started.
    pub(crate) fn start(core: usize, program: &Path, arguments: &[String], stdout: Stdio) -> Result<Self> {
        let child = Command::new("taskset")
            .arg("-c")
            .arg(core.to_string())
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {} under taskset", program.display()))?;
        Ok(Self { child })
    }

    /// First line the child prints, for roles that announce their address.
    ///
    /// # Errors
    /// The child ended without printing a line.
    pub(crate) fn first_line(&mut self) -> Result<String> {
        let stdout = self.child.stdout.take().context("stdout is not piped")?;
        let mut line = String::new();
        if BufReader::new(stdout).read_line(&mut line)? == 0 {
            bail!("the process ended before it announced its address");
        }
        Ok(line.trim().to_owned())
    }

    /// User plus system time of the process and all its descendants so far.
    pub(crate) fn cpu(&self) -> Duration {
        tree_cpu(self.child.id())
    }

    /// Proportional set size of the process tree in KiB.
    ///
    /// # Errors
    /// The process is gone.
    pub(crate) fn pss_kib(&self) -> Result<u64> {
        descendants(self.child.id()).into_iter().map(pss_kib).sum()
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        for pid in descendants(self.child.id()).into_iter().rev() {
            // The process may have ended by itself; that is the state we want.
            let _ = Command::new("kill").args(["-TERM", &pid.to_string()]).stderr(Stdio::null()).status();
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tree_cpu(pid: u32) -> Duration {
    let ticks: u64 = descendants(pid).into_iter().map(|pid| cpu_ticks(pid).unwrap_or(0)).sum();
    #[expect(clippy::cast_precision_loss, reason = "ticks of a short run")]
    Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND)
}

/// Fields 14 and 15 of `/proc/<pid>/stat`; the command name before them may hold blanks and brackets.
fn cpu_ticks(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').context("stat without command")?.1;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next().context("utime")?.parse()?;
    let system: u64 = fields.next().context("stime")?.parse()?;
    Ok(user + system)
}

fn pss_kib(pid: u32) -> Result<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find(|line| line.starts_with("Pss:")).context("no Pss line")?;
    Ok(line.split_ascii_whitespace().nth(1).context("Pss value")?.parse()?)
}

/// `pid` and everything below it, parents first.
fn descendants(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        found.extend(children.split_ascii_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    found
}
