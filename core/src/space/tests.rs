use super::*;
use crate::distribution::{Choices, Distribution, IntRange};
use crate::measurement::{Metric, Samples};
use crate::value::{Params, Value};
use std::ops::ControlFlow;

const FILE: &str = r#"
[parameters.n_gpu_layers]
type = "int"
low = 0
high = 33
default = 33
[parameters.n_batch]
type = "int"
low = 32
high = 4096
log = true
[parameters.top_p]
type = "float"
low = 0
high = 1
step = 0.1
[parameters.spec]
choices = ["none", "draft"]
[parameters.draft_max]
type = "int"
low = 1
high = 24
when = "spec == 'draft'"
[parameters.cache_type_v]
choices = ["f16", "q8_0"]
default = "f16"
[parameters.flash_attn]
choices = ["off", "on"]
[[forbid]]
if = "cache_type_v != 'f16' && flash_attn == 'off'"
why = "a quantised V cache needs flash attention"
[[forbid]]
if = "draft_max > 8.0 && n_batch < 64"
[[constraints]]
name = "ttft_p95"
expr = "metrics.ttft_ms.p95 - 500"
[[constraints]]
name = "quality"
"#;

fn params(json: &str) -> Params {
    serde_json::from_str(json).unwrap()
}

fn file() -> SearchSpace {
    SearchSpace::from_toml(FILE).unwrap()
}

fn error(toml: &str) -> (String, Option<String>) {
    let error = SearchSpace::from_toml(toml).unwrap_err();
    (error.to_string(), error.hint())
}

const COMPLETE: &str =
    r#"{"n_gpu_layers":0,"n_batch":64,"top_p":0.3,"spec":"none","cache_type_v":"f16","flash_attn":"on"}"#;

#[test]
fn json_survives_and_means_the_same() {
    let space = file();
    let text = serde_json::to_string(&space).unwrap();
    assert_eq!(serde_json::from_str::<SearchSpace>(&text).unwrap(), space);
    assert_eq!(serde_json::to_string(&SearchSpace::from_json(&text).unwrap()).unwrap(), text);
}

#[test]
fn a_space_may_be_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>(_: &T) {}
    shared(&file());
}

