//! Model files on this worker: which may be read, and what they are.
//!
//! A study names its model for people; once it was described, the identity of the file decides, wherever it lies.

mod error;
mod known;
mod scan;

use std::collections::HashSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleetune_core::VisibleModel;
use fleetune_model::{ModelFile, ModelHash};
use tokio_util::sync::CancellationToken;

pub use error::ModelError;

use known::Known;
use scan::{Candidate, candidates, real};

/// Longest name or path of a model, bytes, and of all together: a list has to fit into one message.
const MAX_TEXT: usize = 4_096;
const MAX_LIST: usize = 4 << 20;

/// The models that this worker may read.
#[derive(Clone, Debug)]
pub struct Models {
    folders: Vec<PathBuf>,
    files: Vec<PathBuf>,
    known: Arc<Known>,
    listed: Arc<Mutex<Vec<Listed>>>,
    given_up: CancellationToken,
}

/// A model as the last scan found it.
#[derive(Clone, Debug)]
struct Listed {
    model: VisibleModel,
    file: PathBuf,
}

/// A file that a job is to run.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where it lies.
    pub path: PathBuf,
    /// Identity and metadata.
    pub file: Arc<ModelFile>,
}

impl Models {
    /// Models in `folders`, and `files` that the operator of this machine named.
    pub fn new(folders: Vec<PathBuf>, files: Vec<PathBuf>) -> Self {
        let absolute = |paths: Vec<PathBuf>| {
            paths.into_iter().map(|path| std::path::absolute(&path).unwrap_or(path)).collect::<Vec<_>>()
        };
        Self {
            folders: absolute(folders),
            files: absolute(files),
            known: Arc::default(),
            listed: Arc::default(),
            given_up: CancellationToken::new(),
        }
    }

    /// Cancel it, and a scan under way ends soon.
    pub fn given_up(&self) -> CancellationToken {
        self.given_up.clone()
    }

