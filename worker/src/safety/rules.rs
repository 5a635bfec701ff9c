//! Reading and evaluating rules. CEL over the machine's inventory and the run's settings.

use std::collections::HashMap;
use std::sync::Arc;

use cel::{Context, Program};
use fleetune_core::runner::{FlashAttn, Settings};
use fleetune_core::{Inventory, Params, Value};
use serde::Deserialize;
use thiserror::Error;

/// Longest condition, bytes; the parser's cost grows with it.
const MAX_CONDITION_BYTES: usize = 4096;

/// The engine's own batch, where none is asked for.
const ENGINE_BATCH: i64 = 2048;

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// Stable name.
    pub name: String,
    /// What would happen: a sentence for people.
    pub why: String,
    /// Whether a study may allow what it forbids by `allow_wsl_unsafe`.
    pub wsl: bool,
    condition: Program,
}

/// Why a file of rules is refused.
#[derive(Debug, Error)]
pub enum RuleError {
    /// Not TOML, or not of this shape.
    #[error("safety rules cannot be read: {0}")]
    Toml(#[from] toml::de::Error),
    /// A condition is no CEL.
    #[error("safety rule `{name}`: the condition cannot be read: {message}")]
    Condition {
        /// The rule.
        name: String,
        /// What is wrong.
        message: String,
    },
}

/// A set of rules, in the order of the file.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    rules: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    why: String,
    #[serde(default)]
    wsl: bool,
    #[serde(rename = "if")]
    condition: String,
}

impl Rules {
    /// The rules that come with the program.
    pub fn shipped() -> Self {
        Self::from_toml(include_str!("../../rules/default.toml")).expect("a test reads the shipped rules")
    }

    /// Reads rules from TOML.
    pub fn from_toml(text: &str) -> Result<Self, RuleError> {
        let file: File = toml::from_str(text)?;
        let rules = file.rules.into_iter().map(|entry| {
            let refuse = |message: String| RuleError::Condition { name: entry.name.clone(), message };
            if entry.condition.len() > MAX_CONDITION_BYTES {
                return Err(refuse(format!("it is longer than {MAX_CONDITION_BYTES} bytes")));
            }
            let condition = Program::compile(&entry.condition).map_err(|error| refuse(error.to_string()))?;
            Ok(Rule { name: entry.name, why: entry.why, wsl: entry.wsl, condition })
        });
        Ok(Self { rules: rules.collect::<Result<_, RuleError>>()? })
    }

    /// The first rule that forbids `params` on this machine.
    ///
    /// `params`: the complete settings of the run; what is absent has the engine's default. `layers`: how many there
    /// are to offload, the output layer counted; 0 when unknown. Under `allow_wsl_unsafe` rules for WSL do not count.
    ///
    /// A condition that cannot be evaluated counts as violated: not knowing is no reason to take a machine down.
    pub fn violated(
        &self,
        inventory: &Inventory,
        params: &Params,
        layers: u32,
        allow_wsl_unsafe: bool,
    ) -> Option<&Rule> {
        let mut context = Context::default();
        let facts = serde_json::to_value(inventory).unwrap_or_default();
        context.add_variable_from_value("inventory", to_cel(&facts));
        context.add_variable_from_value("params", observed(params, layers));
        self.rules.iter().filter(|rule| !(rule.wsl && allow_wsl_unsafe)).find(|rule| {
            match rule.condition.execute(&context) {
                Ok(cel::Value::Bool(violated)) => violated,
                Ok(_) | Err(_) => true,
            }
        })
    }
}

/// The settings as rules see them: the engine's defaults filled in, the layers those that really go to the GPU.
fn observed(params: &Params, layers: u32) -> cel::Value {
    let mut seen: HashMap<String, cel::Value> =
        params.iter().map(|(name, value)| (name.clone(), value_to_cel(value))).collect();
    let settings = Settings::from_params(params).unwrap_or_default();
    let all = if layers == 0 { i64::from(u16::MAX) } else { i64::from(layers) };
    let on_gpu = match settings.n_gpu_layers {
        Some(count) if count >= 0 => i64::from(count).min(all),
        Some(_) | None => all,
    };
    seen.insert("n_gpu_layers".to_owned(), cel::Value::Int(on_gpu));
    seen.insert("n_batch".to_owned(), cel::Value::Int(settings.n_batch.map_or(ENGINE_BATCH, i64::from)));
    let flash_attn = settings.flash_attn.unwrap_or(FlashAttn::Auto).as_str();
    seen.insert("flash_attn".to_owned(), text(flash_attn));
    cel::Value::from(seen)
}

