//! A Postgres of one's own, for tests: nothing to set up, nothing left behind.
//!
//! A cluster in a temporary folder, reached through a Unix socket. A shell that waits for the end of this process, be it
//! by a signal, stops the server and removes the folder.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::Store;

/// What to do where Postgres is missing.
const HINT: &str = "hint: `make setup` installs Postgres; its programs must be in PATH or /usr/lib/postgresql/*/bin";
/// How long a server may take to start on a busy machine.
const START: Duration = Duration::from_mins(1);
/// Runs the server until the standard input ends, anew for each line of it; then removes the folder. SIGQUIT is the
/// immediate stop: nothing is finished or written out.
const GUARD: &str = r#"
if [ -n "$LIMIT" ]; then ulimit -f "$LIMIT"; fi
start() {
    "$BIN/postgres" -D "$DIR/data" -k "$DIR" -c listen_addresses= -c max_connections=300 $SETTINGS \
        >>"$DIR/log" 2>&1 </dev/null &
    server=$!
}
stop() {
    kill -QUIT "$server"
    wait "$server"
}
start
while read -r word; do
    stop
    echo "$word" >"$DIR/stopped"
    start
done
stop
rm -rf "$DIR"
"#;

/// Small and fast, and gone with the power: nothing of a test outlives it.
const FOR_TESTS: &str = "-c fsync=off -c shared_buffers=32MB -c max_wal_size=64MB";

/// A private cluster. It lives until it is dropped, at the latest until this process ends.
#[derive(Debug)]
pub struct PrivatePostgres {
    folder: PathBuf,
    bin: PathBuf,
    user: Option<(u32, u32)>,
    guard: Child,
    databases: AtomicU32,
    restarts: AtomicU32,
    template: tokio::sync::OnceCell<()>,
}

