//! What a finished search says: importances, the front, the winner's sensitivity; and the samplers by name.

use fleetune_tests::trials::rows;
use fleetune_tests::{Done, Place, place};
use serde_json::Value;

const SPACE: &str = "[parameters]\nx = { type = 'int', low = 1, high = 30 }\nk = ['a', 'b', 'c']\n";

/// A study `q` on a database of its own, all trials measured by `values`.
fn searched(sampler: &str, trials: u64, directions: &str, values: impl Fn(f64, &str) -> Vec<f64>) -> Searched {
    let place = place!();
    place.write("space.toml", SPACE);
    let storage = place.sqlite("a.db");
    let searched = Searched { place, storage };
    let count = trials.to_string();
    let create = ["study", "create", "q", "--space", "space.toml", "--sampler", sampler, "--direction", directions];
    searched.run(&[&create[..], &["--trials", &count]].concat()).ok();
    for _ in 0..trials {
        let asked = searched.json(&["trial", "ask", "q"]);
        let values = values(asked["params"]["x"].as_f64().unwrap(), asked["params"]["k"].as_str().unwrap());
        let values = values.iter().map(|value| format!("--value={value}")).collect::<Vec<_>>();
        let number = asked["number"].to_string();
        let values = values.iter().map(String::as_str).collect::<Vec<_>>();
        searched.run(&[&["trial", "tell", "q", &number], &values[..]].concat()).ok();
    }
    searched
}

struct Searched {
    place: Place,
    storage: String,
}

impl Searched {
    fn run(&self, words: &[&str]) -> Done {
        self.place.run(&[words, &["--storage", &self.storage]].concat())
    }

    fn json(&self, words: &[&str]) -> Value {
        self.run(&[words, &["--format", "json"]].concat()).ok().json()
    }
}

#[test]
fn search_ends_with_what_matters_and_what_changes_cost() {
    let searched = searched("tpe", 20, "minimize", |x, k| vec![x + if k == "a" { 0.0 } else { 1.0 }]);
    for method in ["ped-anova", "fanova"] {
        let found = searched.json(&["study", "importances", "q", "--method", method]);
        assert_eq!((found["method"].as_str(), found["trials"].as_u64()), (Some(method), Some(20)), "{found}");
        let sum = rows(&found["parameters"]).iter().map(|row| row["importance"].as_f64().unwrap()).sum::<f64>();
        assert!((sum - 1.0).abs() < 1e-9, "{found}");
    }
    searched.run(&["study", "importances", "q"]).ok().prints("PARAMETER").prints("20 trials, method ped-anova");
    let found = searched.json(&["study", "sensitivity", "q"]);
    let best = searched.json(&["study", "best", "q"]);
    assert_eq!(found["number"], best["winner"]["number"]);
    assert!(rows(&found["changes"]).iter().any(|row| row["name"] == "x" && row["loss"].as_f64().unwrap() > 0.5));
    searched.run(&["study", "sensitivity", "q"]).ok().prints("WORSE BY").prints("further search is expected to gain");
    searched.run(&["study", "importances", "nobody"]).exits(3);
}

#[test]
fn two_values_have_a_front() {
    let searched = searched("nsga-ii", 12, "minimize,maximize", |x, _| vec![x, (x * 30.0).sqrt()]);
    let found = searched.json(&["study", "pareto", "q", "--reference", "31,0"]);
    let numbers = rows(&found["trials"]).iter().map(|row| row["values"][0].as_f64().unwrap()).collect::<Vec<_>>();
    assert!(numbers.windows(2).all(|pair| pair[0] <= pair[1]) && !numbers.is_empty(), "{found}");
    assert!(found["hypervolume"].as_f64().unwrap() > 0.0 && found["reference"][0] == 31.0, "{found}");
    searched.run(&["study", "pareto", "q"]).ok().prints("hypervolume");
    searched.run(&["study", "verify", "q"]).ok();
}

#[test]
fn every_sampler_is_recomputed_from_what_is_stored() {
    for sampler in ["auto", "random", "grid", "brute-force", "cma-es", "qmc"] {
        let searched = searched(sampler, 14, "minimize", |x, k| vec![x * if k == "b" { 1.0 } else { 2.0 }]);
        searched.run(&["study", "verify", "q"]).ok().prints("14 trials recomputed");
    }
}
