//! Following a study, also over a connection that breaks.

use fleetune_proto::reason::Reason;
use fleetune_proto::v1;
use tokio_stream::StreamExt;
use tonic::Code;

use super::Client;
use super::read::{study, trial};
use crate::error::{CliError, CliResult};
use crate::view::{StudyView, TrialView};

/// What a watcher learns.
#[derive(Clone, Debug)]
pub enum Change {
    /// The study changed.
    Study(Box<StudyView>),
    /// A trial changed.
    Trial(Box<TrialView>),
}

/// Why a stream ended before its study did.
#[derive(Clone, Debug)]
pub enum Broken {
    /// The coordinator is not there; it may come back.
    Away(CliError),
    /// It will not answer otherwise.
    Refused(CliError),
}

impl Broken {
    fn from_status(what: &str, status: &tonic::Status) -> Self {
        let error = CliError::from_status(what, status);
        let away = match error.reason {
            Some(reason) => reason == Reason::Storage && status.code() == Code::Unavailable,
            // What a connection leaves behind that was cut somewhere.
            None => matches!(
                status.code(),
                Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::DeadlineExceeded
            ),
        };
        if away { Self::Away(error) } else { Self::Refused(error) }
    }

    /// What to say of it.
    pub fn into_error(self) -> CliError {
        match self {
            Self::Away(error) | Self::Refused(error) => error,
        }
    }
}

impl Client {
    /// What changes in a study from now on, after what is there; ends when the study does.
    pub async fn watch(&mut self, name: &str) -> CliResult<impl StreamExt<Item = CliResult<Change>> + Unpin + use<>> {
        let changes = self.watch_after(name, 0).await.map_err(Broken::into_error)?;
        Ok(changes.map(|change| change.map(|(change, _)| change).map_err(Broken::into_error)))
    }

    /// The study and each trial that changed after revision `after`, with the revision to go on from; ends when the
    /// study does, or the coordinator.
    pub async fn watch_after(
        &mut self,
        name: &str,
        after: i64,
    ) -> Result<impl StreamExt<Item = Result<(Change, i64), Broken>> + Unpin + use<>, Broken> {
        let what = format!("failed to watch study `{name}`");
        let request = v1::WatchRequest { study: name.to_owned(), after };
        let stream = self.studies.watch(request).await.map_err(|status| Broken::from_status(&what, &status))?;
        let mut last = after;
        Ok(stream.into_inner().filter_map(move |event| {
            use v1::watch_event::Event;
            let change = match event {
                Err(status) => return Some(Err(Broken::from_status(&what, &status))),
                Ok(event) => match event.event? {
                    Event::Study(wire) => study(Some(wire)).map(|study| Change::Study(Box::new(study))),
                    Event::Trial(wire) => {
                        last = last.max(wire.revision);
                        trial(wire).map(|trial| Change::Trial(Box::new(trial)))
                    }
                    Event::Comparison(_) => return None,
                },
            };
            Some(change.map(|change| (change, last)).map_err(Broken::Refused))
        }))
    }
}
