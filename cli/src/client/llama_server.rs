//! A configuration as a command line.

use fleetune_core::Params;

use crate::error::{CliError, CliResult, Exit};
use crate::view::StudyView;

/// The llama-server command line of a configuration, as it was measured.
pub fn llama_server(model: &str, study: &StudyView, params: &Params) -> CliResult<String> {
    let mut all = study.fixed.clone();
    all.extend(params.clone());
    let settings = fleetune_core::runner::Settings::from_params(&all).map_err(|error| {
        CliError::new(Exit::Unexpected, "the winner is no set of llama.cpp settings").because(error)
    })?;
    let mut words = vec!["llama-server".to_owned(), "-m".to_owned(), quoted(model)];
    words.extend(settings.llama_server_args());
    Ok(words.join(" "))
}

/// What to know before the command line is used.
pub fn note(study: &StudyView) -> Option<String> {
    let notes: Vec<_> = model_note(study).into_iter().chain(context_note(study)).collect();
    (!notes.is_empty()).then(|| notes.join("; "))
}

/// A model may be named as workers know it; that is no path.
fn model_note(study: &StudyView) -> Option<String> {
    let model = study.model.as_ref().filter(|model| !std::path::Path::new(model).is_absolute())?;
    Some(format!("`{model}` is what the workers call the model: put its path there"))
}

/// What to know about a context that nobody chose: it is just large enough for the measured request.
fn context_note(study: &StudyView) -> Option<String> {
    let searched = study.space.iter().any(|space| space.parameters().contains_key("n_ctx"));
    let context = study.fixed.get("n_ctx").filter(|_| !searched && !study.given.contains_key("n_ctx"))?;
    Some(format!("-c {context} holds the measured request; to serve longer ones, tune with `--set n_ctx=N`"))
}

/// A word as a shell reads it back.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_path_survives_a_shell() {
        assert_eq!(quoted("/models/a-1.gguf"), "/models/a-1.gguf");
        assert_eq!(quoted("my model's.gguf"), r"'my model'\''s.gguf'");
    }
}
