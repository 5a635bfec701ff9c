//! What workers were told, by their logs: which results were acknowledged, and which came too late.

use std::collections::BTreeMap;

use serde_json::Value;

/// A result of a complete trial that was acknowledged.
#[derive(Clone, Debug, PartialEq)]
pub struct Posted {
    /// The lease it was delivered by.
    pub token: String,
    /// Of that lease.
    pub attempt: u32,
    /// The median of its repetitions.
    pub value: f64,
}

/// What the logs say.
#[derive(Clone, Debug, Default)]
pub struct Postings {
    /// By lease.
    pub acked: Vec<Posted>,
    /// Results that were refused because another attempt owned the trial, or it was over.
    pub late: usize,
}

/// Reads the logs of all workers, in order of time for each.
pub fn read(logs: &[String]) -> Postings {
    let mut results: BTreeMap<String, Entry> = BTreeMap::new();
    for line in logs.iter().flat_map(|log| log.lines()) {
        // The last line of a killed process may be half a line.
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        let fields = &line["fields"];
        let Some(token) = fields["token"].as_str() else { continue };
        let entry = results.entry(token.to_owned()).or_default();
        match fields["message"].as_str().unwrap_or_default() {
            "job ended" => {
                let end = fields["end"].as_str().unwrap_or_default();
                let value = end.strip_prefix("Complete { value: ").and_then(|rest| rest.strip_suffix(" }"));
                if let Some(value) = value {
                    entry.value = Some(value.parse().expect("a value is a number"));
                }
            }
            "result is stored for later" => entry.spooled = true,
            "stored result is delivered" => entry.delivered = true,
            "stored result was refused" | "result came too late" => entry.late = true,
            _ => {}
        }
    }
    let mut postings = Postings::default();
    for (token, entry) in results {
        let attempt = token.split('.').nth(1).and_then(|attempt| attempt.parse().ok()).expect("a token has an attempt");
        if let Some(value) = entry.value
            && (!entry.spooled || entry.delivered)
        {
            postings.acked.push(Posted { token, attempt, value });
        }
        postings.late += usize::from(entry.late);
    }
    postings
}

#[derive(Debug, Default)]
struct Entry {
    value: Option<f64>,
    spooled: bool,
    delivered: bool,
    late: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_results_count_once_they_are_delivered() {
        let line = |token: &str, fields: &str| format!("{{\"fields\":{{\"token\":\"{token}\",{fields}}}}}\n");
        let ended = r#""message":"job ended","end":"Complete { value: 1.5 }""#;
        let stored = r#""message":"result is stored for later""#;
        let delivered = r#""message":"stored result is delivered""#;
        let late = r#""message":"stored result was refused""#;
        let one = [line("1.1.0a", ended), line("2.1.0b", stored), line("2.1.0b", ended), line("3.2.0c", stored)];
        let other = [line("2.1.0b", delivered), line("3.2.0c", late), "{\"fields".to_owned()];
        let postings = read(&[one.concat(), other.concat()]);
        let posted = |token: &str| Posted { token: token.to_owned(), attempt: 1, value: 1.5 };
        assert_eq!(postings.acked, [posted("1.1.0a"), posted("2.1.0b")]);
        assert_eq!(postings.late, 1);
    }
}