    /// What can be read now, sorted; `None` when it was given up. Blocks; reads only what has changed since the last one.
    pub fn scan(&self) -> Option<Vec<VisibleModel>> {
        let named = self.files.iter().filter_map(|file| {
            let name = file.file_name()?.to_str()?.to_owned();
            Some(Candidate { name, path: file.clone(), file: file.clone() })
        });
        let candidates: Vec<Candidate> = named.chain(candidates(&self.folders, &self.given_up)?).collect();
        self.known.keep(&candidates.iter().map(|candidate| candidate.file.clone()).collect::<HashSet<_>>());
        let mut listed = Vec::with_capacity(candidates.len());
        let mut length = 0;
        for Candidate { name, path, file } in candidates {
            if self.given_up.is_cancelled() {
                return None;
            }
            let Some((model, bytes)) = self.known.look(&file) else { continue };
            let Some(path) = path.to_str().map(str::to_owned) else { continue };
            if listed.len() == scan::MAX_FILES || path.len() > MAX_TEXT {
                continue;
            }
            let model = VisibleModel { name, path, hash: model.hash.0.clone(), bytes };
            length += model.name.len() + model.path.len() + model.hash.len();
            if length > MAX_LIST {
                tracing::warn!(models = listed.len(), "there are more models than a list can hold");
                break;
            }
            listed.push(Listed { model, file });
        }
        listed.sort_by(|a, b| a.model.cmp(&b.model));
        listed.dedup_by(|a, b| a.model == b.model);
        let models = listed.iter().map(|listed| listed.model.clone()).collect();
        *self.lock() = listed;
        Some(models)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Listed>> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file that `study` means: the one whose identity is `pinned`, preferably where the study calls it `model`; before
    /// there is a pin, the one that is called so.
    pub async fn find(&self, study: &str, model: &str, pinned: Option<&str>) -> Result<Found, ModelError> {
        let (models, study, model) = (self.clone(), study.to_owned(), model.to_owned());
        let (pinned, name) = (pinned.map(str::to_owned), model.clone());
        tokio::task::spawn_blocking(move || models.find_now(&study, &model, pinned.as_deref()))
            .await
            .unwrap_or_else(|error| Err(ModelError::Io { path: name.into(), source: std::io::Error::other(error) }))
    }

    fn find_now(&self, study: &str, model: &str, pinned: Option<&str>) -> Result<Found, ModelError> {
        let named = self.resolve(model).and_then(|path| self.inspect(path));
        let Some(pinned) = pinned else { return named };
        if named.as_ref().is_ok_and(|found| found.file.hash.0 == pinned) {
            return named;
        }
        // Moved since, or kept under another name on this machine.
        if let Some(found) = self.listed_as(model, pinned) {
            return Ok(found);
        }
        if self.scan().is_some()
            && let Some(found) = self.listed_as(model, pinned)
        {
            return Ok(found);
        }
        let short = ModelHash(pinned.to_owned()).short().to_owned();
        Err(match named {
            Ok(found) => ModelError::Changed {
                path: found.path,
                study: study.to_owned(),
                found: found.file.hash.short().to_owned(),
                pinned: short,
            },
            Err(ModelError::NotFound { .. } | ModelError::Outside { .. }) => self.not_found(model, Some(short)),
            Err(error) => error,
        })
    }

    /// The file with the identity `pinned` among those of the last scan, if it is still there.
    fn listed_as(&self, model: &str, pinned: &str) -> Option<Found> {
        let mut listed: Vec<Listed> =
            self.lock().iter().filter(|listed| listed.model.hash == pinned).cloned().collect();
        listed.sort_by_key(|listed| !listed.model.is_called(model));
        let found = listed.into_iter().filter_map(|listed| self.inspect(listed.file).ok());
        found.into_iter().find(|found| found.file.hash.0 == pinned)
    }

    fn inspect(&self, path: PathBuf) -> Result<Found, ModelError> {
        let file = self.known.inspect(&path)?;
        Ok(Found { path, file })
    }

    fn not_found(&self, model: &str, pinned: Option<String>) -> ModelError {
        ModelError::NotFound { model: model.to_owned(), pinned, folders: self.folders.clone() }
    }

    /// The file that a study calls `model`: its path, or its name in one of the folders, with or without `.gguf`.
    fn resolve(&self, model: &str) -> Result<PathBuf, ModelError> {
        let path = Path::new(model);
        let outside = || ModelError::Outside { model: model.to_owned(), folders: self.folders.clone() };
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| ModelError::Io { path, source }
        };
        let is_called = |file: &PathBuf| {
            let name = file.file_name().and_then(|name| name.to_str());
            file == path || name.is_some_and(|name| name == model || name.strip_suffix(".gguf") == Some(model))
        };
        if let Some(file) = self.files.iter().find(|file| is_called(file)) {
            fs::metadata(file).map_err(io(file))?;
            return Ok(file.clone());
        }
        if path.components().any(|part| matches!(part, Component::ParentDir)) {
            return Err(outside());
        }
        let named = |folder: &PathBuf| [folder.join(path), folder.join(format!("{model}.gguf"))];
        let candidates: Vec<PathBuf> =
            if path.is_absolute() { vec![path.to_owned()] } else { self.folders.iter().flat_map(named).collect() };
        let found = candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| self.not_found(model, None))?;
        // Links are followed first: one that leads out of the folders is a way out of them.
        let found = fs::canonicalize(&found).map_err(io(&found))?;
        if real(&self.folders).iter().any(|folder| found.starts_with(folder)) { Ok(found) } else { Err(outside()) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::{Duration, SystemTime};

    use fleetune_model::{SynthQuant, SynthSize, SynthSpec};

    use super::*;

    fn write(path: &Path, seed: u64) {
        let mut bytes = Vec::new();
        SynthSpec { size: SynthSize::Tiny, quant: SynthQuant::Q8_0, seed }.write(&mut bytes).unwrap();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        // Files of one length, written within one tick of the clock, differ in their time nevertheless.
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1000 + seed);
        File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
    }

    fn names(models: &Models) -> Vec<String> {
        models.scan().unwrap().into_iter().map(|model| model.name).collect()
    }