#[test]
fn arrays_are_categoricals() {
    let space = SearchSpace::from_json(r#"{"ngl":[12,14,16],"batch":[8,12],"kv":["f16","q8_0"]}"#).unwrap();
    assert_eq!(space.cardinality(), Some(12));
    assert!(space.parameters()["ngl"].distribution().ordered_ranks().is_some());
    assert_eq!(SearchSpace::from_toml("ngl = [12, 14, 16]\nbatch = [8, 12]\nkv = ['f16', 'q8_0']").unwrap(), space);
    let space = SearchSpace::from_json(r#"{"ngl":[1,2],"batch":[8,12],"forbid":[{"if":"ngl == 1 && batch == 8"}]}"#);
    assert_eq!(space.unwrap().cardinality(), Some(3));
}

#[test]
fn a_complete_configuration_has_exactly_the_active_parameters() {
    let space = file();
    let complete = params(COMPLETE);
    space.check(&complete).unwrap();
    let with = |name: &str, value: Value| {
        let mut params = complete.clone();
        params.insert(name.to_owned(), value);
        params
    };
    let says = |params: &Params| space.check(params).unwrap_err().to_string();
    assert_eq!(says(&with("spec", "draft".into())), "parameter `draft_max` has no value");
    assert!(says(&with("draft_max", 4.into())).contains("`spec == 'draft'` does not hold"));
    assert!(says(&with("n_batch", 31.into())).contains("31 is not in int 32..4096 log"));
    assert!(says(&with("n_bath", 31.into())).contains("no parameter `n_bath`"));
    let mut forbidden = with("cache_type_v", "q8_0".into());
    space.check(&forbidden).unwrap();
    forbidden.insert("flash_attn".to_owned(), "off".into());
    assert!(says(&forbidden).ends_with(": a quantised V cache needs flash attention"));
    assert!(space.forbidden_by(&forbidden).is_some());
}

#[test]
fn a_clause_about_an_inactive_parameter_does_not_apply() {
    let space = file();
    let mut small = params(COMPLETE);
    small.insert("n_batch".to_owned(), 32.into());
    space.check(&small).unwrap();
    small.insert("spec".to_owned(), "draft".into());
    small.insert("draft_max".to_owned(), 9.into());
    assert!(space.check(&small).is_err());
    small.insert("draft_max".to_owned(), 8.into());
    space.check(&small).unwrap();
}

#[test]
fn fixed_values_are_put_into_the_spaces_types() {
    let space = file();
    let fixed = space.check_fixed(&params(r#"{"top_p":1,"n_batch":64.0}"#)).unwrap();
    assert_eq!(fixed, params(r#"{"top_p":1.0,"n_batch":64}"#));
    for bad in [
        r#"{"nbatch":64}"#,
        r#"{"n_batch":5000}"#,
        r#"{"spec":"none","draft_max":3}"#,
        r#"{"cache_type_v":"q8_0","flash_attn":"off"}"#,
    ] {
        assert!(space.check_fixed(&params(bad)).is_err(), "{bad}");
    }
    let unknown = space.check_fixed(&params(r#"{"nbatch":64}"#)).unwrap_err();
    assert_eq!(unknown.hint().unwrap(), "did you mean `n_batch`?");
    space.check_fixed(&params(r#"{"draft_max":3}"#)).unwrap();
}

#[test]
fn defaults_are_those_that_are_there_and_active() {
    assert_eq!(file().defaults(), params(r#"{"n_gpu_layers":33,"cache_type_v":"f16"}"#));
}

#[test]
fn restricting_pins() {
    let space = file().restrict(&params(r#"{"spec":"draft","top_p":1}"#)).unwrap();
    assert!(space.parameters()["spec"].distribution().is_single());
    assert_eq!(space.defaults()["top_p"], Value::Float(1.0));
    let space = file().without(&["n_gpu_layers"]).unwrap();
    assert_eq!(space.parameters()["n_gpu_layers"].distribution().to_string(), "int 33..33");
    assert!(file().without(&["n_batch"]).is_err());
}

#[test]
fn conditions_three_deep_and_their_order() {
    let space = SearchSpace::from_toml(
        "[parameters]\nd = [0, 1]\nc = { type = 'int', low = 0, high = 3, when = 'd == 1' }\n\
         b = { choices = ['x', 'y'], when = 'c > 1' }\na = { type = 'int', low = 1, high = 2, when = \"b == 'y'\" }",
    )
    .unwrap();
    assert_eq!(space.order(), ["d", "c", "b", "a"]);
    // d = 0; c in {0, 1}; c in {2, 3} with x, or with y and two values of a.
    assert_eq!(space.cardinality(), Some(1 + 2 + 2 * 3));
    let mut seen = Vec::new();
    let mut all = |_: &str, distribution: &Distribution| {
        (0..distribution.cardinality().unwrap()).map(|index| distribution.value_at(index)).collect()
    };
    let ended = space.visit(&Params::new(), 1_000, &mut all, &mut |params| {
        space.check(params).unwrap();
        seen.push(crate::value::params_line(params));
        ControlFlow::Continue(())
    });
    assert_eq!(ended, Visit::Complete);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 9);
}

#[test]
fn cycles_are_named() {
    let (what, _) = error(
        "[parameters]\na = { choices = [1, 2], when = 'b == 1' }\nb = { choices = [1, 2], when = 'c == 1' }\n\
         c = { choices = [1, 2], when = 'b == 2' }",
    );
    assert_eq!(what, "conditions form a cycle: `b` → `c` → `b`");
}

#[test]
fn mistakes_are_named_with_a_remedy() {
    let (what, hint) = error("[parameters.n_batch]\ntype = 'int'\nlow = 0\nhigh = 64\nlog = true");
    assert_eq!(what, "parameter `n_batch`: range starts at 0, but a logarithmic range must start at 1 or above");
    assert_eq!(hint.unwrap(), "set `low = 1`, or drop `log = true`");
    let (what, hint) = error("[parameters.x]\ntype = 'float'\nlow = 0\nhigh = 64\nlog = true");
    assert_eq!(what, "parameter `x`: range starts at 0.0, but a logarithmic range must start above 0");
    assert!(hint.is_some());
    let (what, hint) = error("[parameters.x]\ntype = 'int'\nlow = 0\nhi = 64");
    assert_eq!((what.as_str(), hint.as_deref()), ("parameter `x`: unknown key `hi`", Some("did you mean `high`?")));
    let (what, hint) = error("[parameter.x]\ntype = 'int'\nlow = 0\nhigh = 64");
    assert_eq!(
        (what.as_str(), hint.as_deref()),
        ("search space: unknown key `parameter`", Some("did you mean `parameters`?"))
    );
    let (what, hint) = error("[parameters.n_batch]\nchoices = [1, 2]\n[[forbid]]\nif = 'n_bacth == 1'");
    assert_eq!(
        (what.as_str(), hint.as_deref()),
        ("forbid clause 1: there is no parameter `n_bacth`", Some("did you mean `n_batch`?"))
    );
    let (what, _) = error("[parameters.x]\nchoices = [1, 2]\nwhen = 'x > '");
    assert!(what.starts_with("parameter `x`: expression `x > `: at column"), "{what}");
    let (what, _) = error("[parameters.x]\nchoices = [1, 2]\n[[forbid]]\nif = \"x < 'a'\"");
    assert!(what.starts_with("forbid clause 1: expression"), "{what}");
    let (what, _) = error("[parameters.x]\nchoices = [1, 2]\n[[forbid]]\nif = 'x'");
    assert!(what.ends_with("is neither true nor false"), "{what}");
    let (what, hint) =
        error("[parameters.x]\nchoices = [1, 2]\n[[constraints]]\nname = 'c'\nexpr = 'metrics.ttft.p95'");
    assert!(what.ends_with("there is no metric `ttft`") && hint.unwrap().contains("ttft_ms"));
    assert!(SearchSpace::from_toml("").is_err());
    assert!(SearchSpace::from_toml("[parameters]").is_err());
    assert!(SearchSpace::from_json("[]").is_err());
    assert!(SearchSpace::from_json("{\"a\":[NaN]}").is_err());
    assert!(SearchSpace::from_toml("a = [inf]").is_err());
}

#[test]
fn expressions_compare_and_compute_across_number_types() {
    let space = SearchSpace::from_toml(
        "[parameters]\nn = { type = 'int', low = 1, high = 10 }\nx = { type = 'float', low = 1, high = 10, step = 1 }\n\
         [[forbid]]\nif = 'n * 1.5 > x + 1'\n[[forbid]]\nif = 'x == 4 && n == 2.0'\n[[forbid]]\nif = 'n in [1]'",
    )
    .unwrap();
    let forbidden =
        |n: i64, x: f64| space.forbidden_by(&Params::from([("n".into(), n.into()), ("x".into(), x.into())])).is_some();
    assert!(forbidden(10, 1.0) && forbidden(2, 4.0) && forbidden(1, 10.0));
    assert!(!forbidden(2, 5.0));
}

#[test]
fn hostile_expressions_are_refused() {
    let with = |clause: &str| SpaceBuilder::default().parameter("x", small(), None).forbid(clause, "").build();
    for bad in [
        "[1, 2].exists(v, v == x)".to_owned(),
        format!("x == 1{}", " || x == 1".repeat(1_000)),
        format!("{}x{} == 1", "(".repeat(2_000), ")".repeat(2_000)),
        "!".repeat(4_000) + "x",
        "\u{0}".to_owned(),
        format!("x{} == 1", "+1".repeat(2_000)),
        format!("x{} == 1", ".a".repeat(2_000)),
        format!("{}1", "x==1?2:".repeat(500)),
        "x ==".to_owned() + &" ".repeat(4_000),
        "{'a': x}.a == 1".to_owned(),
    ] {
        assert!(with(&bad).is_err(), "{}", &bad[..bad.len().min(30)]);
    }
}

fn small() -> Distribution {
    Distribution::Categorical(Choices::new(vec![1.into(), 2.into()]).unwrap())
}

#[test]
fn a_space_that_forbids_everything_is_refused() {
    let (what, hint) = error("[parameters.x]\nchoices = [1, 2]\n[[forbid]]\nif = 'x < 3'");
    assert_eq!(what, "the search space forbids every configuration");
    assert!(hint.is_some());
    let (what, _) = error("[parameters.x]\ntype = 'float'\nlow = 0\nhigh = 1\n[[forbid]]\nif = 'x < 3'");
    assert!(what.ends_with("as far as a bounded search shows"));
}

#[test]
fn one_configuration_in_a_million_is_found() {
    let range = || Distribution::Int(IntRange::new(0, 99, 1, false).unwrap());
    let space = SearchSpace::builder()
        .parameter("a", range(), None)
        .parameter("b", range(), None)
        .parameter("c", range(), None)
        .forbid("a != 17", "")
        .forbid("b != 18", "")
        .forbid("c != 19", "")
        .build()
        .unwrap();
    assert_eq!(space.cardinality(), Some(1));
}

#[test]
fn constraints_read_the_samples() {
    let space = file();
    let mut samples = Samples::default();
    assert_eq!(space.constraints()[0].evaluate(&samples), Ok(None));
    samples.push(Metric::TtftMs, 510.0);
    assert_eq!(space.constraints()[0].evaluate(&samples), Ok(Some(10.0)));
    assert_eq!(space.constraints()[1].evaluate(&samples), Ok(None));
}

#[test]
fn limits_hold() {
    let mut builder = SearchSpace::builder();
    for index in 0..=MAX_PARAMETERS {
        builder = builder.parameter(&format!("p{index}"), small(), None);
    }
    assert!(matches!(builder.build(), Err(SpaceError::TooLarge { .. })));
    assert!(SearchSpace::from_json(&" ".repeat(MAX_FILE_BYTES + 1)).is_err());
    for bad in ["", "a b", "1a", "a=b", "ä"] {
        assert!(SearchSpace::builder().parameter(bad, small(), None).build().is_err(), "{bad}");
    }
}
