//! Who this worker is: 32 random hexadecimal digits in its data folder, drawn on the first start.
//!
//! The file is locked while an agent uses it, so that a second agent on the host gets an identity of its own.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use fleetune_core::WorkerId;
use rand::Rng;
use thiserror::Error;

/// Agents that may share one data folder.
const MAX_AGENTS: u32 = 64;

/// Why no identity could be taken.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The folder or a file in it cannot be used.
    #[error("worker identity in `{}` cannot be used: {source}; give a folder that this user may write to", path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Every identity is in use.
    #[error("{MAX_AGENTS} agents already share `{}`; give this one a data folder of its own", path.display())]
    TooMany {
        /// The folder.
        path: PathBuf,
    },
}

/// An identity, taken for as long as this value lives.
#[derive(Debug)]
pub struct Identity {
    id: WorkerId,
    // Its lock ends with it.
    _file: File,
}

impl Identity {
    /// Takes the first free identity in `folder`, which is made when it is not there.
    pub fn take(folder: &Path) -> Result<Self, IdentityError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| IdentityError::Io { path, source }
        };
        fs::create_dir_all(folder).map_err(failed(folder))?;
        for number in 1..=MAX_AGENTS {
            let name = if number == 1 { "worker-id".to_owned() } else { format!("worker-id.{number}") };
            let path = folder.join(name);
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(failed(&path))?;
            match file.try_lock() {
                Ok(()) => {
                    let id = read_or_draw(&mut file).map_err(failed(&path))?;
                    return Ok(Self { id: WorkerId(id), _file: file });
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(source)) => return Err(failed(&path)(source)),
            }
        }
        Err(IdentityError::TooMany { path: folder.to_owned() })
    }

    /// The identity.
    pub fn id(&self) -> &WorkerId {
        &self.id
    }
}

fn read_or_draw(file: &mut File) -> io::Result<String> {
    let mut text = String::new();
    // A file that a crash left empty or torn is drawn anew, as is one that is no text.
    let readable = (&*file).take(1024).read_to_string(&mut text).is_ok();
    let text = text.trim();
    let valid = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if readable && valid {
        return Ok(text.to_owned());
    }
    let id = random_hex();
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(format!("{id}\n").as_bytes())?;
    file.sync_all()?;
    Ok(id)
}

/// 128 random bits as 32 hexadecimal digits.
pub(crate) fn random_hex() -> String {
    let mut rng: rand::rngs::ChaCha8Rng = rand::make_rng();
    format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_outlives_the_agent_and_is_never_shared() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let first = Identity::take(&path).unwrap();
        let second = Identity::take(&path).unwrap();
        assert_eq!(first.id().0.len(), 32);
        assert_ne!(first.id(), second.id());
        let id = first.id().clone();
        drop(first);
        assert_eq!(*Identity::take(&path).unwrap().id(), id);
    }

    #[test]
    fn torn_file_is_drawn_anew() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("worker-id"), b"00ff\xff").unwrap();
        assert_eq!(Identity::take(folder.path()).unwrap().id().0.len(), 32);
    }
}