    #[test]
    fn models_are_read_from_the_folders_and_the_named_files_only() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("models");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("a.gguf"), b"").unwrap();
        fs::write(root.path().join("secret"), b"").unwrap();
        let models = Models::new(vec![folder.clone()], Vec::new());
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
        let named = Models::new(Vec::new(), vec![secret.clone()]);
        for name in ["secret", secret.to_str().unwrap()] {
            assert_eq!(named.resolve(name).unwrap(), secret);
        }
        assert!(matches!(named.resolve(real.to_str().unwrap()), Err(ModelError::Outside { .. })));
        fs::remove_file(&secret).unwrap();
        assert!(matches!(named.resolve("secret"), Err(ModelError::Io { .. })));
    }

    #[test]
    fn scan_lists_what_is_a_model_now() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("models");
        write(&folder.join("b.gguf"), 1);
        write(&folder.join("llama/a.gguf"), 2);
        write(&folder.join("new.gguf.partial"), 3);
        fs::write(folder.join("broken.gguf"), b"GGUX").unwrap();
        write(&root.path().join("named"), 4);
        let models = Models::new(vec![folder.clone()], vec![root.path().join("named"), root.path().join("missing")]);
        let seen = models.scan().unwrap();
        assert_eq!(
            seen.iter().map(|model| model.name.as_str()).collect::<Vec<_>>(),
            ["b.gguf", "llama/a.gguf", "named"]
        );
        assert_eq!(Path::new(&seen[1].path), folder.join("llama/a.gguf"));
        assert_eq!((seen[1].hash.len(), seen[1].bytes), (64, fs::metadata(&seen[1].path).unwrap().len()));
        assert_eq!(models.scan().unwrap(), seen);
        fs::rename(folder.join("new.gguf.partial"), folder.join("new.gguf")).unwrap();
        fs::remove_file(folder.join("b.gguf")).unwrap();
        write(&folder.join("broken.gguf"), 5);
        assert_eq!(names(&models), ["broken.gguf", "llama/a.gguf", "named", "new.gguf"]);
    }

    #[cfg(unix)]
    #[test]
    fn scan_does_not_read_again_what_has_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        write(&path, 1);
        let models = Models::new(vec![folder.path().to_owned()], Vec::new());
        let before = models.scan().unwrap();
        // As long as before, at the time of before: nobody who does not read it can tell.
        let (bytes, modified) = (fs::metadata(&path).unwrap().len(), fs::metadata(&path).unwrap().modified().unwrap());
        let file = File::create(&path).unwrap();
        file.set_len(bytes).unwrap();
        file.set_modified(modified).unwrap();
        assert_eq!(models.scan().unwrap(), before);
    }

    #[test]
    fn scan_that_is_given_up_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("m.gguf"), 1);
        let models = Models::new(vec![folder.path().to_owned()], Vec::new());
        models.given_up().cancel();
        assert_eq!(models.scan(), None);
    }

    #[tokio::test]
    async fn pinned_model_is_found_by_its_identity_wherever_it_lies() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("models");
        write(&folder.join("a.gguf"), 1);
        write(&folder.join("z.gguf"), 1);
        write(&folder.join("other.gguf"), 2);
        let models = Models::new(vec![folder.clone()], Vec::new());
        let hash = models.find("s", "a", None).await.unwrap().file.hash.0.clone();
        let folder = fs::canonicalize(folder).unwrap();
        for (model, file) in [("a", "a.gguf"), ("z", "z.gguf"), ("other", "a.gguf"), ("/elsewhere/m.gguf", "a.gguf")] {
            assert_eq!(models.find("s", model, Some(&hash)).await.unwrap().path, folder.join(file), "{model}");
        }
        fs::remove_file(folder.join("a.gguf")).unwrap();
        fs::rename(folder.join("z.gguf"), folder.join("moved.gguf")).unwrap();
        assert_eq!(models.find("s", "a", Some(&hash)).await.unwrap().path, folder.join("moved.gguf"));
        fs::remove_file(folder.join("moved.gguf")).unwrap();
        let error = models.find("s", "a", Some(&hash)).await.unwrap_err().to_string();
        assert!(error.contains(&hash[..8]) && error.contains("`a`") && error.contains("--models FOLDER"), "{error}");
        let error = models.find("s", "other", Some(&hash)).await.unwrap_err();
        assert!(matches!(error, ModelError::Changed { .. }), "{error}");
        fs::write(folder.join("a.gguf"), b"GGUX").unwrap();
        assert!(matches!(models.find("s", "a", Some(&hash)).await, Err(ModelError::Gguf { .. })));
    }

    #[tokio::test]
    async fn changed_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        let models = Models::new(Vec::new(), vec![path.clone()]);
        let find = || models.find("s", path.to_str().unwrap(), None);
        write(&path, 1);
        let first = find().await.unwrap();
        write(&path, 2);
        let second = find().await.unwrap();
        assert_ne!(first.file.hash, second.file.hash);
        fs::write(&path, b"GGUX").unwrap();
        assert!(matches!(find().await, Err(ModelError::Gguf { .. })));
        fs::remove_file(&path).unwrap();
        assert!(matches!(find().await, Err(ModelError::Io { .. })));
    }
}
