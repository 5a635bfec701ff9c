//! Complete logs of runs, in the worker's data folder; the oldest go when there are too many.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::LogRecord;

/// All logs together, bytes.
const TOTAL_LIMIT: u64 = 1 << 30;
/// One log, bytes. What a child says beyond is read and dropped.
const FILE_LIMIT: u64 = 64 << 20;

/// The folder of the logs.
#[derive(Clone, Debug)]
pub struct LogFolder {
    path: PathBuf,
    total_limit: u64,
}

impl LogFolder {
    /// Logs in `path`, at most 1 GiB of them.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), total_limit: TOTAL_LIMIT }
    }

    /// The same with another limit, in bytes.
    #[must_use]
    pub fn with_total_limit(self, total_limit: u64) -> Self {
        Self { total_limit, ..self }
    }

    /// Starts a log called after `label` and makes room for it by removing the oldest ones.
    pub fn start(&self, label: &str) -> io::Result<LogFile> {
        fs::create_dir_all(&self.path)?;
        make_room(&self.path, self.total_limit.saturating_sub(FILE_LIMIT.min(self.total_limit)))?;
        let label: String = label
            .chars()
            .take(100)
            .map(|c| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' })
            .collect();
        let unique = crate::identity::random_hex();
        let path = self.path.join(format!("{label}-{}.log", &unique[..8]));
        Ok(LogFile { file: File::create(&path)?, path, bytes: 0, hash: blake3::Hasher::new() })
    }
}

/// Removes the oldest logs until at most `limit` bytes are left.
fn make_room(folder: &Path, limit: u64) -> io::Result<()> {
    let mut logs = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if let Ok(metadata) = entry.metadata()
            && path.extension().is_some_and(|extension| extension == "log")
        {
            logs.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), metadata.len(), path));
        }
    }
    logs.sort();
    let mut total: u64 = logs.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, bytes, path) in logs {
        if total <= limit {
            break;
        }
        // Another agent in the same folder may have been faster.
        let _ = fs::remove_file(path);
        total -= bytes;
    }
    Ok(())
}

/// A log that is being written.
#[derive(Debug)]
pub struct LogFile {
    file: File,
    path: PathBuf,
    bytes: u64,
    hash: blake3::Hasher,
}

impl LogFile {
    /// Appends `chunk`, up to the limit of one log. A full disk ends the log, not the run.
    pub fn write(&mut self, chunk: &[u8]) {
        let room = FILE_LIMIT.saturating_sub(self.bytes);
        let part = &chunk[..chunk.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        if !part.is_empty() && self.file.write_all(part).is_ok() {
            self.bytes += part.len() as u64;
            self.hash.update(part);
        }
    }

    /// What was written, and where.
    pub fn record(&self) -> LogRecord {
        LogRecord { path: self.path.clone(), bytes: self.bytes, blake3: self.hash.finalize().to_hex().to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oldest_logs_make_room_for_new_ones() {
        let folder = tempfile::tempdir().unwrap();
        let logs = LogFolder::new(folder.path()).with_total_limit(10);
        let mut first = logs.start("study/0 1").unwrap();
        first.write(b"0123456789");
        let record = first.record();
        assert_eq!((record.bytes, record.blake3), (10, blake3::hash(b"0123456789").to_hex().to_string()));
        assert!(record.path.file_name().unwrap().to_str().unwrap().starts_with("study_0_1-"));
        drop(first);
        let second = logs.start("next").unwrap();
        assert!(!record.path.exists());
        assert!(second.record().path.exists());
    }
}