fn text(text: &str) -> cel::Value {
    cel::Value::String(Arc::new(text.to_owned()))
}

fn value_to_cel(value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(bool) => cel::Value::Bool(*bool),
        Value::Int(int) => cel::Value::Int(*int),
        Value::Float(float) => cel::Value::Float(*float),
        Value::Text(string) => text(string),
    }
}

/// JSON as CEL; every whole number signed, so that rules need no suffix.
fn to_cel(json: &serde_json::Value) -> cel::Value {
    match json {
        serde_json::Value::Null => cel::Value::Null,
        serde_json::Value::Bool(bool) => cel::Value::Bool(*bool),
        serde_json::Value::Number(number) => {
            number.as_i64().map_or_else(|| cel::Value::Float(number.as_f64().unwrap_or(f64::MAX)), cel::Value::Int)
        }
        serde_json::Value::String(string) => text(string),
        serde_json::Value::Array(items) => cel::Value::List(Arc::new(items.iter().map(to_cel).collect())),
        serde_json::Value::Object(fields) => {
            let map: HashMap<String, cel::Value> =
                fields.iter().map(|(name, value)| (name.clone(), to_cel(value))).collect();
            cel::Value::from(map)
        }
    }
}

#[cfg(test)]
mod tests {
    use fleetune_core::inventory::{Gpu, Wsl};

    use super::*;

    pub(super) fn machine(wsl: bool, vram_mib: u64) -> Inventory {
        Inventory {
            wsl: Wsl { detected: wsl, ..Wsl::default() },
            gpus: vec![Gpu { vram_mib, ..Gpu::default() }],
            ..Inventory::default()
        }
    }

    fn params(n_gpu_layers: i64, n_batch: i64, flash_attn: &str) -> Params {
        Params::from([
            ("n_gpu_layers".into(), n_gpu_layers.into()),
            ("n_batch".into(), n_batch.into()),
            ("flash_attn".into(), flash_attn.into()),
        ])
    }

    #[test]
    fn wsl_rule_has_exactly_its_region() {
        let rules = Rules::shipped();
        for (wsl, vram_mib, layers, batch, flash_attn, unsafe_here) in [
            (true, 20_475, 32, 8, "on", true),
            (true, 20_475, 32, 7, "on", false),
            (true, 20_475, 31, 8, "on", false),
            (true, 20_475, 32, 11, "off", false),
            (true, 20_475, 32, 12, "off", true),
            (true, 20_475, 32, 7, "auto", false),
            (true, 20_475, 32, 8, "auto", true),
            (true, 20_475, -1, 512, "on", true),
            (true, 20_475, 99, 512, "on", true),
            (true, 20_475, 0, 2048, "on", false),
            (true, 18_431, 32, 8, "on", false),
            (true, 18_432, 32, 8, "on", true),
            (true, 22_528, 32, 8, "on", true),
            (true, 22_529, 32, 8, "on", false),
            (true, 16_376, 33, 2048, "on", false),
            (true, 24_564, 33, 2048, "on", false),
            (false, 20_475, 33, 2048, "on", false),
        ] {
            let params = params(layers, batch, flash_attn);
            let violated = rules.violated(&machine(wsl, vram_mib), &params, 33, false);
            assert_eq!(violated.is_some(), unsafe_here, "wsl {wsl} {vram_mib} MiB {params:?}");
            assert!(rules.violated(&machine(wsl, vram_mib), &params, 33, true).is_none());
        }
    }

    #[test]
    fn all_layers_are_as_many_as_the_model_has() {
        let rules = Rules::shipped();
        let forbids = |layers| rules.violated(&machine(true, 20_475), &Params::new(), layers, false).is_some();
        assert!(forbids(33));
        assert!(forbids(32));
        assert!(!forbids(31));
        assert!(forbids(0), "an unknown number of layers may be many");
    }

    #[test]
    fn machine_without_gpu_breaks_no_rule() {
        let inventory = Inventory { gpus: Vec::new(), ..machine(true, 0) };
        assert!(Rules::shipped().violated(&inventory, &Params::new(), 33, false).is_none());
    }

    #[test]
    fn rule_that_cannot_be_evaluated_forbids() {
        let rules = Rules::from_toml("[[rules]]\nname='n'\nwhy='w'\nif='inventory.nothing.there'").unwrap();
        assert!(rules.violated(&machine(false, 0), &Params::new(), 33, false).is_some());
        let error = Rules::from_toml("[[rules]]\nname='n'\nwhy='w'\nif='1 +'").unwrap_err();
        assert!(error.to_string().contains("`n`"), "{error}");
    }
}
