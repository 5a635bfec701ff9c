//! The tokens in force, as this process knows them, and whether a call came with one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use fleetune_core::{Role, Timestamp};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::scheduler::{Engine, EngineError};
use crate::service::status;
use crate::storage::{TokenHash, TokenRecord};

/// How often the tokens are read again: a revocation elsewhere holds here after that.
const REFRESH: Duration = Duration::from_secs(2);
/// Older knowledge opens nothing: a token may have been revoked.
const STALE: Duration = Duration::from_secs(30);
/// Between two notes of a token's use.
const NOTE_EVERY: Duration = Duration::from_mins(1);
/// Tokens read at a time.
const PAGE: u32 = 1_000;

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Id of the token.
    pub token: i64,
    /// Name of the token.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

/// The tokens of a storage. Cloning shares them.
#[derive(Clone)]
pub struct Tokens {
    engine: Engine,
    known: Arc<RwLock<Known>>,
    /// When the use of a token was noted last, and which notes storage lacks.
    uses: Arc<Mutex<HashMap<i64, Use>>>,
}

struct Known {
    /// By the first eight bytes of the hash, so that finding one tells nothing of the rest.
    by_prefix: HashMap<[u8; 8], Vec<TokenRecord>>,
    /// Whether there is any, be it revoked.
    any: bool,
    read_at: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Use {
    at: Timestamp,
    stored: bool,
}

impl Tokens {
    /// Of the storage behind `engine`; knows none until [`Self::refresh`].
    pub fn new(engine: Engine) -> Self {
        let known = Known { by_prefix: HashMap::new(), any: false, read_at: None };
        Self { engine, known: Arc::new(RwLock::new(known)), uses: Arc::default() }
    }

    /// Reads the tokens; whether there is any.
    pub async fn refresh(&self) -> Result<bool, EngineError> {
        let read_at = Instant::now();
        let mut all = Vec::new();
        loop {
            let after = all.last().map_or(0, |token: &TokenRecord| token.id);
            let page = self.engine.tokens(after, PAGE).await?;
            let is_last = page.len() < PAGE as usize;
            all.extend(page);
            if is_last {
                break;
            }
        }
        let any = !all.is_empty();
        let mut by_prefix = HashMap::<_, Vec<_>>::new();
        for token in all.into_iter().filter(|token| token.revoked_at.is_none()) {
            by_prefix.entry(prefix(&token.hash)).or_default().push(token);
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        // A reader that began earlier and ended later knows less.
        if known.read_at.is_none_or(|at| at < read_at) {
            *known = Known { by_prefix, any, read_at: Some(read_at) };
        }
        Ok(any)
    }

    /// Keeps them up to date, and storage's knowledge of their use, until `stop`.
    pub async fn follow(self, stop: CancellationToken) {
        let mut failing = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(REFRESH) => {}
            }
            match self.refresh().await {
                Ok(_) => failing = false,
                Err(error) if !failing => {
                    tracing::warn!(%error, "the tokens cannot be read; those known are used for {} s", STALE.as_secs());
                    failing = true;
                }
                Err(_) => {}
            }
            self.store_uses().await;
        }
    }

    /// Whether calls need a token.
    pub fn are_asked_for(&self) -> bool {
        self.known.read().unwrap_or_else(PoisonError::into_inner).any
    }

    /// Who calls with this `authorization`; nobody in particular while no token is asked for.
    pub fn caller(&self, authorization: Option<&str>) -> Result<Option<Caller>, Status> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if !known.any && known.read_at.is_some() {
            return Ok(None);
        }
        if known.read_at.is_none_or(|at| at.elapsed() > STALE) {
            return Err(status::unchecked());
        }
        let Some(authorization) = authorization else {
            return Err(status::unauthenticated("this coordinator asks for a token, and the call came without one"));
        };
        let (scheme, token) = authorization.split_once(' ').unwrap_or((authorization, ""));
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(status::unauthenticated("the `authorization` of the call is no `Bearer TOKEN`"));
        }
        let hash: TokenHash = Sha256::digest(token.trim().as_bytes()).into();
        let candidates = known.by_prefix.get(&prefix(&hash)).map(Vec::as_slice).unwrap_or_default();
        let Some(found) = candidates.iter().find(|token| bool::from(token.hash.as_slice().ct_eq(hash.as_slice())))
        else {
            return Err(status::unauthenticated("the token of the call is unknown or was revoked"));
        };
        let now = self.engine.now();
        if !found.is_in_force(now) {
            return Err(status::unauthenticated(&format!("the token `{}` has expired", found.name)));
        }
        let caller = Caller { token: found.id, name: found.name.clone(), role: found.role };
        drop(known);
        self.note_use(caller.token, now);
        Ok(Some(caller))
    }

    fn note_use(&self, token: i64, now: Timestamp) {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = uses.get(&token).is_some_and(|noted| now.since(noted.at) < NOTE_EVERY);
        if !noted {
            uses.insert(token, Use { at: now, stored: false });
        }
    }

    async fn store_uses(&self) {
        let pending: Vec<_> = {
            let uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
            uses.iter().filter(|(_, noted)| !noted.stored).map(|(token, noted)| (*token, noted.at)).collect()
        };
        if pending.is_empty() {
            return;
        }
        // What cannot be stored now is stored next time.
        if self.engine.note_uses(pending.clone()).await.is_ok() {
            let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
            for (token, at) in pending {
                if let Some(noted) = uses.get_mut(&token).filter(|noted| noted.at == at) {
                    noted.stored = true;
                }
            }
        }
    }
}

fn prefix(hash: &TokenHash) -> [u8; 8] {
    std::array::from_fn(|index| hash[index])
}
