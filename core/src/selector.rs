//! Selectors: which machines may serve a study, as a CEL expression over the facts of a worker.
//!
//! The facts have the names that safety rules see: `inventory` is the machine as [`Inventory`] serialises it. Nothing here
//! is evaluated without a bound: texts are short, trees are shallow, and a macro may run over a list but not within another.

use std::collections::BTreeMap;
use std::sync::Arc;

use cel::common::ast::{Expr, IdedExpr};
use cel::{Context, Env, ExecutionError, Program};
use serde_json::{Value, json};

use crate::inventory::{Gpu, Inventory};

/// Longest text, bytes.
pub const MAX_SELECTOR_BYTES: usize = 1024;

/// Deepest tree that is evaluated.
const MAX_DEPTH: usize = 16;

/// Stack of the parser, which recurses deeply.
const PARSER_STACK_BYTES: usize = 64 << 20;

/// What a selector may ask about beside `inventory`.
const LABELS: &str = "labels";
const DEVICE_CLASS: &str = "device_class";

/// Why a selector is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Longer than is read.
    #[error("it has {0} bytes, and may have {MAX_SELECTOR_BYTES}")]
    TooLong(usize),
    /// No CEL, or more of it than is evaluated.
    #[error("at column {column}: {message}")]
    Syntax {
        /// From 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// A fact that no worker has.
    #[error("at column {column}: there is no fact `{name}`; known are {}", known_facts().join(", "))]
    UnknownFact {
        /// From 1.
        column: usize,
        /// As it is written.
        name: String,
    },
    /// A value that is no answer.
    #[error("{0}")]
    Meaningless(String),
}

/// What a selector sees of a worker.
#[derive(Clone, Debug)]
pub struct Facts(Value);

impl Facts {
    /// The facts of a worker with this machine, these labels and this device class.
    pub fn of(inventory: &Inventory, labels: &BTreeMap<String, String>, device_class: &str) -> Self {
        Self(json!({"inventory": inventory, LABELS: labels, DEVICE_CLASS: device_class}))
    }

    /// Some worker, with one of everything.
    fn example() -> Self {
        let inventory = Inventory { gpus: vec![Gpu::default()], ..Inventory::default() };
        Self::of(&inventory, &BTreeMap::new(), "")
    }
}

/// Every fact, as a selector may name it; `[]` stands for each of a list.
pub fn known_facts() -> Vec<String> {
    let mut facts = Vec::new();
    list("", &Facts::example().0, &mut facts);
    facts
}

fn list(path: &str, value: &Value, facts: &mut Vec<String>) {
    match value {
        Value::Object(_) if path == LABELS => facts.push(format!("{LABELS}.NAME")),
        Value::Object(fields) => {
            for (name, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                list(&format!("{path}{dot}{name}"), value, facts);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| list(&format!("{path}[]"), item, facts)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => facts.push(path.to_owned()),
    }
}

/// A compiled selector.
#[derive(Clone)]
pub struct Selector {
    text: String,
    tree: Arc<IdedExpr>,
    /// Functions and operators are looked up here; making one takes 0.1 ms.
    environment: Arc<Env>,
}

impl std::fmt::Debug for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Selector").field(&self.text).finish()
    }
}

impl Selector {
    /// Reads a selector.
    ///
    /// # Errors
    /// Text that is no CEL, mentions a fact that no worker has, or gives neither true nor false.
    pub fn compile(text: &str) -> Result<Self, SelectorError> {
        if text.len() > MAX_SELECTOR_BYTES {
            return Err(SelectorError::TooLong(text.len()));
        }
        let tree = parse(text)?;
        let selector = Self { text: text.to_owned(), tree: Arc::new(tree), environment: Arc::new(Env::stdlib()) };
        match selector.evaluate(&Facts::example()) {
            // The example has none of the labels, one of everything else, and numbers of 0.
            Ok(cel::Value::Bool(_))
            | Err(
                ExecutionError::NoSuchKey(_) | ExecutionError::IndexOutOfBounds(_) | ExecutionError::DivisionByZero(_),
            ) => Ok(selector),
            Ok(_) => Err(SelectorError::Meaningless("it is neither true nor false".to_owned())),
            Err(error) => Err(SelectorError::Meaningless(format!("it cannot be evaluated: {error}"))),
        }
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a worker with these facts may serve. A fact that it lacks, such as a label, makes that a no.
    pub fn admits(&self, facts: &Facts) -> bool {
        matches!(self.evaluate(facts), Ok(cel::Value::Bool(true)))
    }

    fn evaluate(&self, facts: &Facts) -> cel::ResolveResult {
        let mut context = Context::with_env(self.environment.clone());
        for (name, value) in facts.0.as_object().into_iter().flatten() {
            context.add_variable_from_value(name.as_str(), to_cel(value));
        }
        cel::Value::resolve(&self.tree, &context)
    }
}

/// JSON as CEL; every whole number signed, so that expressions need no suffix.
fn to_cel(json: &Value) -> cel::Value {
    match json {
        Value::Null => cel::Value::Null,
        Value::Bool(bool) => cel::Value::Bool(*bool),
        Value::Number(number) => {
            number.as_i64().map_or_else(|| cel::Value::Float(number.as_f64().unwrap_or(f64::MAX)), cel::Value::Int)
        }
        Value::String(text) => cel::Value::String(Arc::new(text.clone())),
        Value::Array(items) => cel::Value::List(Arc::new(items.iter().map(to_cel).collect())),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), to_cel(value)));
            cel::Value::from(fields.collect::<std::collections::HashMap<_, _>>())
        }
    }
}

