//! Stable reasons of errors. Clients branch on these, never on text.

/// Metadata key of the reason.
pub const REASON_KEY: &str = "fleetune-reason";

/// Metadata key of the hint, percent-encoded.
pub const HINT_KEY: &str = "fleetune-hint";

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)+) => {
        /// Why a call was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$doc])* $variant,)+
        }

        impl Reason {
            /// The reason on the wire.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// The reason called `text`.
            pub fn from_text(text: &str) -> Option<Self> {
                match text {
                    $($text => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

reasons! {
    /// A message that means nothing, a space that cannot be, unknown settings.
    InvalidArgument = "INVALID_ARGUMENT",
    /// No study of that name.
    StudyNotFound = "STUDY_NOT_FOUND",
    /// Another study has the name.
    StudyExists = "STUDY_EXISTS",
    /// The study waits for its model to be described.
    StudyPreparing = "STUDY_PREPARING",
    /// Budget used up, or stopped by a rule.
    StudyFinished = "STUDY_FINISHED",
    /// The study's state does not allow it.
    StudyState = "STUDY_STATE",
    /// No trial of that number.
    TrialNotFound = "TRIAL_NOT_FOUND",
    /// The trial's state does not allow it.
    TrialState = "TRIAL_STATE",
    /// The trial has ended otherwise.
    TrialEnded = "TRIAL_ENDED",
    /// Only the holder of the lease writes to the trial.
    TrialLeased = "TRIAL_LEASED",
    /// A newer attempt owns the job.
    TrialLeaseLost = "TRIAL_LEASE_LOST",
    /// No such job.
    JobNotFound = "JOB_NOT_FOUND",
    /// The worker must register.
    WorkerUnknown = "WORKER_UNKNOWN",
    /// Nothing is left to propose.
    SpaceExhausted = "SPACE_EXHAUSTED",
    /// Too few trials have completed for an analysis.
    TooFewTrials = "TOO_FEW_TRIALS",
    /// The study's clients sample themselves.
    NoSpace = "NO_SPACE",
    /// A value is NaN or infinite.
    NonFinite = "NON_FINITE",
    /// Others change the study all the time.
    Contended = "CONTENDED",
    /// The database cannot grow.
    StorageFull = "STORAGE_FULL",
    /// The database failed.
    Storage = "STORAGE",
    /// The coordinator stops; the call may be repeated.
    Stopping = "STOPPING",
    /// No token, or none that is in force.
    Unauthenticated = "UNAUTHENTICATED",
    /// The token's role does not allow the call.
    PermissionDenied = "PERMISSION_DENIED",
    /// Another token that is in force has the name.
    TokenExists = "TOKEN_EXISTS",
    /// No token of that name or id.
    TokenNotFound = "TOKEN_NOT_FOUND",
    /// No unsafe region of that id.
    RegionNotFound = "REGION_NOT_FOUND",
    /// More than is served at once; the call may be repeated after a while.
    Overloaded = "OVERLOADED",
    /// Not in this version.
    Unimplemented = "UNIMPLEMENTED",
}

/// A hint as a header value: everything but visible ASCII, and `%`, percent-encoded.
pub fn encode_hint(hint: &str) -> String {
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'%';
    hint.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Undoes [`encode_hint`]; what is not well-formed stays as it is.
pub fn decode_hint(encoded: &str) -> String {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_survives_its_encoding() {
        for hint in ["set `low = 1`", "100 % – ärger\nline", "", "%41"] {
            let encoded = encode_hint(hint);
            assert!(encoded.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{encoded}");
            assert_eq!(decode_hint(&encoded), hint);
        }
    }
}
