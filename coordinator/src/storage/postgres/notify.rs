//! Word of changes from process to process: NOTIFY after a commit, LISTEN for those of others.
//!
//! It only wakes. What has changed is found by revision, and who loses a word finds it by polling, later.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions};
use sqlx::query;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::stash::Stash;
use crate::storage::engine::{Heard, News};
use crate::storage::error::StoreError;
use crate::storage::store::secret;

/// Where changes are told of, in each database for itself.
const CHANNEL: &str = "fleetune";
/// Ends a word of changes that bring nobody work: those who wait for some sleep on. Without it a word wakes all.
const NO_WORK: &str = " trials";
/// Between two words of one process: at most 50 a second, since Postgres hands them out one commit at a time.
const SPACING: Duration = Duration::from_millis(20);
/// The same where nobody's work hangs on the second one: each costs as much as a write.
const NO_WORK_SPACING: Duration = Duration::from_millis(100);
/// Between tries to listen again, at most.
const PAUSE: Duration = Duration::from_secs(5);
/// How long an end waits to tell of the last change.
const LAST_WORD: Duration = Duration::from_secs(1);
/// How long a caller waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(10);

/// Tells others of changes, and hears of theirs. Ends when it is dropped.
pub(super) struct Word {
    /// A connection of its own for each direction: inside the transaction of a change NOTIFY would serialise commits.
    speaker: Arc<Stash>,
    listener: PgPool,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

struct Shared {
    /// Tells its own words from those of others.
    id: String,
    changed: Notify,
    work: Notify,
    /// A change that nobody was told of yet, and whether it may bring work.
    unsaid: AtomicBool,
    unsaid_work: AtomicBool,
    others: watch::Sender<Heard>,
    hears: AtomicBool,
}

impl Shared {
    async fn say(&self, speaker: &Stash) -> Result<(), sqlx::Error> {
        let mut borrowed = speaker.borrow().await?;
        self.unsaid.store(false, Ordering::Relaxed);
        let is_work = self.unsaid_work.swap(false, Ordering::Relaxed);
        let word = if is_work { self.id.clone() } else { format!("{}{NO_WORK}", self.id) };
        query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(word).execute(&mut borrowed.connection).await?;
        borrowed.give_back();
        Ok(())
    }

    fn wake(&self, news: News) {
        self.others.send_modify(|heard| heard.one_more(news));
    }
}

impl Word {
    /// Begins to listen. Must be called within a tokio runtime.
    pub fn start(options: &PgConnectOptions) -> Result<Self, StoreError> {
        let speaker = Arc::new(Stash::new(options.clone().application_name("fleetune notify"), 1));
        // One connection that stays, be it idle.
        let listener = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(ACQUIRE)
            .connect_lazy_with(options.clone().application_name("fleetune listen"));
        let shared = Arc::new(Shared {
            id: format!("{:016x}", secret()?),
            changed: Notify::new(),
            work: Notify::new(),
            unsaid: AtomicBool::new(false),
            unsaid_work: AtomicBool::new(false),
            others: watch::Sender::new(Heard::default()),
            hears: AtomicBool::new(false),
        });
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(speak(Arc::clone(&speaker), Arc::clone(&shared))));
        tokio::spawn(stop.clone().run_until_cancelled_owned(listen(listener.clone(), Arc::clone(&shared))));
        Ok(Self { speaker, listener, shared, _stop: stop.drop_guard() })
    }

    /// Something was committed that others may wait for.
    pub fn changed(&self, news: News) {
        self.shared.unsaid_work.fetch_or(news == News::Work, Ordering::Relaxed);
        self.shared.unsaid.store(true, Ordering::Relaxed);
        self.shared.changed.notify_one();
        if news == News::Work {
            self.shared.work.notify_one();
        }
    }

    /// Changes when others changed something, or may have done so unheard.
    pub fn others(&self) -> watch::Receiver<Heard> {
        self.shared.others.subscribe()
    }

    /// Whether words of others arrive.
    pub fn hears(&self) -> bool {
        self.shared.hears.load(Ordering::Relaxed)
    }

    /// Says what is left to say.
    pub async fn close(&self) {
        self.listener.close().await;
        if self.shared.unsaid.load(Ordering::Relaxed) {
            drop(tokio::time::timeout(LAST_WORD, self.shared.say(&self.speaker)).await);
        }
        self.speaker.close().await;
    }
}

async fn speak(speaker: Arc<Stash>, shared: Arc<Shared>) {
    let mut quiet_until = Instant::now();
    loop {
        // What changes meanwhile is told with the next word.
        shared.changed.notified().await;
        while !shared.unsaid_work.load(Ordering::Relaxed) {
            // A word may be left of work that was told of.
            if tokio::time::timeout_at(quiet_until, shared.work.notified()).await.is_err() {
                break;
            }
        }
        match shared.say(&speaker).await {
            Ok(()) => {}
            Err(sqlx::Error::PoolClosed) => return,
            // Others find it by polling.
            Err(error) => tracing::debug!(%error, "could not tell others of a change"),
        }
        quiet_until = Instant::now() + NO_WORK_SPACING;
        tokio::time::sleep(SPACING).await;
    }
}

async fn listen(pool: PgPool, shared: Arc<Shared>) {
    let mut pause = Duration::ZERO;
    loop {
        let error = match hear(&pool, &shared, &mut pause).await {
            Err(sqlx::Error::PoolClosed) => return,
            Err(error) => error,
            Ok(()) => sqlx::Error::PoolTimedOut,
        };
        if shared.hears.swap(false, Ordering::Relaxed) {
            tracing::debug!(%error, "changes by others are polled for until the database is heard again");
            // Those who wait poll from now on.
            shared.wake(News::Work);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).clamp(Duration::from_millis(100), PAUSE);
    }
}

/// Listens until the connection is lost.
async fn hear(pool: &PgPool, shared: &Shared, pause: &mut Duration) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    *pause = Duration::ZERO;
    shared.hears.store(true, Ordering::Relaxed);
    // What was said before is lost.
    shared.wake(News::Work);
    while let Some(word) = listener.try_recv().await? {
        let (id, news) = match word.payload().strip_suffix(NO_WORK) {
            Some(id) => (id, News::Watchers),
            None => (word.payload(), News::Work),
        };
        if id != shared.id {
            shared.wake(news);
        }
    }
    Ok(())
}
