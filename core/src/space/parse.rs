//! The search space file: TOML and JSON, one meaning. Both become a JSON tree, which is then read by hand, so that
//! errors name the place and the nearest key.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value as Json};

use super::MAX_FILE_BYTES;
use super::error::{SpaceError, nearest, shorten, shown};
use super::model::{SearchSpace, SpaceBuilder};
use crate::distribution::{Choices, Distribution, FloatRange, IntRange};
use crate::value::Value;

const TOP_KEYS: [&str; 3] = ["parameters", "forbid", "constraints"];
const PARAMETER_KEYS: [&str; 8] = ["type", "low", "high", "step", "log", "choices", "default", "when"];

impl SearchSpace {
    /// Reads the TOML form.
    pub fn from_toml(text: &str) -> Result<Self, SpaceError> {
        check_size(text)?;
        let table: toml::Table = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            SpaceError::Syntax { format: "TOML", message: format!("line {line}: {}", shorten(error.message())) }
        })?;
        let mut root = Map::new();
        for (key, value) in table {
            let json = toml_to_json(&key, value)?;
            root.insert(key, json);
        }
        read(&root)
    }

    /// Reads the JSON form.
    pub fn from_json(text: &str) -> Result<Self, SpaceError> {
        check_size(text)?;
        let json = serde_json::from_str(text)
            .map_err(|error| SpaceError::Syntax { format: "JSON", message: error.to_string() })?;
        Self::from_json_value(&json)
    }

    /// Reads the JSON form from a parsed tree.
    pub fn from_json_value(json: &Json) -> Result<Self, SpaceError> {
        read(object("search space", "search space", json)?)
    }

    /// The JSON form: what [`Self::from_json`] reads back to an equal space.
    pub fn to_json_value(&self) -> Json {
        let mut parameters = Map::new();
        for (name, parameter) in &self.parameters {
            let mut table = Map::new();
            let mut put = |key: &str, value: Json| table.insert(key.to_owned(), value);
            match &parameter.distribution {
                Distribution::Float(range) => {
                    put("type", "float".into());
                    put("low", range.low().into());
                    put("high", range.high().into());
                    range.step().and_then(|step| put("step", step.into()));
                    range.log().then(|| put("log", true.into()));
                }
                Distribution::Int(range) => {
                    put("type", "int".into());
                    put("low", range.low().into());
                    put("high", range.high().into());
                    (range.step() != 1).then(|| put("step", range.step().into()));
                    range.log().then(|| put("log", true.into()));
                }
                Distribution::Categorical(choices) => {
                    put("type", "categorical".into());
                    put("choices", choices.as_slice().iter().map(to_json).collect());
                }
            }
            parameter.default.as_ref().map(|default| put("default", to_json(default)));
            parameter.when().map(|when| put("when", when.into()));
            parameters.insert(name.clone(), table.into());
        }
        let mut root = Map::from_iter([("parameters".to_owned(), parameters.into())]);
        let forbid = |forbid: &super::Forbid| match forbid.why() {
            Some(why) => serde_json::json!({"if": forbid.expression(), "why": why}),
            None => serde_json::json!({"if": forbid.expression()}),
        };
        // What happened to this search is no part of what its author wrote.
        let clauses = || self.forbids.iter().filter(|forbid| forbid.is_clause());
        if clauses().next().is_some() {
            root.insert("forbid".to_owned(), clauses().map(forbid).collect());
        }
        let constraint = |constraint: &super::Constraint| match constraint.expression() {
            Some(expr) => serde_json::json!({"name": constraint.name(), "expr": expr}),
            None => serde_json::json!({"name": constraint.name()}),
        };
        if !self.constraints.is_empty() {
            root.insert("constraints".to_owned(), self.constraints.iter().map(constraint).collect());
        }
        root.into()
    }
}

impl Serialize for SearchSpace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json_value().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SearchSpace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Json::deserialize(deserializer)?;
        Self::from_json_value(&json).map_err(serde::de::Error::custom)
    }
}

fn check_size(text: &str) -> Result<(), SpaceError> {
    if text.len() <= MAX_FILE_BYTES {
        return Ok(());
    }
    Err(SpaceError::TooLarge { what: format!("a search space of {} bytes", text.len()), limit: "1 MiB".to_owned() })
}

