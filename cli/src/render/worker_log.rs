//! What a worker does, a line each on stderr, with the time.

use std::time::SystemTime;

use fleetune_core::value::params_line;
use fleetune_worker::agent::{AgentEvent, JobEnd, JobKind};

use super::table::{number, seconds};

/// The log of one worker.
pub struct WorkerLog {
    /// Said once for each time that the coordinator is away.
    away: bool,
    idle: Option<Vec<String>>,
}

impl WorkerLog {
    /// Nothing said so far.
    pub fn new() -> Self {
        Self { away: false, idle: None }
    }

    /// Something happened.
    pub fn event(&mut self, event: &AgentEvent) {
        match event {
            AgentEvent::Disconnected { message, .. } => {
                if !std::mem::replace(&mut self.away, true) {
                    say(&format!("the coordinator does not answer ({message}); results are kept until it does"));
                }
            }
            AgentEvent::Idle { obstacles } => self.idle(obstacles),
            AgentEvent::Registered { engine, models, .. } => {
                self.away = false;
                let models = if *models == 1 { "1 model".to_owned() } else { format!("{models} models") };
                say(&format!("registered with {models}; engine {engine}"));
            }
            AgentEvent::JobStarted { study, kind } => {
                self.away = false;
                self.idle = None;
                say(&format!("study `{study}`: {} begins", job(kind, true)));
            }
            AgentEvent::JobEnded { study, kind, end, seconds: spent } => {
                say(&format!("study `{study}`: {} {} after {}", job(kind, false), ended(end), seconds(*spent)));
            }
            AgentEvent::WaitingForDevice { device } => {
                say(&format!("another measurement uses {device}; waiting for it"));
            }
            AgentEvent::DeviceReady { waited } if waited.as_secs() > 0 => {
                say(&format!("the device is free after {}", seconds(waited.as_secs_f64())));
            }
            AgentEvent::CellEnded { trial, result, .. } => match result {
                Ok(value) => say(&format!("  trial {trial} again: {}", number(*value))),
                Err(failure) => say(&format!("  trial {trial} failed when measured again: {}", failure.message)),
            },
            AgentEvent::RunnerMissing { message } => say(message),
            AgentEvent::ModelMissing { study, message } => say(&format!("study `{study}`: {message}")),
            AgentEvent::Draining { by_coordinator: true } => {
                say("drained by its coordinator: it takes nothing new; `fleetune worker resume` undoes that");
            }
            AgentEvent::Draining { by_coordinator: false } => say("it takes nothing new"),
            AgentEvent::Spooled => say("a result could not be delivered; it is kept and delivered later"),
            AgentEvent::CellStarted { .. }
            | AgentEvent::DeviceReady { .. }
            | AgentEvent::Loaded { .. }
            | AgentEvent::Loading { .. }
            | AgentEvent::Repetition { .. } => {}
        }
    }

    /// Says why there is no job, once for each new reason.
    fn idle(&mut self, obstacles: &[String]) {
        self.away = false;
        if self.idle.as_deref() == Some(obstacles) {
            return;
        }
        match obstacles {
            [] => say("no job; waiting"),
            obstacles => obstacles.iter().for_each(|obstacle| say(&format!("no job: {obstacle}"))),
        }
        self.idle = Some(obstacles.to_vec());
    }
}

/// A line with the time.
pub fn say(text: &str) {
    let mut now = prost_types::Timestamp::from(SystemTime::now());
    now.nanos = 0;
    super::say(&format!("{now}  {text}"));
}

fn job(kind: &JobKind, with_params: bool) -> String {
    match kind {
        JobKind::Describe { model } => format!("description of `{model}`"),
        JobKind::Trial { number, params } if with_params => format!("trial {number} ({})", params_line(params)),
        JobKind::Trial { number, .. } => format!("trial {number}"),
        JobKind::Comparison { candidates, cells_left } if with_params => {
            format!("comparison of {candidates} in up to {cells_left} fresh processes")
        }
        JobKind::Comparison { .. } => "comparison".to_owned(),
    }
}

fn ended(end: &JobEnd) -> String {
    match end {
        JobEnd::Described | JobEnd::Compared => "is done".to_owned(),
        JobEnd::Complete { value } => format!("complete, {}", number(*value)),
        JobEnd::Pruned { value } => format!("pruned at {}", number(*value)),
        JobEnd::Failed(failure) => {
            let first = failure.message.lines().next().unwrap_or_default();
            format!("failed as {} ({first})", failure.kind)
        }
        JobEnd::Released => "is given back".to_owned(),
        JobEnd::Lost => "belongs to another attempt by now; its result is kept as a record".to_owned(),
        JobEnd::Cancelled => "was cancelled".to_owned(),
    }
}
