//! The programs that the demonstration has started.

use super::error::{Doing, Error};
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    time::{Instant, timeout, timeout_at},
};

/// How much output of a program is read; one that writes more gets SIGPIPE.
const OUTPUT_LIMIT: u64 = 256 * 1024;

/// How long the programs may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(8);

/// How many lines of a log an error carries.
const LOG_LINES: usize = 8;

/// All programs that are running. Whoever drops a future that waits for one of them leaves it here, for [`Crew::stop`].
#[derive(Debug, Default)]
pub(super) struct Crew(Vec<Member>);

#[derive(Debug)]
struct Member {
    name: String,
    child: Child,
    log: Option<PathBuf>,
}

/// A program that has ended.
#[derive(Debug)]
pub(super) struct Finished {
    command: String,
    status: ExitStatus,
    /// What it wrote to stdout.
    pub(super) stdout: String,
    /// What it wrote to stderr.
    pub(super) stderr: String,
}

impl Finished {
    /// Whether it ended with exit code 0.
    pub(super) fn succeeded(&self) -> bool {
        self.status.success()
    }

    /// Its stdout, if it succeeded.
    pub(super) fn ok(self) -> Result<String, Error> {
        if self.succeeded() {
            return Ok(self.stdout);
        }
        Err(Error::Command { command: self.command, status: self.status, stderr: self.stderr.trim().to_owned() })
    }
}

impl Crew {
    /// Starts a program that keeps running, with its output in the file `log`.
    pub(super) fn start(&mut self, name: &str, mut command: Command, log: &Path) -> Result<(), Error> {
        let output = File::options().create(true).append(true).open(log);
        let output = output.and_then(|file| Ok((file.try_clone()?, file)));
        let (stdout, stderr) = output.doing(format!("log of {name}: {}", log.display()))?;
        let child = command.stdout(stdout).stderr(stderr).spawn().doing(format!("start {name}"))?;
        self.0.push(Member { name: name.to_owned(), child, log: Some(log.to_owned()) });
        Ok(())
    }

    /// Runs a program to its end.
    pub(super) async fn run(&mut self, mut command: Command, limit: Duration) -> Result<Finished, Error> {
        let line = command_line(&command);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().doing(format!("start `{line}`"))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        self.0.push(Member { name: line.clone(), child, log: None });
        let reading = async { tokio::join!(read(stdout), read(stderr)) };
        let Ok((stdout, stderr)) = timeout(limit, reading).await else {
            self.kill(&line).await?;
            return Err(Error::Slow { command: line, seconds: limit.as_secs() });
        };
        let status = self.kill_or_reap(&line, limit).await?;
        Ok(Finished {
            command: line,
            status,
            stdout: stdout.doing("read stdout")?,
            stderr: stderr.doing("read stderr")?,
        })
    }

    /// SIGKILL; returns when the program is gone and the kernel has closed what it had open.
    pub(super) async fn kill(&mut self, name: &str) -> Result<(), Error> {
        while let Some(at) = self.0.iter().position(|member| member.name == name) {
            self.0[at].child.kill().await.doing(format!("kill {name}"))?;
            self.0.remove(at);
        }
        Ok(())
    }

    /// An error if one of the programs that should keep running has ended.
    pub(super) fn check(&mut self) -> Result<(), Error> {
        for member in &mut self.0 {
            if let Some(status) = member.child.try_wait().doing(format!("wait for {}", member.name))? {
                return Err(Error::Ended { name: member.name.clone(), status, log: member.tail() });
            }
        }
        Ok(())
    }

    /// The last lines of the logs of the programs whose names start with `prefix`.
    pub(super) fn tails(&self, prefix: &str) -> String {
        let of_prefix = self.0.iter().filter(|member| member.name.starts_with(prefix));
        of_prefix.map(|member| format!("\nthe end of the log of {}:\n{}", member.name, member.tail())).collect()
    }

    /// Ends them all: SIGTERM, and SIGKILL for those that do not heed it in time. Returns the names of these.
    pub(super) async fn stop(&mut self) -> Vec<String> {
        let mut killed = Vec::new();
        self.0.iter().for_each(Member::terminate);
        let deadline = Instant::now() + PATIENCE;
        while let Some(mut member) = self.0.pop() {
            if timeout_at(deadline, member.child.wait()).await.is_err() {
                // kill() waits too; that can only fail for a child that is gone.
                let _ = member.child.kill().await;
                killed.push(member.name);
            }
        }
        killed
    }

    /// Waits for the end of a program whose output has ended.
    async fn kill_or_reap(&mut self, name: &str, limit: Duration) -> Result<ExitStatus, Error> {
        let Some(at) = self.0.iter().rposition(|member| member.name == name) else {
            return Err(io::Error::from(io::ErrorKind::NotFound)).doing(format!("wait for `{name}`"));
        };
        let Ok(status) = timeout(limit, self.0[at].child.wait()).await else {
            self.kill(name).await?;
            return Err(Error::Slow { command: name.to_owned(), seconds: limit.as_secs() });
        };
        self.0.remove(at);
        status.doing(format!("wait for `{name}`"))
    }
}

impl Member {
    fn terminate(&self) {
        let pid = self.child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
        if let Some(pid) = pid {
            // One that has just ended takes no signal, and needs none.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }

    fn tail(&self) -> String {
        let text = self.log.as_ref().map(std::fs::read).and_then(Result::ok).unwrap_or_default();
        last_lines(&String::from_utf8_lossy(&text), LOG_LINES)
    }
}

async fn read(from: Option<impl AsyncRead + Unpin>) -> io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(OUTPUT_LIMIT).read_to_end(&mut bytes).await?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn command_line(command: &Command) -> String {
    let command = command.as_std();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// The last `n` lines, indented.
fn last_lines(text: &str, n: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(n)..];
    if last.is_empty() {
        "  (empty)".into()
    } else {
        last.iter().map(|line| format!("  {line}\n")).collect::<String>().trim_end().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_carries_the_end_of_the_log() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "  b\n  c");
        assert_eq!(last_lines("", 2), "  (empty)");
    }
}
