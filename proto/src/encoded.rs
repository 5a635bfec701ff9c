//! Replies whose trials are encoded already. On the wire they are `GetTrialReply` and `GetTrialsReply`: a message within
//! a message is its bytes with their length.

use bytes::Bytes;

/// `optuna.GetTrialReply`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Reply {
    /// An `optuna.Trial`.
    #[prost(bytes = "bytes", tag = "1")]
    pub trial: Bytes,
}

/// `optuna.GetTrialsReply`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Replies {
    /// Each an `optuna.Trial`.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub trials: Vec<Bytes>,
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::optuna::{Trial, TrialState};

    #[test]
    fn an_encoded_trial_is_read_as_one() {
        /// As the .proto file has it.
        #[derive(Clone, PartialEq, prost::Message)]
        struct Plain {
            #[prost(message, repeated, tag = "1")]
            trials: Vec<Trial>,
        }
        let trial = |id| Trial { trial_id: id, state: TrialState::Fail.into(), values: vec![0.5], ..Trial::default() };
        let trials = vec![trial(1), Trial::default(), trial(300)];
        let encoded = Replies { trials: trials.iter().map(|trial| trial.encode_to_vec().into()).collect() };
        let bytes = encoded.encode_to_vec();
        assert_eq!(bytes, Plain { trials: trials.clone() }.encode_to_vec());
        assert_eq!(Plain::decode(&*bytes).unwrap().trials, trials);
    }
}
