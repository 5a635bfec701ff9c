//! Looks for model files below a worker's folders.

use std::fs;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

/// How many folders deep files are looked for.
const MAX_DEPTH: usize = 8;
/// Most files that are listed. A coordinator takes no more of one worker.
pub(super) const MAX_FILES: usize = 10_000;
/// Most folders that are opened: links may lead to the same ones again and again.
const MAX_FOLDERS: usize = 10_000;

/// A file that may be a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Path below the folder, with `/` between its parts.
    pub(super) name: String,
    /// The same as an absolute path; links are not followed.
    pub(super) path: PathBuf,
    /// Where it really lies.
    pub(super) file: PathBuf,
}

/// Every `.gguf` below `folders`, in the order of folders and names; `None` when it was `cancelled` before the end.
///
/// A link counts when it leads to a place inside of `folders`.
pub(super) fn candidates(folders: &[PathBuf], cancelled: &CancellationToken) -> Option<Vec<Candidate>> {
    let mut walk = Walk { roots: real(folders), found: Vec::new(), opened: 0, cancelled };
    for folder in folders {
        // A folder that is away, such as a drive that is not mounted, has no models for now.
        if let Ok(root) = fs::canonicalize(folder) {
            walk.enter(folder, "", &root, &mut Vec::new());
        }
    }
    (!cancelled.is_cancelled()).then_some(walk.found)
}

/// Where the folders really lie.
pub(super) fn real(folders: &[PathBuf]) -> Vec<PathBuf> {
    folders.iter().filter_map(|folder| fs::canonicalize(folder).ok()).collect()
}

struct Walk<'a> {
    roots: Vec<PathBuf>,
    found: Vec<Candidate>,
    opened: usize,
    cancelled: &'a CancellationToken,
}

impl Walk<'_> {
    /// Lists the folder `name` below `base`, which really lies at `real`, inside of `above`.
    fn enter(&mut self, base: &Path, name: &str, real: &Path, above: &mut Vec<PathBuf>) {
        // A link to a folder that it lies in would go on for ever.
        if above.len() > MAX_DEPTH || self.opened >= MAX_FOLDERS || above.iter().any(|folder| folder == real) {
            return;
        }
        self.opened += 1;
        let Ok(entries) = fs::read_dir(real) else { return };
        let mut entries: Vec<fs::DirEntry> = entries.flatten().collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        above.push(real.to_owned());
        for entry in entries {
            if self.cancelled.is_cancelled() || self.found.len() >= MAX_FILES {
                break;
            }
            // A name that is no text cannot be told to anybody.
            let Ok(own) = entry.file_name().into_string() else { continue };
            let (Ok(kind), path) = (entry.file_type(), entry.path()) else { continue };
            let (is_dir, path) = if kind.is_symlink() {
                match fs::canonicalize(&path) {
                    Ok(target) if self.is_inside(&target) => (target.is_dir(), target),
                    Ok(_) | Err(_) => continue,
                }
            } else {
                (kind.is_dir(), path)
            };
            let name = if name.is_empty() { own } else { format!("{name}/{own}") };
            if is_dir {
                self.enter(base, &name, &path, above);
            } else if is_model_name(&name) && path.is_file() {
                self.found.push(Candidate { path: base.join(&name), name, file: path });
            }
        }
        above.pop();
    }

    fn is_inside(&self, path: &Path) -> bool {
        self.roots.iter().any(|root| path.starts_with(root))
    }
}

/// Whether a file may be a model by its name. Of one in several parts only the first is: it leads to the others.
fn is_model_name(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".gguf") else { return false };
    let part = stem.rsplit_once("-of-").and_then(|(rest, of)| Some((rest.rsplit_once('-')?.1, of)));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match part {
        Some((part, of)) if is_number(part) && is_number(of) => part.trim_start_matches('0') == "1",
        Some(_) | None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folders: &[PathBuf]) -> Vec<String> {
        let found = candidates(folders, &CancellationToken::new()).unwrap();
        found.into_iter().map(|candidate| candidate.name).collect()
    }

    #[test]
    fn only_the_first_part_of_a_split_model_is_one() {
        for name in ["a.gguf", "x/a-00001-of-00005.gguf", "a-of-b.gguf", "best-of-3.gguf", "a-x-of-2.gguf"] {
            assert!(is_model_name(name), "{name}");
        }
        for name in ["a", "a.gguf.partial", "a.gguf.script.json", "a-00002-of-00005.gguf", "a-00011-of-00012.gguf"] {
            assert!(!is_model_name(name), "{name}");
        }
    }

    #[test]
    fn files_are_found_eight_folders_deep_and_no_deeper() {
        let root = tempfile::tempdir().unwrap();
        let mut folder = root.path().to_owned();
        for depth in 0..=9 {
            fs::write(folder.join(format!("{depth}.gguf")), b"").unwrap();
            folder.push("d");
            fs::create_dir(&folder).unwrap();
        }
        let names = names(&[root.path().to_owned()]);
        assert_eq!(names.len(), 9, "{names:?}");
        assert!(names.contains(&"d/d/d/d/d/d/d/d/8.gguf".to_owned()), "{names:?}");
    }

    #[cfg(unix)]
    #[test]
    fn links_count_inside_of_the_folders_and_never_go_round() {
        use std::os::unix::fs::symlink;
        let root = tempfile::tempdir().unwrap();
        let (one, two) = (root.path().join("one"), root.path().join("two"));
        for folder in [&one, &two] {
            fs::create_dir(folder).unwrap();
        }
        fs::write(one.join("a.gguf"), b"").unwrap();
        fs::write(root.path().join("secret.gguf"), b"").unwrap();
        symlink(root.path().join("secret.gguf"), one.join("secret.gguf")).unwrap();
        symlink(root.path().join("gone.gguf"), one.join("gone.gguf")).unwrap();
        symlink(root.path(), one.join("out")).unwrap();
        symlink(&one, one.join("round")).unwrap();
        symlink(one.join("a.gguf"), two.join("b.gguf")).unwrap();
        symlink(&one, two.join("other")).unwrap();
        assert_eq!(names(std::slice::from_ref(&one)), ["a.gguf"]);
        assert!(names(std::slice::from_ref(&two)).is_empty(), "the target is in no folder of this worker");
        assert_eq!(names(&[one, two]), ["a.gguf", "b.gguf", "other/a.gguf"]);
    }

    #[test]
    fn cancelled_search_finds_nothing() {
        let cancelled = CancellationToken::new();
        cancelled.cancel();
        assert_eq!(candidates(&[], &cancelled), None);
    }
}