/// Parses on a thread of its own: the generated parser recurses deeply, and a panic of it must not become ours.
fn parse(text: &str) -> Result<IdedExpr, SelectorError> {
    let parse = || {
        let program = Program::compile(text).map_err(|errors| {
            let first = errors.errors.first();
            // Columns of the first line only: a selector is one.
            let column = first.map_or(1, |error| usize::try_from(error.pos.1).unwrap_or_default().max(1));
            let message = first.map_or_else(|| "syntax error".to_owned(), |error| one_line(&error.msg));
            SelectorError::Syntax { column, message }
        })?;
        let example = Facts::example();
        let scope = [
            ("inventory".to_owned(), Shape::Known(&example.0["inventory"])),
            (LABELS.to_owned(), Shape::Labels),
            (DEVICE_CLASS.to_owned(), Shape::Leaf),
        ];
        Check { program: &program, text }.shape(program.expression(), &scope, 0, false)?;
        Ok(program.expression().clone())
    };
    std::thread::scope(|scope| {
        let refuse = |message: String| Err(SelectorError::Syntax { column: 1, message });
        match std::thread::Builder::new().stack_size(PARSER_STACK_BYTES).spawn_scoped(scope, parse) {
            Err(error) => refuse(format!("no thread to parse on: {error}")),
            Ok(parser) => parser.join().unwrap_or_else(|_| refuse("the parser gave up".to_owned())),
        }
    })
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

/// What is known of a value before there is a worker.
#[derive(Clone, Copy)]
enum Shape<'a> {
    /// Of the shape of this example.
    Known(&'a Value),
    /// Texts by names that nobody knows.
    Labels,
    /// Without fields.
    Leaf,
    /// Anything.
    Unknown,
}

type Scope<'a> = [(String, Shape<'a>)];

struct Check<'p> {
    program: &'p Program,
    text: &'p str,
}

impl Check<'_> {
    fn column(&self, id: u64) -> usize {
        let offset = self.program.source_info().offset_for(id).map_or(0, |(start, _)| start as usize);
        self.text.get(..offset).map_or(offset, |before| before.chars().count()) + 1
    }

    fn refuse(&self, node: &IdedExpr, message: &str) -> SelectorError {
        SelectorError::Syntax { column: self.column(node.id), message: message.to_owned() }
    }

    /// What `node` is, after everything in it was found to exist.
    ///
    /// `repeated`: within a macro over a list.
    fn shape<'a>(
        &self,
        node: &IdedExpr,
        scope: &Scope<'a>,
        depth: usize,
        repeated: bool,
    ) -> Result<Shape<'a>, SelectorError> {
        if depth == MAX_DEPTH {
            return Err(self.refuse(node, "nested too deeply to be evaluated"));
        }
        let depth = depth + 1;
        match &node.expr {
            Expr::Unspecified | Expr::Literal(_) => Ok(Shape::Leaf),
            Expr::Ident(name) => {
                let known = scope.iter().rev().find(|(known, _)| known == name);
                known.map(|(_, shape)| *shape).ok_or_else(|| self.unknown(node, name.clone()))
            }
            Expr::Select(select) => {
                let field = select.field.as_str();
                match self.shape(&select.operand, scope, depth, repeated)? {
                    Shape::Known(Value::Object(fields)) => match fields.get(field) {
                        Some(value) => Ok(Shape::Known(value)),
                        None => Err(self.unknown(node, path(node))),
                    },
                    Shape::Known(_) | Shape::Leaf => Err(self.unknown(node, path(node))),
                    Shape::Labels => Ok(Shape::Leaf),
                    Shape::Unknown => Ok(Shape::Unknown),
                }
            }
            Expr::Call(call) => {
                let mut shapes = Vec::new();
                for child in call.target.iter().map(|target| &**target).chain(&call.args) {
                    shapes.push(self.shape(child, scope, depth, repeated)?);
                }
                Ok(match (call.func_name.as_str(), shapes.as_slice()) {
                    ("_[_]", [Shape::Known(Value::Array(items)), _]) => {
                        items.first().map_or(Shape::Unknown, Shape::Known)
                    }
                    ("_[_]", [Shape::Labels, _]) => Shape::Leaf,
                    _ => Shape::Unknown,
                })
            }
            Expr::List(list) => {
                for element in &list.elements {
                    self.shape(element, scope, depth, repeated)?;
                }
                Ok(Shape::Unknown)
            }
            Expr::Comprehension(_) if repeated => Err(self.refuse(node, "a macro within another is not supported")),
            Expr::Comprehension(each) => {
                let element = match self.shape(&each.iter_range, scope, depth, repeated)? {
                    Shape::Known(Value::Array(items)) => items.first().map_or(Shape::Unknown, Shape::Known),
                    Shape::Known(_) | Shape::Labels | Shape::Leaf | Shape::Unknown => Shape::Unknown,
                };
                let mut inner = scope.to_vec();
                inner.push((each.iter_var.clone(), element));
                inner.extend(each.iter_var2.iter().map(|name| (name.clone(), Shape::Unknown)));
                inner.push((each.accu_var.clone(), Shape::Unknown));
                for part in [&each.accu_init, &each.loop_cond, &each.loop_step, &each.result] {
                    self.shape(part, &inner, depth, true)?;
                }
                Ok(Shape::Unknown)
            }
            Expr::Map(_) => Err(self.refuse(node, "a map is not supported")),
            Expr::Struct(_) => Err(self.refuse(node, "a message is not supported")),
        }
    }

    fn unknown(&self, node: &IdedExpr, name: String) -> SelectorError {
        // The position of a selection is that of its dot; people look where the name begins.
        let mut first = node;
        while let Expr::Select(select) = &first.expr {
            first = &select.operand;
        }
        SelectorError::UnknownFact { column: self.column(first.id), name }
    }
}

