//! A network namespace that lives as long as its owner.

use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    sync::mpsc::{SyncSender, sync_channel},
    thread::JoinHandle,
    time::Duration,
};

/// How long a connect may take before the test counts it as failed.
const CONNECT_BOUND: Duration = Duration::from_secs(20);

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace, held by one thread that runs what has to happen inside it.
///
/// It has no name in the file system: when the thread and the last process inside have ended, the kernel removes it with all its
/// devices, even if the test was killed.
#[derive(Debug)]
pub struct Netns {
    name: String,
    path: PathBuf,
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Netns {
    /// Makes one with its loopback device up. `name` is for messages only.
    ///
    /// # Panics
    /// Without root: these tests fail, they are never skipped.
    pub fn new(name: &str) -> Self {
        let (jobs, queue) = sync_channel::<Job>(64);
        let (entered, result) = sync_channel(1);
        let thread = std::thread::Builder::new().name(format!("netns-{name}")).spawn(move || {
            let _ = entered.send(leave_for_a_new_one());
            queue.into_iter().for_each(|job| job());
        });
        let thread = thread.unwrap_or_else(|e| panic!("netns {name}: cannot start its thread: {e}"));
        let path = match result.recv() {
            Ok(Ok(path)) => path,
            Ok(Err(e)) => panic!("netns {name}: unshare(CLONE_NEWNET): {e}. These tests need root: run them as root"),
            Err(e) => panic!("netns {name}: {e}"),
        };
        let netns = Self { name: name.to_owned(), path, jobs: Some(jobs), thread: Some(thread) };
        netns.ip("link set lo up");
        netns
    }

    /// Its name, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where other processes find it (for `nsenter --net=` and `ip … netns`).
    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Runs `job` inside. Sockets and processes that it makes stay in the namespace. It must not block for long: there is one
    /// thread.
    ///
    /// # Panics
    /// If `job` does.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (reply, result) = sync_channel(1);
        let job = Box::new(move || {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            let _ = reply.send(outcome);
        });
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        assert!(sent, "netns {}: its thread has ended", self.name);
        match result.recv() {
            Ok(Ok(value)) => value,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(e) => panic!("netns {}: {e}", self.name),
        }
    }

    /// An unconnected TCP socket inside, of the family of `address`.
    ///
    /// # Panics
    /// If there is none to be had.
    pub fn socket(&self, address: SocketAddr) -> Socket {
        self.run(move || Socket::new(Domain::for_address(address), Type::STREAM, None))
            .unwrap_or_else(|e| panic!("netns {}: socket: {e}", self.name))
    }

    /// Connects from inside.
    ///
    /// # Errors
    /// As connect(2) has them.
    pub fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = self.socket(address);
        socket.connect_timeout(&SockAddr::from(address), CONNECT_BOUND)?;
        Ok(socket.into())
    }

    /// Listens inside, with SO_REUSEADDR and a backlog that five thousand connections at once do not overflow.
    ///
    /// # Panics
    /// If the address cannot be had: a test has its namespaces for itself.
    pub fn listen(&self, address: SocketAddr) -> TcpListener {
        let socket = self.socket(address);
        let listening = socket
            .set_reuse_address(true)
            .and_then(|()| socket.bind(&SockAddr::from(address)))
            .and_then(|()| socket.listen(8192));
        listening.unwrap_or_else(|e| panic!("netns {}: listen on {address}: {e}", self.name));
        socket.into()
    }

    /// Runs a program inside to its end and returns its standard output.
    ///
    /// # Panics
    /// If it fails or is not installed.
    pub fn exec(&self, program: &str, args: &[&str]) -> String {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null());
        let line = format!("{program} {}", args.join(" "));
        let output = self.run(move || command.output());
        let output = output
            .unwrap_or_else(|e| panic!("netns {}: `{line}`: {e}. `make setup` installs what is missing", self.name));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "netns {}: `{line}`: {}: {stderr}", self.name, output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a program inside to its end, however that comes; the namespace's thread does other things meanwhile.
    ///
    /// # Panics
    /// If it is not installed.
    pub fn output(&self, program: &str, args: &[&str]) -> std::process::Output {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.run(move || command.spawn());
        let output = child.and_then(std::process::Child::wait_with_output);
        output.unwrap_or_else(|e| panic!("netns {}: {program} {}: {e}", self.name, args.join(" ")))
    }

    /// `ip <args>` inside.
    ///
    /// # Panics
    /// If it fails.
    pub fn ip(&self, args: &str) -> String {
        self.exec("ip", &args.split_whitespace().collect::<Vec<_>>())
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Puts the calling thread into a network namespace of its own; returns that namespace's path.
fn leave_for_a_new_one() -> io::Result<PathBuf> {
    // SAFETY: only CLONE_FILES could take descriptors away from other threads, and it is not asked for.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET)? };
    let (pid, thread) = (std::process::id(), rustix::thread::gettid().as_raw_nonzero());
    Ok(PathBuf::from(format!("/proc/{pid}/task/{thread}/ns/net")))
}
