//! Model files on this worker: which may be read, and what they are.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use fleetune_model::{GgufError, ModelFile, inspect};
use thiserror::Error;

/// Why a model cannot be used.
#[derive(Debug, Error)]
pub enum ModelError {
    /// Nothing of that name may be read here.
    #[error(
        "model `{model}` was not found in {}; put it there, or start the worker with `--models FOLDER`",
        places(folders)
    )]
    NotFound {
        /// As the study names it.
        model: String,
        /// Where it was looked for.
        folders: Vec<PathBuf>,
    },
    /// A path that leaves the configured folders.
    #[error("model `{model}` lies outside of {}; only models in the worker's folders are read", places(folders))]
    Outside {
        /// As the study names it.
        model: String,
        /// What may be read.
        folders: Vec<PathBuf>,
    },
    /// The file cannot be read.
    #[error("model file `{}` cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another file than the one the study was made for.
    #[error(
        "model file `{}` is not the one that study `{study}` was made for (identity {found} instead of {pinned}); put \
         the file back, or start a new study",
        path.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// The study.
        study: String,
        /// Identity of the file, shortened.
        found: String,
        /// Identity of the study's model, shortened.
        pinned: String,
    },
    /// The file is no model.
    #[error("model file `{}`: {source}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: GgufError,
    },
}

fn places(folders: &[PathBuf]) -> String {
    if folders.is_empty() {
        return "any folder (none is configured)".to_owned();
    }
    folders.iter().map(|folder| format!("`{}`", folder.display())).collect::<Vec<_>>().join(", ")
}

/// The models that this worker may read.
#[derive(Clone, Debug)]
pub struct Models {
    folders: Vec<PathBuf>,
    allow_any_path: bool,
    known: Arc<Mutex<HashMap<PathBuf, Known>>>,
}

/// What a file was when it was read.
#[derive(Clone, Debug)]
struct Known {
    bytes: u64,
    modified: Option<SystemTime>,
    file: Arc<ModelFile>,
}

impl Models {
    /// Models in `folders`; with `allow_any_path` also every path, for an operator who gave it on this machine.
    pub fn new(folders: Vec<PathBuf>, allow_any_path: bool) -> Self {
        Self { folders, allow_any_path, known: Arc::default() }
    }

    /// The file that a study calls `model`: a path, or a name in one of the folders, with or without `.gguf`.
    pub fn resolve(&self, model: &str) -> Result<PathBuf, ModelError> {
        let path = Path::new(model);
        let not_found = || ModelError::NotFound { model: model.to_owned(), folders: self.folders.clone() };
        let outside = || ModelError::Outside { model: model.to_owned(), folders: self.folders.clone() };
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| ModelError::Io { path, source }
        };
        if self.allow_any_path && (path.is_absolute() || path.exists()) {
            let path = std::path::absolute(path).map_err(io(path))?;
            fs::metadata(&path).map_err(io(&path))?;
            return Ok(path);
        }
        if path.components().any(|part| matches!(part, Component::ParentDir)) {
            return Err(outside());
        }
        let named = |folder: &PathBuf| [folder.join(path), folder.join(format!("{model}.gguf"))];
        let candidates: Vec<PathBuf> =
            if path.is_absolute() { vec![path.to_owned()] } else { self.folders.iter().flat_map(named).collect() };
        let found = candidates.into_iter().find(|path| path.is_file()).ok_or_else(not_found)?;
        // Links are followed first: one that leads out of the folders is a way out of them.
        let real = fs::canonicalize(&found).map_err(io(&found))?;
        let inside = self.folders.iter().filter_map(|folder| fs::canonicalize(folder).ok());
        if inside.into_iter().any(|folder| real.starts_with(folder)) { Ok(real) } else { Err(outside()) }
    }

    /// Identity and metadata of the file at `path`. Read again only when its length or time of change differ.
    pub async fn inspect(&self, path: &Path) -> Result<Arc<ModelFile>, ModelError> {
        let (known, path) = (self.known.clone(), path.to_owned());
        let failed = path.clone();
        tokio::task::spawn_blocking(move || inspect_file(&known, &path))
            .await
            .unwrap_or_else(|error| Err(ModelError::Io { path: failed, source: std::io::Error::other(error) }))
    }
}

fn inspect_file(known: &Mutex<HashMap<PathBuf, Known>>, path: &Path) -> Result<Arc<ModelFile>, ModelError> {
    let io = |source| ModelError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    let (bytes, modified) = (metadata.len(), metadata.modified().ok());
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = known.get(path)
        && modified.is_some()
        && (known.bytes, known.modified) == (bytes, modified)
    {
        return Ok(known.file.clone());
    }
    let file = inspect(&mut BufReader::new(file))
        .map_err(|source| ModelError::Gguf { path: path.to_owned(), source })
        .map(Arc::new)?;
    known.insert(path.to_owned(), Known { bytes, modified, file: file.clone() });
    Ok(file)
}

#[cfg(test)]
mod tests {
    use fleetune_model::{SynthQuant, SynthSize, SynthSpec};

    use super::*;

    #[test]
    fn models_are_read_from_the_folders_only() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("models");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("a.gguf"), b"").unwrap();
        fs::write(root.path().join("secret"), b"").unwrap();
        let models = Models::new(vec![folder.clone()], false);
        let real = fs::canonicalize(folder.join("a.gguf")).unwrap();
        for name in ["a", "a.gguf", folder.join("a.gguf").to_str().unwrap()] {
            assert_eq!(models.resolve(name).unwrap(), real, "{name}");
        }
        let secret = root.path().join("secret");
        for name in ["../secret", secret.to_str().unwrap()] {
            assert!(matches!(models.resolve(name), Err(ModelError::Outside { .. })), "{name}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&secret, folder.join("link")).unwrap();
            assert!(matches!(models.resolve("link"), Err(ModelError::Outside { .. })));
        }
        assert!(matches!(models.resolve("b"), Err(ModelError::NotFound { .. })));
        assert_eq!(Models::new(Vec::new(), true).resolve(secret.to_str().unwrap()).unwrap(), secret);
    }

    #[tokio::test]
    async fn changed_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        let write = |seed, modified| {
            let mut bytes = Vec::new();
            SynthSpec { size: SynthSize::Tiny, quant: SynthQuant::Q8_0, seed }.write(&mut bytes).unwrap();
            fs::write(&path, bytes).unwrap();
            File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        };
        let models = Models::new(Vec::new(), true);
        let time = |seconds| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        write(1, time(1000));
        let first = models.inspect(&path).await.unwrap();
        write(2, time(2000));
        let second = models.inspect(&path).await.unwrap();
        assert_ne!(first.hash, second.hash);
        fs::write(&path, b"GGUX").unwrap();
        assert!(matches!(models.inspect(&path).await, Err(ModelError::Gguf { .. })));
        fs::remove_file(&path).unwrap();
        assert!(matches!(models.inspect(&path).await, Err(ModelError::Io { .. })));
    }
}
