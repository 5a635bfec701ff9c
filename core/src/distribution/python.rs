//! JSON as Python's `json.dumps` writes it: with `NaN`, `Infinity` and `-Infinity`, for which JSON has no word.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use crate::value::Value;

/// Deepest nesting that is read. `serde_json` stops there too.
const MAX_DEPTH: usize = 127;

/// What stands for a number that is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Odd {
    /// The object `{"float":"NaN"}`.
    Object,
    /// `null`.
    Null,
}

/// `text` with `odd` in the place of numbers that are not finite. What is no JSON stays none.
///
/// # Errors
/// A sentence: an integer that does not fit into 64 bits, which would silently become another number.
pub fn to_json(text: &str, odd: Odd) -> Result<Cow<'_, str>, String> {
    let mut strict = String::new();
    let mut copied = 0;
    let mut rest = text.char_indices().peekable();
    while let Some((start, first)) = rest.next() {
        if first == '"' {
            while let Some((_, inside)) = rest.next() {
                match inside {
                    '\\' => drop(rest.next()),
                    '"' => break,
                    _ => {}
                }
            }
            continue;
        }
        if !(first.is_ascii_alphanumeric() || first == '-') {
            continue;
        }
        let mut end = start + first.len_utf8();
        while let Some(&(at, next)) = rest.peek()
            && (next.is_ascii_alphanumeric() || matches!(next, '-' | '+' | '.'))
        {
            end = at + next.len_utf8();
            rest.next();
        }
        let word = &text[start..end];
        if matches!(word, "NaN" | "Infinity" | "-Infinity") {
            strict.push_str(&text[copied..start]);
            match odd {
                Odd::Object => strict.push_str(&format!(r#"{{"float":"{word}"}}"#)),
                Odd::Null => strict.push_str("null"),
            }
            copied = end;
        } else if odd == Odd::Object && word.len() > 18 && is_integer(word) && word.parse::<i64>().is_err() {
            return Err(format!("the integer {word} does not fit into 64 bits"));
        }
    }
    if copied == 0 {
        return Ok(Cow::Borrowed(text));
    }
    strict.push_str(&text[copied..]);
    Ok(Cow::Owned(strict))
}

fn is_integer(word: &str) -> bool {
    word.strip_prefix('-').unwrap_or(word).bytes().all(|byte| byte.is_ascii_digit())
}

/// Why `text` is no JSON as Python reads it; `None` when it is.
pub fn fault(text: &str) -> Option<String> {
    let strict = to_json(text, Odd::Null).ok()?;
    // Reading text that is nested too deep is refused; skipping it would not be.
    let mut depth = 0_usize;
    let mut deepest = 0;
    for byte in strict.bytes() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if deepest > MAX_DEPTH && serde_json::from_str::<serde_json::Value>(&strict).is_err() {
        return Some(format!("it is nested deeper than {MAX_DEPTH} levels, or no JSON"));
    }
    serde_json::from_str::<IgnoredAny>(&strict).err().map(|error| error.to_string())
}

/// A value as Python writes it.
pub fn text(value: &Value) -> String {
    match value {
        Value::Float(float) if float.is_nan() => "NaN".to_owned(),
        Value::Float(f64::INFINITY) => "Infinity".to_owned(),
        Value::Float(f64::NEG_INFINITY) => "-Infinity".to_owned(),
        value => serde_json::to_string(value).expect("plain data always has a JSON text"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_python_are_json_and_words_like_them_are_not() {
        for good in
            ["NaN", " [NaN, -Infinity] ", r#"{"NaN": Infinity}"#, r#""a\"NaN""#, "1e400", "123456789012345678901"]
        {
            assert_eq!(fault(good), None, "{good}");
        }
        for bad in ["", "nan", "NaN1", "Infinit", "+Infinity", "{", r#""a"#, "[NaN NaN]", "NaN:"] {
            assert!(fault(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn text_within_strings_stays() {
        let text = r#"["NaN", "\\", NaN, "-Infinity"]"#;
        assert_eq!(to_json(text, Odd::Null).unwrap(), r#"["NaN", "\\", null, "-Infinity"]"#);
        assert_eq!(to_json("{}", Odd::Object).unwrap(), "{}");
    }

    #[test]
    fn deep_nesting_is_refused_and_no_crash() {
        assert!(fault(&"[".repeat(1_000_000)).is_some());
        assert!(fault(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))).is_some());
    }
}
