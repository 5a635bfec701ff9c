//! Reads a child's stdout and stderr to their end, whatever comes.

use std::time::Duration;

use fleetune_core::runner::{Event, MAX_LINE_BYTES, ProtocolError};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Garbage, LogFile, LogRecord, Tail};

/// A pipe outlives its child when a descendant that left the group holds it; as long is waited for it then.
const LINGER: Duration = Duration::from_secs(1);

/// What the reader of stdout tells while the child may still live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// The event after which nothing follows.
    Last,
    /// Something that is not of the protocol.
    Garbage,
}

/// Passes events on up to the last one or the first garbage, tells of it, and gives it.
pub(super) async fn read_events(
    stdout: impl AsyncRead + Unpin,
    events: mpsc::Sender<Event>,
    said: oneshot::Sender<Said>,
    exited: CancellationToken,
) -> (Option<Event>, Option<Garbage>) {
    let mut said = Some(said);
    let mut last = None;
    let mut first_garbage = None;
    let mut reader = BufReader::new(stdout);
    let mut line = Vec::new();
    // Once `said` is gone, the rest is read and dropped.
    while let Some(read) = next_line(&mut reader, &mut line, &exited).await {
        let Some(teller) = said.take() else { continue };
        let event = read.and_then(|()| parse(&line));
        match event {
            Ok(None) => said = Some(teller),
            Ok(Some(event)) if event.is_last() => {
                last = Some(event.clone());
                // The reader of events may be gone; the child is none of its business then.
                let _ = events.send(event).await;
                let _ = teller.send(Said::Last);
            }
            Ok(Some(event)) => {
                let _ = events.send(event).await;
                said = Some(teller);
            }
            Err(garbage) => {
                first_garbage = Some(garbage);
                let _ = teller.send(Said::Garbage);
            }
        }
    }
    (last, first_garbage)
}

fn parse(line: &[u8]) -> Result<Option<Event>, Garbage> {
    let text = String::from_utf8_lossy(line);
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    match Event::from_line(text) {
        Ok(event) => Ok(Some(event)),
        // JSON has no NaN: writers give `null`, or the bare word.
        Err(_) if says_non_finite(text) => Err(Garbage::NonFinite(fleetune_core::runner::bounded(text))),
        Err(error) => Err(error.into()),
    }
}

/// Whether a line would be a repetition if one of its numbers were finite.
fn says_non_finite(line: &str) -> bool {
    const WORDS: [&str; 5] = ["null", "nan", "inf", "-inf", "-nan"];
    let dense: String = line.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_lowercase();
    dense.contains(r#""event":"repetition""#) && WORDS.iter().any(|word| dense.contains(&format!("\":{word}")))
}

/// Reads one line into `line`, newline not kept; `None` at the end. A line that is too long is given up on: an error
/// once, and its rest as the lines that follow.
pub(crate) async fn next_line(
    reader: &mut (impl AsyncBufReadExt + Unpin),
    line: &mut Vec<u8>,
    exited: &CancellationToken,
) -> Option<Result<(), Garbage>> {
    line.clear();
    loop {
        let chunk = tokio::select! {
            biased;
            chunk = reader.fill_buf() => match chunk {
                Ok(chunk) => chunk,
                Err(error) => return Some(Err(error.into())),
            },
            () = lingered(exited) => return None,
        };
        if chunk.is_empty() {
            return (!line.is_empty()).then_some(Ok(()));
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        line.extend_from_slice(part);
        let used = part.len() + usize::from(end.is_some());
        reader.consume(used);
        if line.len() > MAX_LINE_BYTES {
            return Some(Err(ProtocolError::TooLong { bytes: line.len() }.into()));
        }
        if end.is_some() {
            return Some(Ok(()));
        }
    }
}

/// Reads stderr to its end: the tail as text, and the log.
pub(super) async fn read_stderr(
    mut stderr: impl AsyncRead + Unpin,
    mut log: Option<LogFile>,
    exited: CancellationToken,
) -> (String, Option<LogRecord>) {
    let mut tail = Tail::default();
    let mut chunk = vec![0; 16 << 10];
    loop {
        let read = tokio::select! {
            biased;
            read = stderr.read(&mut chunk) => read,
            () = lingered(&exited) => break,
        };
        match read {
            Ok(0) | Err(_) => break,
            Ok(bytes) => {
                tail.push(&chunk[..bytes]);
                if let Some(log) = &mut log {
                    log.write(&chunk[..bytes]);
                }
            }
        }
    }
    (tail.text(), log.map(|log| log.record()))
}

async fn lingered(exited: &CancellationToken) {
    exited.cancelled().await;
    tokio::time::sleep(LINGER).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetition_with_a_number_that_is_none_is_told_from_garbage() {
        let line = |value: &str| {
            format!(
                r#"{{"event":"repetition","index":0,"warmup":false,"prefill_tok_s":1.0,"decode_tok_s":{value},"ttft_ms":1,"itl_ms":1}}"#
            )
        };
        for value in ["null", "NaN", "Infinity", "-inf"] {
            assert!(matches!(parse(line(value).as_bytes()), Err(Garbage::NonFinite(_))), "{value}");
        }
        assert!(matches!(parse(line("2.5").as_bytes()), Ok(Some(Event::Repetition(_)))));
        assert!(matches!(parse(b"hello"), Err(Garbage::Line(_))));
        assert!(matches!(parse(b" \r"), Ok(None)));
        assert!(matches!(parse(b"\xff\xfe"), Err(Garbage::Line(_))));
    }

    #[tokio::test]
    async fn endless_line_is_given_up_on_and_read_on() {
        let text = format!("{}\n{{\"event\":\"loading\",\"progress\":1.0}}\n", "x".repeat(3 * MAX_LINE_BYTES));
        let (events, mut received) = mpsc::channel(4);
        let (teller, said) = oneshot::channel();
        let (last, garbage) = read_events(text.as_bytes(), events, teller, CancellationToken::new()).await;
        assert_eq!(said.await, Ok(Said::Garbage));
        assert!(matches!(garbage, Some(Garbage::Line(ProtocolError::TooLong { .. }))));
        assert!(last.is_none());
        assert!(received.recv().await.is_none(), "nothing after garbage is believed");
    }
}