fn read(root: &Map<String, Json>) -> Result<SearchSpace, SpaceError> {
    // The short form: every key a parameter, every value a list of its choices.
    let scalars =
        |json: &Json| json.as_array().is_some_and(|list| !list.iter().any(|item| item.is_object() || item.is_array()));
    let short = !root.contains_key("parameters") || root.values().all(scalars);
    let mut builder = SpaceBuilder::default();
    let mut add = |name: &String, json: &Json| {
        let (distribution, default, when) = parameter(name, json)?;
        builder.parameters.insert(name.clone(), (distribution, default, when));
        Ok::<_, SpaceError>(())
    };
    for (key, json) in root {
        let list = matches!(key.as_str(), "forbid" | "constraints") && (!short || !scalars(json) || is_empty(json));
        if list {
            continue;
        }
        if short && json.is_array() {
            add(key, json)?;
        } else if key == "parameters" {
            for (name, json) in object("search space", "parameters", json)? {
                add(name, json)?;
            }
        } else {
            let nearest = nearest(key, TOP_KEYS);
            return Err(SpaceError::UnknownKey { place: "search space".to_owned(), key: shorten(key), nearest });
        }
    }
    let names = |key| root.get(key).filter(|json| !short || !scalars(json));
    for (index, json) in list("forbid", names("forbid"))?.iter().enumerate() {
        let place = format!("forbid clause {}", index + 1);
        let table = object("search space", "forbid", json)?;
        known_keys(&place, table, &["if", "why"])?;
        let clause = text(&place, table, "if")?;
        let missing = SpaceError::MissingKey { place: place.clone(), key: "if", example: "if = \"a == 1 && b == 2\"" };
        builder.forbids.push((clause.ok_or(missing)?, text(&place, table, "why")?));
    }
    for (index, json) in list("constraints", names("constraints"))?.iter().enumerate() {
        let place = format!("constraint {}", index + 1);
        let table = object("search space", "constraints", json)?;
        known_keys(&place, table, &["name", "expr"])?;
        let name = text(&place, table, "name")?;
        let missing = SpaceError::MissingKey { place: place.clone(), key: "name", example: "name = \"ttft_p95\"" };
        builder.constraints.push((name.ok_or(missing)?, text(&place, table, "expr")?));
    }
    builder.build()
}

fn is_empty(json: &Json) -> bool {
    json.as_array().is_some_and(Vec::is_empty)
}

type Parts = (Distribution, Option<Value>, Option<String>);

fn parameter(name: &str, json: &Json) -> Result<Parts, SpaceError> {
    let name = shorten(name);
    let place = format!("parameter `{name}`");
    let wrong = |source| SpaceError::Distribution { name: name.clone(), source };
    if let Some(items) = json.as_array() {
        let choices = items.iter().map(|item| value(&place, "choices", item)).collect::<Result<Vec<_>, _>>()?;
        return Ok((Distribution::Categorical(Choices::new(choices).map_err(wrong)?), None, None));
    }
    let table = object("search space", &name, json)?;
    known_keys(&place, table, &PARAMETER_KEYS)?;
    let kind = match (text(&place, table, "type")?, table.contains_key("choices")) {
        (Some(kind), _) => kind,
        (None, true) => "categorical".to_owned(),
        (None, false) => {
            return Err(SpaceError::MissingKey { place, key: "type", example: "type = \"int\"" });
        }
    };
    let foreign = |keys: &[&str]| {
        let key = keys.iter().find(|key| table.contains_key(**key));
        key.map_or(Ok(()), |key| {
            let place = format!("{place} of type {kind}");
            Err(SpaceError::UnknownKey { place, key: (*key).to_owned(), nearest: None })
        })
    };
    let distribution = match kind.as_str() {
        "float" => {
            foreign(&["choices"])?;
            let (low, high) = (number(&place, table, "low")?, number(&place, table, "high")?);
            let step = table.get("step").map(|_| number(&place, table, "step")).transpose()?;
            Distribution::Float(FloatRange::new(low, high, step, flag(&place, table, "log")?).map_err(wrong)?)
        }
        "int" => {
            foreign(&["choices"])?;
            let (low, high) = (integer(&place, table, "low")?, integer(&place, table, "high")?);
            let step = table.get("step").map_or(Ok(1), |_| integer(&place, table, "step"))?;
            Distribution::Int(IntRange::new(low, high, step, flag(&place, table, "log")?).map_err(wrong)?)
        }
        "categorical" => {
            foreign(&["low", "high", "step", "log"])?;
            let missing =
                SpaceError::MissingKey { place: place.clone(), key: "choices", example: "choices = [\"off\", \"on\"]" };
            let items = list("choices", Some(table.get("choices").ok_or(missing)?))?;
            let choices = items.iter().map(|item| value(&place, "choices", item)).collect::<Result<Vec<_>, _>>()?;
            Distribution::Categorical(Choices::new(choices).map_err(wrong)?)
        }
        other => {
            let got = nearest(other, ["int", "float", "categorical"])
                .map_or_else(|| format!("`{}`", shorten(other)), |near| format!("`{other}`; did you mean `{near}`?"));
            let expected = "`int`, `float` or `categorical`";
            return Err(SpaceError::WrongType { place, key: "type".to_owned(), expected, got });
        }
    };
    let default = table.get("default").map(|json| value(&place, "default", json)).transpose()?;
    Ok((distribution, default, text(&place, table, "when")?))
}

