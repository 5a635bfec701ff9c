//! A coordinator as a process, and workers of it.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::place::Place;
use crate::running::{Done, Running};

/// `fleetune serve` under way.
#[derive(Debug)]
pub struct Served {
    /// The process.
    pub running: Running,
    /// Where it listens, as `HOST:PORT`.
    pub address: String,
}

impl Served {
    /// What `--server` takes.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Kills it as nothing else does.
    pub fn kill(self) -> Done {
        self.running.kill()
    }
}

impl Place {
    /// Starts a coordinator over `storage` on a free port.
    pub fn serve(&self, storage: &str) -> Served {
        self.serve_at(storage, "127.0.0.1:0")
    }

    /// Starts a coordinator over `storage` at `listen`.
    pub fn serve_at(&self, storage: &str, listen: &str) -> Served {
        let mut command = self.command();
        command.args(["serve", "--storage", storage, "--listen", listen]);
        self.serve_command(command)
    }

    /// Starts a coordinator by a command of one's own.
    pub fn serve_command(&self, command: Command) -> Served {
        let mut running = self.start_command(command);
        let printed = running.until_it_prints("listening on ");
        let address = printed.lines().find_map(|line| line.strip_prefix("listening on ")).expect("it was printed");
        Served { address: address.to_owned(), running }
    }

    /// Starts a worker that sees the models of this place.
    pub fn start_worker(&self, server: &str, more: &[&str]) -> Running {
        let (models, runner) = (self.path("").display().to_string(), self.runner().display().to_string());
        let mut words = vec!["worker", "run", "--server", server, "--models", &models, "--runner", &runner];
        words.extend(more);
        self.start(&words)
    }

    /// Creates the study `s` of this place's model over [`crate::SPACE`].
    pub fn create_study(&self, server: &str, more: &[&str]) -> Done {
        let mut words = vec!["study", "create", "s", "--server", server, "--model", "m", "--space", "space.toml"];
        words.extend(more);
        self.run(&words).ok()
    }

    /// Kills the worker called `name` while it holds the lease of a trial. It is stopped while that is looked up, so
    /// that it cannot let go meanwhile.
    pub fn kill_at_work(&self, server: &str, worker: Running, name: &str) {
        crate::until(&format!("worker `{name}` holds a trial"), || {
            worker.signal(Signal::SIGSTOP);
            let shown = self.run(&["worker", "show", name, "--server", server, "--format", "json"]).ok().json();
            let holds = crate::trials::rows(&shown["jobs"]).iter().any(|job| job["kind"] == "trial");
            if !holds {
                worker.signal(Signal::SIGCONT);
            }
            holds.then_some(())
        });
        worker.kill();
    }

    /// Waits until study `s` is in `state`.
    pub fn until_study_is(&self, server: &str, state: &str) {
        crate::until(&format!("study `s` is {state}"), || {
            let study = self.study(server);
            assert_ne!(study["state"], "failed", "{study}");
            let there = study["state"] == state;
            // Each look is a process of its own.
            std::thread::sleep(Duration::from_millis(if there { 0 } else { 100 }));
            there.then_some(())
        });
    }
}
