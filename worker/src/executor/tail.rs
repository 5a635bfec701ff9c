//! The end of a stream of bytes, as text that storage accepts.

use std::collections::VecDeque;

use fleetune_core::measurement::MAX_STDERR_TAIL;

/// Keeps the last [`MAX_STDERR_TAIL`] bytes.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    bytes: VecDeque<u8>,
    cut: bool,
}

impl Tail {
    /// Appends `chunk`.
    pub fn push(&mut self, chunk: &[u8]) {
        let keep = &chunk[chunk.len().saturating_sub(MAX_STDERR_TAIL)..];
        let over = (self.bytes.len() + keep.len()).saturating_sub(MAX_STDERR_TAIL);
        self.cut |= over > 0 || keep.len() < chunk.len();
        self.bytes.drain(..over);
        self.bytes.extend(keep);
    }

    /// The text: at most [`MAX_STDERR_TAIL`] bytes, no NUL, from the start of a line when something was cut.
    pub fn text(&self) -> String {
        let (front, back) = self.bytes.as_slices();
        let text = String::from_utf8_lossy(&[front, back].concat()).replace('\0', "\u{fffd}");
        // Replacement characters are longer than what they replace.
        let start = text.ceil_char_boundary(text.len().saturating_sub(MAX_STDERR_TAIL));
        let kept = &text[start..];
        if self.cut || start > 0 {
            return kept.split_once('\n').map_or(kept, |(_, rest)| rest).to_owned();
        }
        kept.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_is_bounded_and_starts_with_a_line() {
        let mut tail = Tail::default();
        tail.push(b"first\n");
        assert_eq!(tail.text(), "first\n");
        for number in 0..20_000 {
            tail.push(format!("line {number}\n").as_bytes());
        }
        let text = tail.text();
        assert!(text.len() <= MAX_STDERR_TAIL && text.len() > MAX_STDERR_TAIL - 100);
        assert!(text.starts_with("line ") && text.ends_with("line 19999\n"));
    }

    #[test]
    fn bytes_that_are_no_text_stay_within_the_bound() {
        let mut tail = Tail::default();
        tail.push(&vec![0xff; 3 * MAX_STDERR_TAIL]);
        tail.push(b"\n\0end");
        let text = tail.text();
        assert!(text.len() <= MAX_STDERR_TAIL, "{}", text.len());
        assert!(text.ends_with("\u{fffd}end") && !text.contains('\0'));
    }
}
