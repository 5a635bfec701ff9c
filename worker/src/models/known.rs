//! What model files were when they were read, so that none is read twice.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use fleetune_model::{GgufError, ModelFile, inspect};

use super::ModelError;

/// Identities by path, as long as the file's length and time of change stay.
#[derive(Debug, Default)]
pub(super) struct Known {
    // Never held while a file is read: that takes as long as its disk.
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    files: HashMap<PathBuf, Entry>,
    /// What was said of already.
    skipped: HashSet<PathBuf>,
}

#[derive(Clone, Debug)]
struct Entry {
    bytes: u64,
    modified: Option<SystemTime>,
    /// None of a file that is no model.
    model: Option<Arc<ModelFile>>,
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Identity and metadata of the file at `path`.
    pub(super) fn inspect(&self, path: &Path) -> Result<Arc<ModelFile>, ModelError> {
        let io = |source| ModelError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        let (bytes, modified) = (metadata.len(), metadata.modified().ok());
        if let Some(Entry { model: Some(model), .. }) = self.unchanged(path, bytes, modified) {
            return Ok(model);
        }
        let (model, answer) = match inspect(&mut BufReader::new(file)) {
            Ok(model) => {
                let model = Arc::new(model);
                (Some(model.clone()), Ok(model))
            }
            Err(GgufError::Io(source)) => return Err(io(source)),
            Err(source) => (None, Err(ModelError::Gguf { path: path.to_owned(), source })),
        };
        self.lock().files.insert(path.to_owned(), Entry { bytes, modified, model });
        answer
    }

    /// The same for a file that may as well be no model: then it is left out, and the log says why, once.
    pub(super) fn look(&self, path: &Path) -> Option<(Arc<ModelFile>, u64)> {
        let answer = std::fs::metadata(path)
            .map_err(|source| ModelError::Io { path: path.to_owned(), source })
            .and_then(|metadata| {
                let bytes = metadata.len();
                match self.unchanged(path, bytes, metadata.modified().ok()) {
                    Some(entry) => Ok(entry.model.map(|model| (model, bytes))),
                    None => self.inspect(path).map(|model| Some((model, bytes))),
                }
            });
        match answer {
            Ok(found) => {
                if found.is_some() {
                    self.lock().skipped.remove(path);
                }
                found
            }
            Err(error) => {
                if self.lock().skipped.insert(path.to_owned()) {
                    tracing::warn!(%error, "model file is left out");
                }
                None
            }
        }
    }

    /// What is known of a file that is as it was.
    fn unchanged(&self, path: &Path, bytes: u64, modified: Option<SystemTime>) -> Option<Entry> {
        let entries = self.lock();
        let entry = entries.files.get(path)?;
        (modified.is_some() && (entry.bytes, entry.modified) == (bytes, modified)).then(|| entry.clone())
    }

    /// Forgets all files but these.
    pub(super) fn keep(&self, paths: &HashSet<PathBuf>) {
        let mut entries = self.lock();
        entries.files.retain(|path, _| paths.contains(path));
        entries.skipped.retain(|path| paths.contains(path));
    }
}
