//! Asked trials: a line for people, lines for a shell's `eval`.

use fleetune_core::value::params_line;

use crate::error::{CliError, CliResult, Exit};
use crate::view::AskedView;

/// Names that `ask --shell` gives itself.
const OWN: [&str; 2] = ["number", "token"];

/// A line per trial.
pub fn asked(trials: &[AskedView]) -> String {
    let line = |trial: &AskedView| {
        let lease = trial.lease.as_ref().map(|lease| {
            let again = if lease.attempt > 1 { format!(", attempt {}", lease.attempt) } else { String::new() };
            format!("\n  token {} until {}{again}", lease.token, lease.expires_at)
        });
        format!("trial {}: {}{}", trial.number, params_line(&trial.params), lease.unwrap_or_default())
    };
    trials.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Assignments that a POSIX shell evaluates: values are quoted, names are checked.
pub fn for_eval(trial: &AskedView) -> CliResult<String> {
    let mut lines = vec![format!("number={}", trial.number)];
    lines.extend(trial.lease.as_ref().map(|lease| format!("token={}", quote(&lease.token))));
    for (name, value) in &trial.params {
        check_variable(name)?;
        lines.push(format!("{name}={}", quote(&value.to_string())));
    }
    Ok(lines.join("\n"))
}

/// Refuses a parameter that cannot, or should not, be a variable of a shell.
pub fn check_variable(name: &str) -> CliResult<()> {
    trouble(name).map_or(Ok(()), |why| {
        Err(CliError::new(Exit::Usage, format!("parameter `{name}` cannot be a variable of a shell"))
            .because(why)
            .hint("ask with `--format json` instead of `--shell`"))
    })
}

fn trouble(name: &str) -> Option<&'static str> {
    let starts = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !starts || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Some("only letters, digits and `_` make a name, and no digit begins it");
    }
    if OWN.contains(&name) {
        return Some("`number` and `token` say which trial it is");
    }
    // PATH, IFS, PS4: with some of them an assignment is a command.
    if !name.chars().any(|c| c.is_ascii_lowercase()) {
        return Some("names without a small letter belong to the shell and its environment");
    }
    None
}

/// In single quotes nothing has a meaning but the quote itself.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use fleetune_core::{Params, Value};

    use super::*;
    use crate::view::LeaseView;

    fn trial(params: &[(&str, Value)]) -> AskedView {
        let params = params.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        AskedView { number: 3, params: params.collect::<Params>(), lease: None }
    }

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        let hostile = "it's $(touch /tmp/x) `id` \"\\\n*";
        let mut asked = trial(&[("mode", Value::from(hostile)), ("level", Value::Int(9)), ("rate", Value::Float(0.5))]);
        asked.lease = Some(LeaseView { token: "1-2-3".to_owned(), expires_at: String::new(), attempt: 1 });
        let lines = for_eval(&asked).unwrap();
        let script = format!("{lines}\nprintf '%s|%s|%s|%s|%s' \"$number\" \"$token\" \"$level\" \"$rate\" \"$mode\"");
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("3|1-2-3|9|0.5|{hostile}"));
    }

    #[test]
    fn a_name_that_means_something_to_a_shell_is_refused() {
        for bad in ["n-batch", "1x", "", "a b", "x;id", "number", "token", "PATH", "IFS", "_", "größe"] {
            let error = for_eval(&trial(&[(bad, Value::Int(1))])).unwrap_err();
            assert_eq!(error.exit, Exit::Usage, "{bad}");
            assert!(error.hint.is_some_and(|hint| hint.contains("--format json")), "{bad}");
        }
        assert_eq!(for_eval(&trial(&[("n_batch", Value::Int(1))])).unwrap(), "number=3\nn_batch='1'");
    }
}
