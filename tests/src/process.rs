//! A program in a namespace, with its output in a file; it never outlives its owner.

use crate::{descriptors, netns::Netns};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit, setrlimit};
use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

/// How much of a log a failing test prints.
const LOG_TAIL: usize = 16 * 1024;

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` inside `netns`, its output appended to `log`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(netns: &Netns, name: &str, log: &Path, program: &Path, args: &[&str]) -> Self {
        let output = File::options().create(true).append(true).open(log);
        let output = output.and_then(|stdout| Ok((stdout.try_clone()?, stdout)));
        let (stdout, stderr) = output.unwrap_or_else(|e| panic!("{}: {e}", log.display()));
        // The namespace's thread is the parent: with it (and so with the test) the program dies, too.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(args);
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let child = netns.run(move || command.spawn());
        let child = child.unwrap_or_else(|e| panic!("{name}: setpriv {}: {e}", program.display()));
        Self { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it have no more than so many descriptors from now on.
    ///
    /// # Panics
    /// If it has ended, or without root.
    pub fn bound_descriptors(&self, most: usize) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let bound = Rlimit { current: Some(most as u64), maximum: getrlimit(Resource::Nofile).maximum };
        prlimit(pid, Resource::Nofile, bound).unwrap_or_else(|e| panic!("{}: prlimit: {e}", self.name));
    }

    /// Sends a signal; one that has ended takes none.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// As wait(2) has them.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Everything it has written so far.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Resident memory in bytes, itself and not its children.
    ///
    /// # Panics
    /// If it has ended.
    pub fn resident(&self) -> u64 {
        self.status("VmRSS:") * 1024
    }

    /// How many threads it has of each name.
    ///
    /// # Panics
    /// If it has ended.
    pub fn threads_by_name(&self) -> BTreeMap<String, u64> {
        let path = format!("/proc/{}/task", self.pid());
        let tasks = std::fs::read_dir(&path).unwrap_or_else(|e| panic!("{}: {path}: {e}", self.name));
        let mut threads = BTreeMap::new();
        // A thread may end between the two looks.
        for name in tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok()) {
            *threads.entry(name.trim_end().to_owned()).or_default() += 1;
        }
        threads
    }

    /// A number of /proc/PID/status, as it stands there.
    fn status(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {path}: {e}", self.name));
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
        number.unwrap_or_else(|| panic!("{}: {path} has no {name} it has ended", self.name))
    }

    /// How many descriptors it has open.
    ///
    /// # Panics
    /// If it has ended.
    pub fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.pid());
        let open = std::fs::read_dir(&path).unwrap_or_else(|e| panic!("{}: {path}: {e}", self.name));
        open.count()
    }

    /// The same by kind: see [`descriptors::by_kind`].
    ///
    /// # Panics
    /// If it has ended.
    pub fn descriptors_by_kind(&self) -> BTreeMap<String, usize> {
        descriptors::by_kind(self.pid()).unwrap_or_else(|e| panic!("{}: its descriptors: {e}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(LOG_TAIL);
            let from = (from..log.len()).find(|&at| log.is_char_boundary(at)).unwrap_or(0);
            print_log(&self.name, &log[from..]);
        }
    }
}

/// Into the failing test's own output, which the test runner captures.
#[expect(clippy::print_stdout, reason = "the captured output of a test is standard output")]
fn print_log(name: &str, log: &str) {
    println!("──── the end of {name}'s log\n{log}\n────");
}

/// Lets this process, and what it starts, have so many descriptors: a test has both ends of each stream.
///
/// # Panics
/// Without root, where that is more than it may have.
pub fn allow_descriptors(n: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < n) {
        let maximum = maximum.map(|maximum| maximum.max(n));
        setrlimit(Resource::Nofile, Rlimit { current: Some(n), maximum }).unwrap_or_else(|e| panic!("setrlimit: {e}"));
    }
}
