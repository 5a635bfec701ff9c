//! A model file that a worker can read, and how studies may call it.

use serde::{Deserialize, Serialize};

/// A model file that a worker can read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VisibleModel {
    /// Path below the worker's model folder, with `/` between its parts.
    pub name: String,
    /// Absolute path on the worker.
    pub path: String,
    /// Its identity, 64 hexadecimal digits.
    pub hash: String,
    /// Its length.
    pub bytes: u64,
}

impl VisibleModel {
    /// Whether a study that names `model` means this file: its absolute path, or its name with or without `.gguf`.
    pub fn is_called(&self, model: &str) -> bool {
        let short = self.name.strip_suffix(".gguf").unwrap_or(&self.name);
        [self.path.as_str(), self.name.as_str(), short].contains(&model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_answers_to_its_path_and_its_name() {
        let model = VisibleModel {
            name: "llama/8b.gguf".into(),
            path: "/models/llama/8b.gguf".into(),
            hash: String::new(),
            bytes: 1,
        };
        for name in ["llama/8b", "llama/8b.gguf", "/models/llama/8b.gguf"] {
            assert!(model.is_called(name), "{name}");
        }
        for name in ["8b", "8b.gguf", "llama", "models/llama/8b.gguf", ""] {
            assert!(!model.is_called(name), "{name}");
        }
    }
}