fn object<'a>(place: &str, key: &str, json: &'a Json) -> Result<&'a Map<String, Json>, SpaceError> {
    json.as_object().ok_or_else(|| wrong_type(place, key, "a table", json))
}

fn list<'a>(key: &str, json: Option<&'a Json>) -> Result<&'a [Json], SpaceError> {
    match json {
        None => Ok(&[]),
        Some(json) => json.as_array().map(Vec::as_slice).ok_or_else(|| wrong_type("search space", key, "a list", json)),
    }
}

fn known_keys(place: &str, table: &Map<String, Json>, known: &[&str]) -> Result<(), SpaceError> {
    match table.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(SpaceError::UnknownKey {
            place: place.to_owned(),
            key: shorten(key),
            nearest: nearest(key, known.iter().copied()),
        }),
    }
}

fn text(place: &str, table: &Map<String, Json>, key: &str) -> Result<Option<String>, SpaceError> {
    let read = |json: &Json| json.as_str().map(str::to_owned).ok_or_else(|| wrong_type(place, key, "a text", json));
    table.get(key).map(read).transpose()
}

fn flag(place: &str, table: &Map<String, Json>, key: &str) -> Result<bool, SpaceError> {
    let read = |json: &Json| json.as_bool().ok_or_else(|| wrong_type(place, key, "true or false", json));
    table.get(key).map_or(Ok(false), read)
}

fn required<'a>(place: &str, table: &'a Map<String, Json>, key: &'static str) -> Result<&'a Json, SpaceError> {
    let example = if key == "low" { "low = 1" } else { "high = 64" };
    table.get(key).ok_or_else(|| SpaceError::MissingKey { place: place.to_owned(), key, example })
}

fn number(place: &str, table: &Map<String, Json>, key: &'static str) -> Result<f64, SpaceError> {
    let json = required(place, table, key)?;
    json.as_f64().ok_or_else(|| wrong_type(place, key, "a number", json))
}

fn integer(place: &str, table: &Map<String, Json>, key: &'static str) -> Result<i64, SpaceError> {
    let json = required(place, table, key)?;
    let integer = json.as_i64().or_else(|| Value::Float(json.as_f64()?).as_i64());
    integer.ok_or_else(|| wrong_type(place, key, "an integer", json))
}

fn value(place: &str, key: &str, json: &Json) -> Result<Value, SpaceError> {
    match json {
        Json::Null => Ok(Value::Null),
        Json::Bool(bool) => Ok(Value::Bool(*bool)),
        Json::String(text) => Ok(Value::Text(text.clone())),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(int), _) => Ok(Value::Int(int)),
            (None, Some(float)) if number.is_f64() => Ok(Value::Float(float)),
            (None, _) => Err(wrong_type(place, key, "a number of 64 bits", json)),
        },
        Json::Array(_) | Json::Object(_) => Err(wrong_type(place, key, "a number, a text, true, false or null", json)),
    }
}

fn wrong_type(place: &str, key: &str, expected: &'static str, json: &Json) -> SpaceError {
    let got = match json {
        Json::Null => "null".to_owned(),
        Json::Bool(bool) => bool.to_string(),
        Json::Number(number) => number.to_string(),
        Json::String(text) => format!("the text `{}`", shorten(text)),
        Json::Array(_) => "a list".to_owned(),
        Json::Object(_) => "a table".to_owned(),
    };
    SpaceError::WrongType { place: place.to_owned(), key: shorten(key), expected, got }
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(bool) => (*bool).into(),
        Value::Int(int) => (*int).into(),
        Value::Float(float) => (*float).into(),
        Value::Text(text) => text.as_str().into(),
    }
}

fn toml_to_json(key: &str, value: toml::Value) -> Result<Json, SpaceError> {
    Ok(match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(int) => int.into(),
        toml::Value::Boolean(bool) => bool.into(),
        toml::Value::Float(float) if float.is_finite() => float.into(),
        toml::Value::Float(float) => {
            let got = shown(&Value::Float(float));
            return Err(SpaceError::WrongType {
                place: "search space".to_owned(),
                key: shorten(key),
                expected: "finite",
                got,
            });
        }
        toml::Value::Datetime(_) => {
            let (expected, got) = ("a number, a text or a truth", "a date".to_owned());
            return Err(SpaceError::WrongType { place: "search space".to_owned(), key: shorten(key), expected, got });
        }
        toml::Value::Array(items) => {
            Json::Array(items.into_iter().map(|item| toml_to_json(key, item)).collect::<Result<_, _>>()?)
        }
        toml::Value::Table(table) => {
            let entry = |(key, value): (String, toml::Value)| Ok((key.clone(), toml_to_json(&key, value)?));
            Json::Object(table.into_iter().map(entry).collect::<Result<_, SpaceError>>()?)
        }
    })
}