impl PrivatePostgres {
    /// The cluster of this process, started by whoever asks first.
    ///
    /// # Panics
    /// When it cannot be started; the message says what to do.
    pub fn start() -> &'static Self {
        static SHARED: OnceLock<PrivatePostgres> = OnceLock::new();
        SHARED.get_or_init(|| Self::create(FOR_TESTS, None))
    }

    /// A cluster none of whose files grows beyond `mib` MiB, as on a full disk; at least 4.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn with_file_limit(mib: u32) -> Self {
        Self::create(FOR_TESTS, Some(mib))
    }

    /// A cluster as Postgres sets one up: a commit is on the disk when it returns. For benchmarks.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn durable() -> Self {
        Self::create("", None)
    }

    fn create(settings: &str, limit_mib: Option<u32>) -> Self {
        let bin = programs().unwrap_or_else(|| panic!("the programs of Postgres were not found\n{HINT}"));
        let random = super::store::secret().expect("the system has random numbers");
        let folder = std::env::temp_dir().join(format!("fleetune-pg-{}-{random:016x}", std::process::id()));
        std::fs::create_dir(&folder).expect("the temporary folder is writable");
        let user = other_user();
        if let Some((uid, gid)) = user {
            chown(&folder, Some(uid), Some(gid)).expect("root may give a folder away");
        }
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o700)).expect("the folder is ours");

        let mut initdb = Command::new(bin.join("initdb"));
        initdb.args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "--username=fleetune"]);
        if !settings.is_empty() {
            initdb.arg("--wal-segsize=1");
        }
        initdb.arg("--pgdata").arg(folder.join("data"));
        let output = as_user(&mut initdb, user).current_dir(&folder).output().expect("initdb can be started");
        assert!(output.status.success(), "initdb failed: {}\n{HINT}", String::from_utf8_lossy(&output.stderr));

        let mut guard = Command::new("/bin/sh");
        guard.args(["-c", GUARD]).env("BIN", &bin).env("DIR", &folder).env("SETTINGS", settings);
        // The unit of `ulimit -f` is 512 bytes.
        guard.env("LIMIT", limit_mib.map_or(String::new(), |mib| (mib.max(4) * 2048).to_string()));
        guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // A group of its own: Ctrl-C in a terminal must not end the guard before its work.
        let guard =
            as_user(&mut guard, user).process_group(0).current_dir("/").spawn().expect("a shell can be started");
        let (databases, restarts) = (AtomicU32::new(0), AtomicU32::new(0));
        let template = tokio::sync::OnceCell::new();
        let cluster = Self { folder, bin, user, guard, databases, restarts, template };
        cluster.await_ready();
        cluster
    }

    /// Stops the server as if it crashed, whoever is connected, and starts it again.
    ///
    /// # Panics
    /// When it does not come back within a minute.
    pub fn restart(&self) {
        let restart = self.restarts.fetch_add(1, Ordering::Relaxed).to_string();
        let mut guard = self.guard.stdin.as_ref().expect("it is taken when this is dropped");
        writeln!(guard, "{restart}").expect("the guard lives as long as this");
        let deadline = Instant::now() + START;
        let stopped = || std::fs::read_to_string(self.folder.join("stopped")).unwrap_or_default();
        while stopped().trim_end() != restart {
            assert!(Instant::now() < deadline, "Postgres did not stop within {START:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.await_ready();
    }

    fn await_ready(&self) {
        let deadline = Instant::now() + START;
        loop {
            let mut ready = Command::new(self.bin.join("pg_isready"));
            ready.arg("-q").arg("-h").arg(&self.folder);
            if as_user(&mut ready, self.user).current_dir("/").status().is_ok_and(|status| status.success()) {
                return;
            }
            if Instant::now() > deadline {
                let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                panic!("Postgres did not start within {START:?}: {log}\n{HINT}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The storage URL of a new database with fleetune's tables, all empty.
    pub async fn database(&self) -> String {
        let create_template = async {
            self.createdb("fleetune_template", "template0");
            let store = Store::open(&self.url("fleetune_template")).await.expect("the template can be migrated");
            store.close().await;
        };
        self.template.get_or_init(|| create_template).await;
        self.new_database("fleetune_template")
    }

    /// The storage URL of a new database without any table.
    pub fn empty_database(&self) -> String {
        self.new_database("template0")
    }

    fn new_database(&self, template: &str) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.createdb(&name, template);
        self.url(&name)
    }

    fn createdb(&self, name: &str, template: &str) {
        let deadline = Instant::now() + START;
        loop {
            let mut createdb = Command::new(self.bin.join("createdb"));
            createdb.arg("-h").arg(&self.folder).args(["-U", "fleetune", "-T", template, name]);
            let output = as_user(&mut createdb, self.user).current_dir("/").output().expect("createdb can be started");
            if output.status.success() {
                return;
            }
            // A template that somebody still leaves cannot be copied yet.
            let why = String::from_utf8_lossy(&output.stderr);
            assert!(why.contains("being accessed") && Instant::now() < deadline, "createdb failed: {why}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn url(&self, database: &str) -> String {
        format!("postgres:///{database}?host={}&user=fleetune", self.folder.display())
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        // The end of its input tells the guard; it has no output to wait for.
        drop(self.guard.stdin.take());
        drop(self.guard.wait());
    }
}

/// Where the programs of Postgres are; of several versions the newest.
fn programs() -> Option<PathBuf> {
    let has_programs = |folder: &PathBuf| ["initdb", "postgres"].iter().all(|name| folder.join(name).exists());
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Links in PATH are followed: the programs look for each other beside themselves.
    let in_path =
        std::env::split_paths(&path).find(has_programs).and_then(|folder| folder.join("initdb").canonicalize().ok());
    let in_path = in_path.and_then(|initdb| initdb.parent().map(Path::to_owned));
    in_path.filter(has_programs).or_else(|| {
        let version = |folder: &PathBuf| folder.parent()?.file_name()?.to_str()?.parse::<u32>().ok();
        let installed = std::fs::read_dir("/usr/lib/postgresql").ok()?;
        let folders = installed.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
        folders.filter(has_programs).max_by_key(version)
    })
}

/// Whom root runs Postgres as, since it refuses to run as root: uid and gid.
fn other_user() -> Option<(u32, u32)> {
    // Without /proc (macOS) tests are hardly run by root.
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0);
    if !is_root {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let ids = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(ids("postgres").or_else(|| ids("nobody")).unwrap_or((65_534, 65_534)))
}

fn as_user(command: &mut Command, user: Option<(u32, u32)>) -> &mut Command {
    match user {
        Some((uid, gid)) => command.gid(gid).uid(uid),
        None => command,
    }
}
