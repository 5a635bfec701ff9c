use super::*;

fn float(low: f64, high: f64, step: Option<f64>) -> Distribution {
    Distribution::Float(FloatRange::new(low, high, step, false).unwrap())
}

fn int(low: i64, high: i64, step: i64) -> Distribution {
    Distribution::Int(IntRange::new(low, high, step, false).unwrap())
}

fn choices(values: &[Value]) -> Distribution {
    Distribution::Categorical(Choices::new(values.to_vec()).unwrap())
}

#[test]
fn json_is_optunas_to_the_letter() {
    let cases = [
        (int(1, 5, 1), r#"{"name":"IntDistribution","attributes":{"log":false,"step":1,"low":1,"high":5}}"#),
        (
            float(0.0, 1.0, Some(0.1)),
            r#"{"name":"FloatDistribution","attributes":{"step":0.1,"low":0.0,"high":1.0,"log":false}}"#,
        ),
        (
            float(0.5, 1.0, None),
            r#"{"name":"FloatDistribution","attributes":{"step":null,"low":0.5,"high":1.0,"log":false}}"#,
        ),
        (
            choices(&[Value::Null, Value::Bool(true), Value::Int(1), Value::Float(1.0), Value::from("on")]),
            r#"{"name":"CategoricalDistribution","attributes":{"choices":[null,true,1,1.0,"on"]}}"#,
        ),
    ];
    for (distribution, text) in cases {
        assert_eq!(distribution.to_json(), text);
        assert_eq!(serde_json::from_str::<Distribution>(text).unwrap(), distribution);
        assert_eq!(Distribution::from_optuna_json(text).unwrap(), distribution);
    }
}

#[test]
fn reading_checks() {
    for bad in [
        r#"{"name":"IntDistribution","attributes":{"log":false,"step":3,"low":0,"high":10}}"#,
        r#"{"name":"IntDistribution","attributes":{"log":true,"step":1,"low":0,"high":10}}"#,
        r#"{"name":"FloatDistribution","attributes":{"step":null,"low":2.0,"high":1.0,"log":false}}"#,
        r#"{"name":"CategoricalDistribution","attributes":{"choices":[]}}"#,
        r#"{"name":"NoDistribution","attributes":{}}"#,
    ] {
        assert!(serde_json::from_str::<Distribution>(bad).is_err(), "{bad}");
    }
}

#[test]
fn optunas_wire_form_lowers_the_end_to_the_grid() {
    let text = r#"{"name":"IntDistribution","attributes":{"log":false,"step":3,"low":0,"high":10}}"#;
    assert_eq!(Distribution::from_optuna_json(text).unwrap(), int(0, 9, 3));
    let text = r#"{"name":"DiscreteUniformDistribution","attributes":{"low":0.0,"high":1.05,"q":0.1}}"#;
    assert_eq!(Distribution::from_optuna_json(text).unwrap(), float(0.0, 1.0, Some(0.1)));
    let text = r#"{"type":"int","low":1,"high":4}"#;
    assert_eq!(Distribution::from_optuna_json(text).unwrap(), int(1, 4, 1));
}

#[test]
fn tenths_are_decimal() {
    let tenths = float(0.0, 0.9, Some(0.1));
    let all = (0..10).map(|index| tenths.value_at(index).to_string()).collect::<Vec<_>>();
    assert_eq!(all, ["0.0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9"]);
    assert_eq!(tenths.cardinality(), Some(10));
    for index in 0..10 {
        assert!(tenths.contains(&tenths.value_at(index)));
    }
    assert!(!tenths.contains(&Value::Float(0.25)));
    assert_eq!(tenths.coerce(&Value::Float(0.1 + 0.2)).unwrap(), Value::Float(0.3));
}

#[test]
fn a_step_that_does_not_divide_names_the_last_grid_point() {
    let error = FloatRange::new(0.0, 1.0, Some(0.3), false).unwrap_err();
    assert_eq!(error.to_string(), "step 0.3 does not divide the range from 0.0 to 1.0");
    assert_eq!(error.hint().unwrap(), "set `high = 0.9`");
    assert!(IntRange::new(0, 3, 7, false).is_err());
    assert!(IntRange::new(3, 3, 7, false).is_ok());
}

#[test]
fn logarithms_need_a_positive_start() {
    let error = IntRange::new(0, 8, 1, true).unwrap_err();
    assert_eq!(error.to_string(), "range starts at 0, but a logarithmic range must start at 1 or above");
    assert_eq!(error.hint().unwrap(), "set `low = 1`, or drop `log = true`");
    assert!(FloatRange::new(0.0, 8.0, None, true).is_err());
    assert_eq!(FloatRange::new(1.0, 8.0, Some(1.0), true), Err(DistributionError::LogStep));
    assert!(FloatRange::new(f64::NAN, 8.0, None, false).is_err());
    assert!(FloatRange::new(-f64::MAX, f64::MAX, None, false).is_err());
    assert!(IntRange::new(i64::MIN, i64::MAX, 1, false).is_err());
}

#[test]
fn internal_representation_is_the_number_or_the_index() {
    let kinds = choices(&["off".into(), "on".into(), "auto".into()]);
    assert_eq!(kinds.to_internal(&"auto".into()), Ok(2.0));
    assert_eq!(kinds.from_internal(1.0), Some("on".into()));
    assert_eq!(kinds.from_internal(3.0), None);
    assert_eq!(kinds.from_internal(-1.0), None);
    assert_eq!(kinds.from_internal(f64::NAN), None);
    assert_eq!(int(0, 9, 3).from_internal(6.9), Some(Value::Int(6)));
    assert!(int(0, 9, 3).to_internal(&"x".into()).is_err());
    let edge = 1_i64 << 53;
    assert_eq!(int(edge - 3, edge, 1).value_at(2), Value::Int(edge - 1));
}

#[test]
fn people_may_write_a_value_in_another_type() {
    assert_eq!(float(0.0, 4.0, None).coerce(&Value::Int(3)).unwrap(), Value::Float(3.0));
    assert_eq!(int(0, 9, 3).coerce(&Value::Float(6.0)).unwrap(), Value::Int(6));
    assert!(int(0, 9, 3).coerce(&Value::Int(7)).is_err());
    assert_eq!(choices(&["1".into(), "2".into()]).coerce(&Value::Int(2)).unwrap(), Value::from("2"));
    assert_eq!(choices(&[Value::Int(1), Value::Int(2)]).coerce(&Value::Float(2.0)).unwrap(), Value::Int(2));
    assert!(choices(&[Value::Int(2), Value::Float(2.0)]).coerce(&Value::from("3")).is_err());
}

#[test]
fn numeric_choices_in_order_are_ranked() {
    let of = |numbers: &[i64]| choices(&numbers.iter().map(|number| Value::Int(*number)).collect::<Vec<_>>());
    assert_eq!(of(&[8, 12, 16]).ordered_ranks(), Some(vec![0, 1, 2]));
    assert_eq!(of(&[16, 12, 8]).ordered_ranks(), Some(vec![2, 1, 0]));
    assert_eq!(of(&[8, 16]).ordered_ranks(), None);
    assert_eq!(of(&[8, 16, 12]).ordered_ranks(), None);
    assert_eq!(int(0, 3, 1).ordered_ranks(), None);
}

#[test]
fn one_line_for_people() {
    assert_eq!(int(32, 4096, 32).to_string(), "int 32..4096 step 32");
    assert_eq!(Distribution::Float(FloatRange::new(0.1, 2.0, None, true).unwrap()).to_string(), "float 0.1..2.0 log");
    assert_eq!(choices(&["off".into(), "on".into()]).to_string(), "{off, on}");
}

#[test]
fn what_optuna_allows_survives() {
    for text in [
        r#"{"name":"CategoricalDistribution","attributes":{"choices":[1,1]}}"#,
        r#"{"name":"CategoricalDistribution","attributes":{"choices":[NaN,-Infinity,Infinity,"NaN",null]}}"#,
        r#"{"name":"CategoricalDistribution","attributes":{"choices":["a\"NaN",1e-7,9007199254740993]}}"#,
        r#"{"name":"IntDistribution","attributes":{"log":false,"step":1,"low":0,"high":9223372036854775807}}"#,
    ] {
        let distribution = Distribution::from_optuna_json(text).unwrap();
        assert_eq!(distribution.to_optuna_json(), text);
        let stored: Distribution = serde_json::from_str(&distribution.to_json()).unwrap();
        assert_eq!(stored.to_optuna_json(), text);
    }
    for bad in [
        r#"{"name":"CategoricalDistribution","attributes":{"choices":[18446744073709551616]}}"#,
        r#"{"name":"CategoricalDistribution","attributes":{"choices":[[1]]}}"#,
        r#"{"name":"FloatDistribution","attributes":{"step":null,"low":NaN,"high":1.0,"log":false}}"#,
        "NaN",
        "{",
    ] {
        assert!(Distribution::from_optuna_json(bad).is_err(), "{bad}");
    }
}

#[test]
fn compatible_is_what_python_calls_equal() {
    let list = |text: &str| {
        let text = format!(r#"{{"name":"CategoricalDistribution","attributes":{{"choices":[{text}]}}}}"#);
        Distribution::from_optuna_json(&text).unwrap()
    };
    assert!(list("1, NaN, null").is_compatible(&list("true, NaN, null")));
    assert!(list("1").is_compatible(&list("1.0")));
    assert!(!list("1, 2").is_compatible(&list("2, 1")));
    assert!(!list("1").is_compatible(&list("\"1\"")));
    assert!(float(0.0, 1.0, None).is_compatible(&float(5.0, 7.0, Some(0.5))));
    assert!(!float(1.0, 2.0, None).is_compatible(&int(1, 2, 1)));
    let log = Distribution::Int(IntRange::new(1, 2, 1, true).unwrap());
    assert!(!int(1, 2, 1).is_compatible(&log));
}
