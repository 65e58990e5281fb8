//! The last good table and the peers' summaries on disk, for a start at which no peer answers.
//!
//! Two lines of JSON: a head with format and checksum, then the content. Written to a temporary file, synced and renamed, so there
//! is always a whole one.

use crate::exchange::Summaries;
use isthmus_control_api::{ClusterName, Table};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Read as _, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

const FILE: &str = "last-good.json";
/// Of a gateway that gets its tables from a control elsewhere: both may have the same directory.
const GATEWAY_FILE: &str = "gateway-table.json";
const FORMAT: u32 = 2;
/// All that each of 256 clusters may say fits, which is the most that is kept of a cluster however many gateways it has.
const MAX_FILE: u64 = 1 << 30;
/// Bytes that are written at once.
const PIECE: usize = 64 << 10;

/// What is kept over a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The term of the control that made the table: see [`crate::Handles::term`].
    pub term: u64,
    /// The last table.
    pub table: Table,
    /// What each linked cluster last said that it exports.
    pub peers: BTreeMap<ClusterName, Arc<Summaries>>,
}

/// Why what is on disk is not used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// Not what was written: damaged, or of another version.
    #[error("{}: {why}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// A directory for the last good table.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
    file: &'static str,
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: u32,
    sha256: String,
}

impl Store {
    /// A control's store in `directory`, which is made when first written to.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, file: FILE }
    }

    /// The same of a gateway that has no control of its own.
    pub fn of_gateway(directory: PathBuf) -> Self {
        Self { directory, file: GATEWAY_FILE }
    }

    /// What was kept; `None` if nothing ever was.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn load(&self) -> Result<Option<Kept>, StoreError> {
        let path = self.directory.join(self.file);
        let mut text = String::new();
        match File::open(&path).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::Io { path, error }),
        }
        parse(&text).map(Some).map_err(|why| StoreError::Damaged { path, why })
    }

    /// Keeps `kept` in place of what was.
    ///
    /// # Errors
    /// It cannot be written. What was kept before still is.
    pub fn save(&self, kept: &Kept) -> Result<(), StoreError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| StoreError::Io { path, error }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory).map_err(at(&self.directory))?;
        let path = self.directory.join(self.file);
        let new = path.with_extension("json.new");
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new);
        let write = |file: File| render(kept, &file).and_then(|()| file.sync_all());
        file.and_then(write).map_err(at(&new))?;
        // The directory too, or the rename itself could be lost with the power.
        let sync = || File::open(&self.directory).and_then(|directory| directory.sync_all());
        fs::rename(&new, &path).and_then(|()| sync()).map_err(at(&path))
    }
}

/// Writes it piece by piece: all of it can be some hundred megabytes. The head comes last, in the place that was kept for it.
fn render(kept: &Kept, mut to: impl Write + Seek) -> io::Result<()> {
    let head = |sha256| serde_json::to_string(&Head { format: FORMAT, sha256 });
    let mut digest = Sha256::new();
    writeln!(to, "{}", head(hex(&[0; 32]))?)?;
    let mut content = BufWriter::with_capacity(PIECE, Summed { to: &mut to, digest: &mut digest });
    serde_json::to_writer(&mut content, kept)?;
    content.flush()?;
    drop(content);
    to.write_all(b"\n")?;
    to.seek(SeekFrom::Start(0))?;
    to.write_all(head(hex(&digest.finalize()))?.as_bytes())
}

/// Works out the checksum of what is written.
struct Summed<'a, W> {
    to: W,
    digest: &'a mut Sha256,
}

impl<W: Write> Write for Summed<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.digest.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn parse(text: &str) -> Result<Kept, String> {
    let (head, content) = text.split_once('\n').ok_or("no head line")?;
    let head: Head = serde_json::from_str(head).map_err(|error| format!("its head: {error}"))?;
    if head.format != FORMAT {
        return Err(format!("format {}, expected {FORMAT}", head.format));
    }
    let content = content.trim_end_matches('\n');
    if checksum(content) != head.sha256 {
        return Err("its checksum does not fit".into());
    }
    serde_json::from_str(content).map_err(|error| error.to_string())
}

fn checksum(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::samples::whole_summary;
    use isthmus_control_api::ServicePort;

    fn kept() -> Kept {
        let key = ServicePort::tcp("shop/api".parse().unwrap(), 80);
        let services = [(key.service.clone(), Arc::new(whole_summary()))].into();
        let said = Summaries { services, lacking: ["away".into()].into() };
        let peers = [("east".parse().unwrap(), Arc::new(said))].into();
        let mut kept = Kept { term: 3, peers, ..Kept::default() };
        kept.table.version = 7;
        kept.table.exports.insert(key, Arc::default());
        kept
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path().join("state"));
        assert_eq!(store.load().unwrap(), None);
        store.save(&Kept::default()).unwrap();
        store.save(&kept()).unwrap();
        assert_eq!(store.load().unwrap(), Some(kept()));
    }

    #[test]
    fn damage_is_noticed_wherever_it_is() {
        let mut file = io::Cursor::new(Vec::new());
        render(&kept(), &mut file).unwrap();
        let text = String::from_utf8(file.into_inner()).unwrap();
        assert_eq!(parse(&text).unwrap(), kept());
        for at in 0..text.trim_end().len() {
            let mut damaged = text.clone().into_bytes();
            damaged[at] ^= 1;
            let damaged = String::from_utf8(damaged).unwrap();
            assert!(parse(&damaged).is_err(), "byte {at}");
            assert!(parse(&text[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_leftover_of_a_write_that_was_cut_is_no_matter() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path().into());
        fs::write(directory.path().join("last-good.json.new"), "{").unwrap();
        store.save(&kept()).unwrap();
        assert_eq!(store.load().unwrap(), Some(kept()));
    }
}
