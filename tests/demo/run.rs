//! One `isthmus demo`, with a directory for its temporary files that nobody else uses.

use crate::traces::Traces;
use isthmus_tests::{eventually, identity::isthmus};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    rc::Rc,
};
use tempfile::TempDir;

/// The user that is nobody.
const NOBODY: u32 = 65534;

/// A running demonstration.
pub(crate) struct Run {
    child: Child,
    story: BufReader<ChildStderr>,
    told: String,
    directory: Rc<TempDir>,
}

/// How it ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Starts one.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::spawn(Command::new(isthmus()), args, Rc::new(directory()))
    }

    /// Starts another one that has the same directory.
    pub(crate) fn again(&self, args: &[&str]) -> Self {
        Self::spawn(Command::new(isthmus()), args, Rc::clone(&self.directory))
    }

    fn spawn(mut command: Command, args: &[&str], directory: Rc<TempDir>) -> Self {
        command.arg("demo").args(args).env("TMPDIR", directory.path().join("tmp")).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("isthmus demo starts");
        let story = BufReader::new(child.stderr.take().expect("stderr is a pipe"));
        Self { child, story, told: String::new(), directory }
    }

    /// Reads the story up to a line with `words`, and notes which processes and namespaces there are by then.
    pub(crate) fn reach(&mut self, words: &str) -> Traces {
        loop {
            let mut line = String::new();
            let n = self.story.read_line(&mut line).expect("the story is text");
            self.told.push_str(&line);
            assert!(n > 0, "it ended before {words:?}:\n{}", self.told);
            if line.contains(words) {
                return Traces::of(&self.tmp());
            }
        }
    }

    /// Sends a signal to it, and to nothing that it has started.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it is running");
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> Ended {
        self.story.read_to_string(&mut self.told).expect("the story is text");
        let mut stdout = String::new();
        if let Some(mut pipe) = self.child.stdout.take() {
            pipe.read_to_string(&mut stdout).expect("the result is text");
        }
        let code = self.child.wait().expect("it is our child").code();
        Ended { code, stdout, stderr: self.told.clone() }
    }

    /// What is in its directory for temporary files.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.tmp()).expect("the directory is ours");
        entries.map(|entry| entry.expect("it can be read").path()).collect()
    }

    /// Asserts that there is nothing.
    pub(crate) fn assert_no_files(&self, when: &str) {
        assert_eq!(self.files(), Vec::<PathBuf>::new(), "{when}");
    }

    fn tmp(&self) -> PathBuf {
        self.directory.path().join("tmp")
    }
}

impl Drop for Run {
    /// A test that fails leaves no demonstration running; it gets the time to remove what it has made.
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(Signal::TERM);
            let _ = self.story.read_to_string(&mut self.told);
            let _ = self.child.wait();
        }
    }
}

/// Starts one as a user who may do nothing.
pub(crate) fn unprivileged(args: &[&str]) -> Run {
    let directory = directory();
    // Nobody may not even look into the directory that cargo builds in.
    let binary = directory.path().join("isthmus");
    fs::copy(isthmus(), &binary).expect("the binary can be copied");
    let mut command = Command::new(&binary);
    command.uid(NOBODY).gid(NOBODY).current_dir("/");
    eventually("the copy can be run", || run_once(&binary));
    Run::spawn(command, args, Rc::new(directory))
}

/// A copy that another thread's fork still has open for writing cannot be run (ETXTBSY).
fn run_once(binary: &Path) -> Result<(), String> {
    Command::new(binary).arg("--version").output().map(drop).map_err(|e| e.to_string())
}

fn directory() -> TempDir {
    let directory = tempfile::Builder::new().prefix("isthmus-tests-demo-").tempdir().expect("a temporary directory");
    let tmp = directory.path().join("tmp");
    fs::create_dir(&tmp).expect("a directory in it");
    for (path, mode) in [(directory.path(), 0o755), (&tmp, 0o1777)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its permissions");
    }
    directory
}
