//! Which database a storage URL means.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fleetune_core::url::redacted;

use super::engine::Engine;
use super::error::StoreError;
use super::{postgres::Postgres, sqlite::Sqlite};

/// A storage URL, understood.
pub(super) struct StorageUrl {
    shown: String,
    target: Target,
}

enum Target {
    Sqlite { file: PathBuf, temporary: bool, max_pages: Option<u32> },
    Postgres { url: String },
}

/// Where a database is.
pub(super) enum Place<'a> {
    /// A file.
    File(&'a Path),
    /// The URL of a server, its password in it.
    Server(&'a str),
}

impl StorageUrl {
    /// Where it is.
    pub fn place(&self) -> Place<'_> {
        match &self.target {
            Target::Sqlite { file, .. } => Place::File(file),
            Target::Postgres { url } => Place::Server(url),
        }
    }

    pub fn parse(url: &str) -> Result<Self, StoreError> {
        let shown = redacted(url);
        let target = target(url).map_err(|why| StoreError::CannotOpen { url: shown.clone(), why })?;
        Ok(Self { shown, target })
    }

    /// As given, a password replaced.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    pub async fn open(&self) -> Result<Arc<dyn Engine>, StoreError> {
        match &self.target {
            Target::Sqlite { file, temporary, max_pages } => {
                Ok(Arc::new(Sqlite::open(&self.shown, file, *temporary, *max_pages).await?))
            }
            Target::Postgres { url } => Ok(Postgres::open(&self.shown, url).await?),
        }
    }
}

fn target(url: &str) -> Result<Target, String> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok(Target::Postgres { url: url.to_owned() });
    }
    let Some(rest) = url.strip_prefix("sqlite:") else {
        return Err("it must start with `sqlite://` (a file) or `postgres://` (a server)".to_owned());
    };
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut options: BTreeMap<&str, &str> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .collect();
    // For tests of a full disk: the database refuses to grow beyond so many pages.
    let max_pages = match options.remove("max_page_count") {
        None => None,
        Some(count) => Some(count.parse().map_err(|_| format!("`max_page_count={count}` is not a number"))?),
    };
    if let Some(unknown) = options.keys().next() {
        return Err(format!("there is no option `{unknown}`; the one that is known is `max_page_count`"));
    }
    match path {
        "" => Err("the path of the file is missing; write `sqlite:///home/me/fleetune.db`".to_owned()),
        ":memory:" => {
            let name =
                format!("fleetune-{}-{:016x}.db", std::process::id(), super::store::secret().unwrap_or_default());
            Ok(Target::Sqlite { file: std::env::temp_dir().join(name), temporary: true, max_pages })
        }
        path => Ok(Target::Sqlite { file: PathBuf::from(path), temporary: false, max_pages }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_scheme_names_those_that_are_known() {
        let error = StorageUrl::parse("mysql://host/db").err().unwrap().to_string();
        assert!(error.contains("sqlite://") && error.contains("postgres://"), "{error}");
        assert!(StorageUrl::parse("sqlite:").is_err());
        assert!(StorageUrl::parse("sqlite://a.db?mode=ro").is_err());
    }
}
