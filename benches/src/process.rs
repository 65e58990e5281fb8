//! Child processes that do not outlive the harness.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group, set_parent_process_death_signal};

use crate::error::{Error, Result};

/// How long a child has to end by itself before its process group is killed.
const GRACE: Duration = Duration::from_secs(2);
/// How much of a log an error message quotes.
const LOG_LINES: usize = 15;

/// A child in a process group of its own, with its output in a log; ended when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with both of its outputs in `logs/<name>.log`.
    pub fn start(name: &str, mut command: Command, logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let out = File::create(&log).map_err(Error::io(format!("creating {}", log.display())))?;
        let err = out.try_clone().map_err(Error::io("duplicating a log"))?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = spawn(name, &mut command)?;
        Ok(Self { name: name.into(), child, log })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error if the child has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.failure(&format!("ended early, {status}"))),
            Err(source) => Err(Error::Io { doing: format!("waiting for {}", self.name), source }),
        }
    }

    /// An error about this child, with the end of its log.
    pub fn failure(&self, problem: &str) -> Error {
        Error::Child { name: self.name.clone(), problem: problem.into(), log: last_lines(&self.log) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Runs `command` to its end and returns what it wrote to standard output; `interrupted` is asked while it runs.
pub fn run(name: &str, mut command: Command, limit: Duration, interrupted: impl Fn() -> bool) -> Result<String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Ended(spawn(name, &mut command)?);
    let deadline = Instant::now() + limit;
    // What these programs print fits the pipes many times over: it can be read after they have ended.
    let status = loop {
        if let Some(status) = child.0.try_wait().map_err(Error::io(format!("waiting for {name}")))? {
            break status;
        }
        if interrupted() {
            return Err(Error::Interrupted);
        }
        if Instant::now() > deadline {
            return Err(Error::Load(format!("{name} did not end within {limit:?}")));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    output(name, status, &mut child.0)
}

/// A child that is ended when the wait for it is given up.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

fn output(name: &str, status: ExitStatus, child: &mut Child) -> Result<String> {
    let read = |pipe: Option<&mut dyn std::io::Read>| {
        let mut text = Vec::new();
        if let Some(pipe) = pipe {
            pipe.read_to_end(&mut text).map_err(Error::io(format!("reading from {name}")))?;
        }
        Ok::<_, Error>(String::from_utf8_lossy(&text).into_owned())
    };
    let out = read(child.stdout.as_mut().map(|pipe| pipe as _))?;
    let err = read(child.stderr.as_mut().map(|pipe| pipe as _))?;
    if status.success() {
        return Ok(out);
    }
    Err(Error::Child { name: name.into(), problem: status.to_string(), log: tail(&format!("{out}{err}")) })
}

fn spawn(name: &str, command: &mut Command) -> Result<Child> {
    // A group of its own: Ctrl-C in a terminal reaches the harness alone, which then takes the children down in order.
    command.process_group(0);
    // SAFETY: the closure runs between fork and exec and makes one prctl(2) system call, which is async-signal-safe;
    // it allocates nothing and takes no lock. It makes the kernel end the child if the harness is killed by SIGKILL.
    // (The signal follows the thread that forked: children are started by the main thread only.)
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::TERM))?));
    }
    command.spawn().map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::missing(command.get_program().to_string_lossy()),
        _ => Error::Io { doing: format!("starting {name}"), source },
    })
}

/// SIGTERM, then SIGKILL for the whole group after [`GRACE`].
fn end(child: &mut Child) {
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return };
    if let Ok(Some(_)) = child.try_wait() {
        // Workers of a main process that is gone. No group of that id: nothing is left, as it should be.
        let _ = kill_process_group(pid, Signal::KILL);
        return;
    }
    let _ = kill_process(pid, Signal::TERM);
    let deadline = Instant::now() + GRACE;
    while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = kill_process_group(pid, Signal::KILL);
    let _ = child.wait();
}

fn last_lines(log: &Path) -> String {
    tail(&String::from_utf8_lossy(&fs::read(log).unwrap_or_default()))
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_child_is_reported_with_its_log() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo said; echo complained >&2; exit 3"]);
        let error = run("shell", command, Duration::from_secs(20), || false).unwrap_err().to_string();
        assert!(error.contains("said") && error.contains("complained") && error.contains('3'), "{error}");
    }

    #[test]
    fn an_interrupted_child_is_ended() {
        let mut command = Command::new("sleep");
        command.arg("600");
        assert!(matches!(run("sleep", command, Duration::from_secs(60), || true), Err(Error::Interrupted)));
    }

    #[test]
    fn dropping_ends_the_child_and_its_group() {
        let logs = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & wait"]);
        let mut process = Process::start("shell", command, logs.path()).unwrap();
        process.check().unwrap();
        let pid = process.pid();
        drop(process);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn the_tail_is_the_last_lines() {
        let text: String = (0..100).map(|n| format!("{n}\n")).collect();
        assert!(tail(&text).starts_with("85\n") && tail(&text).ends_with("99"));
    }
}
