//! Why a model cannot be used.

use std::path::PathBuf;

use fleetune_model::GgufError;
use thiserror::Error;

/// Why a model cannot be used.
#[derive(Debug, Error)]
pub enum ModelError {
    /// Nothing of that name may be read here, nor a file with the identity that is wanted.
    #[error(
        "model `{model}`{} was not found in {}; put it there, or start the worker with `--models FOLDER`",
        identity(pinned.as_deref()),
        places(folders)
    )]
    NotFound {
        /// As the study names it.
        model: String,
        /// Identity of the study's model, shortened, if it has one already.
        pinned: Option<String>,
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
    /// Another file than the one the study was made for, and that one is nowhere else.
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

fn identity(pinned: Option<&str>) -> String {
    pinned.map(|pinned| format!(" (identity {pinned}, under whatever name)")).unwrap_or_default()
}

fn places(folders: &[PathBuf]) -> String {
    if folders.is_empty() {
        return "any folder (none is configured)".to_owned();
    }
    folders.iter().map(|folder| format!("`{}`", folder.display())).collect::<Vec<_>>().join(", ")
}
