//! Ctrl-C and SIGTERM.

use crate::error::{CliError, CliResult, Exit};

/// What a person or a supervisor wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

/// Signals from the moment this is made: one that comes while nobody waits is not missed.
pub struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(windows)]
    interrupt: tokio::signal::windows::CtrlC,
}

impl Signals {
    /// Begins to listen; from now on neither ends the program by itself.
    pub fn new() -> CliResult<Self> {
        let failed = |error: std::io::Error| {
            CliError::new(Exit::Unexpected, "failed to listen for Ctrl-C and SIGTERM").because(error)
        };
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Self {
                interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
                terminate: signal(SignalKind::terminate()).map_err(failed)?,
            })
        }
        #[cfg(windows)]
        Ok(Self { interrupt: tokio::signal::windows::ctrl_c().map_err(failed)? })
    }

    /// Waits for the next one.
    pub async fn recv(&mut self) -> Signal {
        #[cfg(unix)]
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
        }
        #[cfg(windows)]
        {
            let _ = self.interrupt.recv().await;
            Signal::Interrupt
        }
    }
}
