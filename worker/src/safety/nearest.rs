//! The safe configuration nearest to an unsafe one: the baseline where the plain default may not be run.

use fleetune_core::{Inventory, Params, Value};

use super::Rules;

impl Rules {
    /// `params` itself when it is safe; else the nearest that is, and a sentence that says so: first with fewer layers
    /// on the GPU, then with a smaller batch. `None` when nothing on that way is safe.
    pub fn nearest_safe(
        &self,
        inventory: &Inventory,
        params: &Params,
        layers: u32,
        allow_wsl_unsafe: bool,
    ) -> Option<(Params, Option<String>)> {
        let Some(rule) = self.violated(inventory, params, layers, allow_wsl_unsafe) else {
            return Some((params.clone(), None));
        };
        let safe = |params: &Params| self.violated(inventory, params, layers, allow_wsl_unsafe).is_none();
        let with = |name: &str, value: i64| {
            let mut changed = params.clone();
            changed.insert(name.to_owned(), Value::Int(value));
            changed
        };
        let whole = |name: &str, absent: i64| params.get(name).and_then(Value::as_i64).unwrap_or(absent);
        let asked = whole("n_gpu_layers", -1);
        let start = if asked < 0 { i64::from(layers) } else { asked.min(i64::from(layers)) };
        let fewer_layers = (0..start).rev().map(|count| ("n_gpu_layers", count));
        let smaller_batch = std::iter::successors(Some(whole("n_batch", 2048) / 2), |batch| Some(batch / 2))
            .take_while(|batch| *batch >= 1)
            .map(|batch| ("n_batch", batch));
        let (name, value) = fewer_layers.chain(smaller_batch).find(|(name, value)| safe(&with(name, *value)))?;
        let note = format!(
            "the default is unsafe on this machine (rule `{}`: {}); the baseline is the nearest safe configuration, with \
             `{name}` = {value}",
            rule.name, rule.why
        );
        Some((with(name, value), Some(note)))
    }
}

#[cfg(test)]
mod tests {
    use fleetune_core::inventory::{Gpu, Wsl};

    use super::*;

    fn machine() -> Inventory {
        Inventory {
            wsl: Wsl { detected: true, ..Wsl::default() },
            gpus: vec![Gpu { vram_mib: 20_475, ..Gpu::default() }],
            ..Inventory::default()
        }
    }

    #[test]
    fn nearest_safe_default_has_one_layer_less_than_the_rule_forbids() {
        let default = Params::from([("n_gpu_layers".into(), Value::Int(-1)), ("n_batch".into(), Value::Int(2048))]);
        let (safe, note) = Rules::shipped().nearest_safe(&machine(), &default, 33, false).unwrap();
        assert_eq!(safe["n_gpu_layers"], Value::Int(31));
        assert_eq!(safe["n_batch"], Value::Int(2048));
        assert!(note.unwrap().contains("`n_gpu_layers` = 31"));
    }

    #[test]
    fn safe_default_stays_as_it_is() {
        let default = Params::from([("n_gpu_layers".into(), Value::Int(20))]);
        let rules = Rules::shipped();
        assert_eq!(rules.nearest_safe(&machine(), &default, 33, false), Some((default.clone(), None)));
        let all = Params::new();
        assert_eq!(rules.nearest_safe(&machine(), &all, 33, true), Some((all.clone(), None)));
    }

    #[test]
    fn batch_is_reduced_where_layers_do_not_help() {
        let rules = Rules::from_toml("[[rules]]\nname='n'\nwhy='w'\nif='params.n_batch >= 512'").unwrap();
        let (safe, _) = rules.nearest_safe(&machine(), &Params::new(), 33, false).unwrap();
        assert_eq!(safe, Params::from([("n_batch".into(), Value::Int(256))]));
        let never = Rules::from_toml("[[rules]]\nname='n'\nwhy='w'\nif='true'").unwrap();
        assert_eq!(never.nearest_safe(&machine(), &Params::new(), 33, false), None);
    }
}
