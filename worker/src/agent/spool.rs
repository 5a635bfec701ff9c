//! Results that the coordinator was not there to take, on disk until it is.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fleetune_core::LeaseToken;

/// Most undelivered results; the agent takes no new job beyond.
const MAX_RESULTS: usize = 1000;

/// A folder of undelivered results, a file each, named after its lease.
#[derive(Clone, Debug)]
pub(super) struct Spool {
    folder: PathBuf,
}

impl Spool {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Stores `encoded` durably.
    pub(super) fn put(&self, token: &LeaseToken, encoded: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(encoded)?;
        file.as_file().sync_all()?;
        file.persist(self.path(token)).map_err(|error| error.error)?;
        Ok(())
    }

    /// Leases with an undelivered result, oldest job first.
    pub(super) fn tokens(&self) -> Vec<LeaseToken> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let token = |path: PathBuf| path.file_name()?.to_str()?.strip_suffix(".finish")?.parse().ok();
        let mut tokens: Vec<LeaseToken> = entries.flatten().filter_map(|entry| token(entry.path())).collect();
        tokens.sort();
        tokens
    }

    /// Whether nothing more should be taken before something is delivered.
    pub(super) fn is_full(&self) -> bool {
        self.tokens().len() >= MAX_RESULTS
    }

    pub(super) fn get(&self, token: &LeaseToken) -> io::Result<Vec<u8>> {
        fs::read(self.path(token))
    }

    /// Forgets a result that was delivered or refused.
    pub(super) fn remove(&self, token: &LeaseToken) {
        // One that cannot be removed is delivered again, which does no harm.
        let _ = fs::remove_file(self.path(token));
    }

    fn path(&self, token: &LeaseToken) -> PathBuf {
        Path::new(&self.folder).join(format!("{token}.finish"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_stay_until_they_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::new(folder.path().join("spool"));
        assert!(spool.tokens().is_empty());
        let tokens: [LeaseToken; 2] = ["9.1.0a".parse().unwrap(), "10.1.0b".parse().unwrap()];
        spool.put(&tokens[1], b"b").unwrap();
        spool.put(&tokens[0], b"a").unwrap();
        assert_eq!(spool.tokens(), tokens);
        assert_eq!(spool.get(&tokens[1]).unwrap(), b"b");
        spool.remove(&tokens[0]);
        assert_eq!(spool.tokens(), [tokens[1]]);
        assert!(!spool.is_full());
    }
}