/// A chain of selections as it is written.
fn path(node: &IdedExpr) -> String {
    match &node.expr {
        Expr::Select(select) => format!("{}.{}", path(&select.operand), select.field),
        Expr::Ident(name) => name.clone(),
        _ => "…".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(vram_mib: u64) -> Facts {
        let gpu = Gpu { name: "RTX 3090".to_owned(), vram_mib, ..Gpu::default() };
        let inventory = Inventory { os: "linux".to_owned(), ram_mib: 65_536, gpus: vec![gpu], ..Inventory::default() };
        Facts::of(&inventory, &BTreeMap::from([("rack".to_owned(), "7".to_owned())]), "1xRTX 3090")
    }

    fn admits(text: &str, vram_mib: u64) -> bool {
        Selector::compile(text).unwrap_or_else(|error| panic!("{text}: {error}")).admits(&facts(vram_mib))
    }

    #[test]
    fn facts_decide() {
        let text = "inventory.gpus.exists(gpu, gpu.vram_mib >= 12 * 1024) && inventory.os == 'linux'";
        assert!(admits(text, 24_564));
        assert!(!admits(text, 8_192));
        for (text, expected) in [
            ("labels.rack == '7'", true),
            ("labels['rack'] == '7'", true),
            ("labels.rack in ['1', '2']", false),
            // A worker without the label is not meant, whatever is asked about it.
            ("labels.room != '7'", false),
            ("!has(labels.room)", true),
            ("device_class.startsWith('1xRTX')", true),
            ("size(inventory.gpus) == 1 && inventory.gpus[0].name.contains('3090')", true),
            ("inventory.gpus[1].vram_mib > 0", false),
            ("inventory.gpus.all(gpu, gpu.vram_mib > 9000 && !inventory.wsl.detected)", true),
            ("inventory.cpu.physical_cores >= 8", false),
        ] {
            assert_eq!(admits(text, 24_564), expected, "{text}");
        }
    }

    #[test]
    fn unknown_facts_are_named_with_their_place_and_those_that_are_known() {
        for (text, column, name) in [
            ("inventory.vram > 1", 1, "inventory.vram"),
            ("inventory.os == 'linux' && gpu.vram_mib > 1", 28, "gpu"),
            ("true || inventory.gpus.exists(g, g.vram > 1)", 34, "g.vram"),
            ("inventory.gpus[0].size > 1", 1, "….size"),
            ("has(inventory.gpu)", 5, "inventory.gpu"),
            ("inventory.os.name == 'linux'", 1, "inventory.os.name"),
        ] {
            let error = Selector::compile(text).unwrap_err();
            let SelectorError::UnknownFact { name: found, .. } = &error else { panic!("{text}: {error}") };
            assert_eq!(found, name, "{text}");
            if !name.starts_with('…') {
                assert!(error.to_string().starts_with(&format!("at column {column}: ")), "{text}: {error}");
            }
            let said = error.to_string();
            for fact in ["inventory.gpus[].vram_mib", "inventory.wsl.detected", "labels.NAME", "device_class"] {
                assert!(said.contains(fact), "{said}");
            }
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        let nested = format!("{}true{}", "(!".repeat(40), ")".repeat(40));
        let within = "inventory.gpus.exists(a, inventory.gpus.exists(b, a.name == b.name))";
        let long = "x".repeat(MAX_SELECTOR_BYTES + 1);
        for (text, says) in [
            ("", "column 1"),
            ("inventory.os ==", "at column"),
            ("inventory.ram_mib", "neither true nor false"),
            ("inventory.os > 3", "cannot be evaluated"),
            ("nonsense(inventory.os)", "cannot be evaluated"),
            (nested.as_str(), "nested too deeply"),
            (within, "within another"),
            ("{'a': 1} == {}", "a map"),
            (long.as_str(), "1025 bytes"),
        ] {
            let error = Selector::compile(text).expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
