//! A machine that a guide is about: a shell in namespaces.

use crate::{
    Process, Topology,
    identity::{isthmus, text},
    wait::PAUSE,
};
use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How long a section may take. Generous: it bounds a failing test.
const BOUND: Duration = Duration::from_secs(300);

const TERMINAL: &str = include_str!("terminal.sh");
const SCP: &str = include_str!("scp.sh");

/// A machine with one terminal.
#[derive(Debug)]
pub(super) struct Machine {
    name: String,
    shell: Process,
    home: PathBuf,
    /// What the terminal reads and writes.
    files: PathBuf,
    requests: File,
    sections: usize,
}

/// What a section has shown.
#[derive(Debug)]
pub(super) struct Shown {
    /// On its standard output.
    pub(super) out: String,
    /// On its standard error.
    pub(super) err: String,
}

impl Shown {
    /// All of it: first standard output, then standard error.
    pub(super) fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }
}

impl Machine {
    /// Starts `west`, where the gateway of a cluster is, or `client in west`, among its pods.
    ///
    /// # Panics
    /// If it cannot; `at` is where the guide names it.
    pub(super) fn start(topology: &Topology, name: &str, at: &str) -> Self {
        let (label, cluster, netns) = match name.split_once(" in ") {
            Some((label, cluster)) => {
                (format!("{label} {cluster}").replace(' ', "-"), cluster, topology.cluster(cluster).pods())
            }
            None => (name.to_owned(), name, topology.cluster(name).edge()),
        };
        let homes = topology.dir().join("homes");
        let (home, files) = (homes.join(&label), topology.dir().join("terminals").join(&label));
        let made = prepare(&home, &files);
        let requests = made.unwrap_or_else(|e| panic!("{at}: the machine {name} of {cluster}: {e}"));
        let path = format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", text(&files.join("bin")));
        let [path, homes, own] = [("PATH", path.as_str()), ("HOMES", text(&homes)), ("HOME", text(&home))]
            .map(|(key, value)| format!("{key}={value}"));
        let terminal = files.join("terminal.sh");
        let namespaces = ["--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--ipc"];
        let shell = ["env", &path, &homes, &own, "LC_ALL=C.UTF-8", "bash", text(&terminal), text(&files), text(&home)];
        let args = [&namespaces[..], &shell[..]].concat();
        let shell = Process::start(netns, name, &home.join(LOG), Path::new("unshare"), &args);
        Self { name: name.to_owned(), shell, home, files, requests, sections: 0 }
    }

    /// Writes a file, relative to its home. Beside and renamed, as editors do.
    ///
    /// # Panics
    /// If it cannot.
    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.home.join(path);
        let beside = path.with_extension("new");
        let parent = path.parent().map_or(Ok(()), fs::create_dir_all);
        let written = parent.and_then(|()| fs::write(&beside, text)).and_then(|()| fs::rename(&beside, &path));
        written.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// Runs commands in its terminal; all of them succeed.
    ///
    /// # Panics
    /// If one fails.
    pub(super) fn run(&mut self, at: &str, commands: &str, input: &str) -> Shown {
        self.ask(at, commands, input, "run")
    }

    /// Runs commands that only look, however they end. What they change of the terminal is forgotten.
    ///
    /// # Panics
    /// If they do not end.
    pub(super) fn look(&mut self, at: &str, commands: &str, input: &str) -> Shown {
        self.ask(at, commands, input, "look")
    }

    fn ask(&mut self, at: &str, commands: &str, input: &str, how: &str) -> Shown {
        self.sections += 1;
        let section = self.sections;
        let file = |kind: &str| self.files.join(format!("{section}.{kind}"));
        let asked = fs::write(file("sh"), terminals(commands))
            .and_then(|()| fs::write(file("in"), input))
            .and_then(|()| writeln!(&self.requests, "{section} {how}"));
        asked.unwrap_or_else(|e| panic!("{at}: {e}"));
        let shown = || {
            let read = |kind| fs::read(file(kind)).unwrap_or_default();
            let [out, err] = ["out", "err"].map(|kind| String::from_utf8_lossy(&read(kind)).into_owned());
            Shown { out, err }
        };
        let deadline = Instant::now() + BOUND;
        while !file("done").exists() {
            let has_ended = self.shell.ended().is_ok_and(|ended| ended.is_some());
            let failed =
                if has_ended { Some("failed") } else { (Instant::now() > deadline).then_some("has not ended") };
            if let Some(failed) = failed {
                panic!("{at}: on {}, this {failed}:\n{commands}\nIt said\n{}", self.name, shown().all());
            }
            std::thread::sleep(PAUSE);
        }
        shown()
    }
}

/// Where a gateway's log goes, whose terminal nobody looks at, and what the shell itself says.
const LOG: &str = ".isthmus.log";

/// Makes its directories, programs and the queue of its terminal.
fn prepare(home: &Path, files: &Path) -> io::Result<File> {
    let bin = files.join("bin");
    fs::create_dir_all(home)?;
    fs::create_dir_all(&bin)?;
    symlink(isthmus().canonicalize()?, bin.join("isthmus"))?;
    fs::write(bin.join("scp"), SCP)?;
    fs::set_permissions(bin.join("scp"), fs::Permissions::from_mode(0o755))?;
    fs::write(files.join("terminal.sh"), TERMINAL)?;
    let requests = files.join("requests");
    rustix::fs::mknodat(rustix::fs::CWD, &requests, rustix::fs::FileType::Fifo, 0o600.into(), 0)?;
    // For both: opening for writing alone would wait for the terminal.
    File::options().read(true).write(true).open(&requests)
}

/// The commands with each gateway in a terminal of its own, and ready before the next command.
fn terminals(commands: &str) -> String {
    let keeps =
        |line: &str| ["run", "gateway", "control"].iter().any(|verb| line.starts_with(&format!("isthmus {verb} ")));
    let each = commands.lines().map(|line| match line {
        line if keeps(line) && !line.ends_with('&') => format!(
            "{line} >>\"$HOME/{LOG}\" 2>&1 &\nuntil curl -fs -o /dev/null http://127.0.0.1:15020/readyz; do kill -0 $!; sleep 0.1; done\n"
        ),
        line => format!("{line}\n"),
    });
    each.collect()
}
