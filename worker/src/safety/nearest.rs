//! The safe configuration nearest to an unsafe one: the baseline where the plain default may not be run.

use fleetune_core::{Params, Value};

use super::{Guard, Objection};

impl Guard<'_> {
    /// `params` itself when it is safe; else the nearest that is, and a sentence that says so: first with fewer layers
    /// on the GPU, then with a smaller batch. `None` when nothing on that way is safe.
    pub fn nearest_safe(&self, params: &Params) -> Option<(Params, Option<String>)> {
        let Some(objection) = self.objection(params) else {
            return Some((params.clone(), None));
        };
        let why = match objection {
            Objection::Rule(rule) => format!("rule `{}`: {}", rule.name, rule.why),
            Objection::Region(region) => region.why(),
        };
        let layers = self.layers;
        let safe = |params: &Params| self.objection(params).is_none();
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
            "the default is unsafe on this machine ({why}); the baseline is the nearest safe configuration, with \
             `{name}` = {value}"
        );
        Some((with(name, value), Some(note)))
    }
}

#[cfg(test)]
mod tests {
    use fleetune_core::inventory::{Gpu, Wsl};
    use fleetune_core::region::{Incident, UnsafeRegion};
    use fleetune_core::study::Benchmark;
    use fleetune_core::{Attempt, FailKind, Inventory, Objective, Timestamp, TrialNumber, WorkerId, Workload};

    use super::super::Rules;
    use super::*;

    fn machine() -> Inventory {
        Inventory {
            wsl: Wsl { detected: true, ..Wsl::default() },
            gpus: vec![Gpu { vram_mib: 20_475, ..Gpu::default() }],
            ..Inventory::default()
        }
    }

    fn benchmark() -> Benchmark {
        Benchmark {
            model: "m".to_owned(),
            executor: "llama-cpp".to_owned(),
            workload: Workload::default(),
            objective: Objective::Decode,
            fixed: Params::new(),
            timeout_s: 300.0,
            allow_wsl_unsafe: false,
            confirm: true,
            prior: true,
            ignore_regions: false,
        }
    }

    /// A machine went down under these settings and the engine's defaults.
    fn region(model_hash: &str, settings: &[(&str, i64)]) -> UnsafeRegion {
        let params = settings.iter().map(|&(name, value)| (name.to_owned(), Value::Int(value))).collect();
        let settings = fleetune_core::region::configuration(&benchmark(), &params);
        let incident = Incident {
            id: 3,
            device_class: "d".to_owned(),
            model_hash: model_hash.to_owned(),
            kind: FailKind::HostCrash,
            worker: WorkerId("w".to_owned()),
            study: "s".to_owned(),
            trial: TrialNumber(0),
            attempt: Attempt(1),
            at: Timestamp(0),
            settings,
            message: String::new(),
            refuted: false,
        };
        fleetune_core::region::learn(&[incident]).remove(0)
    }

    type Nearest = Option<(Params, Option<String>)>;

    fn nearest(rules: &Rules, benchmark: &Benchmark, regions: &[UnsafeRegion], params: &Params) -> Nearest {
        let inventory = machine();
        Guard { rules, inventory: &inventory, layers: 33, benchmark, regions, model_hash: "m" }.nearest_safe(params)
    }

    #[test]
    fn nearest_safe_default_has_one_layer_less_than_the_rule_forbids() {
        let default = Params::from([("n_gpu_layers".into(), Value::Int(-1)), ("n_batch".into(), Value::Int(2048))]);
        let (safe, note) = nearest(&Rules::shipped(), &benchmark(), &[], &default).unwrap();
        assert_eq!(safe["n_gpu_layers"], Value::Int(31));
        assert_eq!(safe["n_batch"], Value::Int(2048));
        assert!(note.unwrap().contains("`n_gpu_layers` = 31"));
    }

    #[test]
    fn safe_default_stays_as_it_is() {
        let default = Params::from([("n_gpu_layers".into(), Value::Int(20))]);
        let rules = Rules::shipped();
        assert_eq!(nearest(&rules, &benchmark(), &[], &default), Some((default.clone(), None)));
        let all = Params::new();
        let allowing = Benchmark { allow_wsl_unsafe: true, ..benchmark() };
        assert_eq!(nearest(&rules, &allowing, &[], &all), Some((all.clone(), None)));
    }

    #[test]
    fn batch_is_reduced_where_layers_do_not_help() {
        let rules = Rules::from_toml("[[rules]]\nname='n'\nwhy='w'\nif='params.n_batch >= 512'").unwrap();
        let (safe, _) = nearest(&rules, &benchmark(), &[], &Params::new()).unwrap();
        assert_eq!(safe, Params::from([("n_batch".into(), Value::Int(256))]));
        let never = Rules::from_toml("[[rules]]\nname='n'\nwhy='w'\nif='true'").unwrap();
        assert_eq!(nearest(&never, &benchmark(), &[], &Params::new()), None);
    }

    #[test]
    fn a_region_of_the_model_counts_as_a_rule_does_unless_the_study_ignores_it() {
        let rules = Rules::from_toml("").unwrap();
        let default = Params::from([("n_gpu_layers".into(), Value::Int(33))]);
        let down = [region("m", &[("n_gpu_layers", 20)])];
        let (safe, note) = nearest(&rules, &benchmark(), &down, &default).unwrap();
        assert_eq!(safe["n_gpu_layers"], Value::Int(19));
        assert!(note.unwrap().contains("unsafe region 3"));
        let untouched = Some((default.clone(), None));
        let ignoring = Benchmark { ignore_regions: true, ..benchmark() };
        assert_eq!(nearest(&rules, &ignoring, &down, &default), untouched);
        assert_eq!(nearest(&rules, &benchmark(), &[region("other", &[("n_gpu_layers", 20)])], &default), untouched);
    }
}
