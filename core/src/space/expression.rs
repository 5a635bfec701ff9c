//! CEL expressions: compiled once, evaluated over parameters or measured metrics. The only door to the crate `cel`.
//!
//! Comparisons between integers and floats work natively. Arithmetic between them does not in CEL, so an expression
//! that fails for that reason is evaluated again with every number a float. Macros (`exists`, `map`, …) are refused:
//! nested, they run for longer than any search.

use std::collections::BTreeSet;
use std::sync::Arc;

use cel::common::ast::{Expr, IdedExpr, LiteralValue};
use cel::common::types::{CelBool, CelDouble, CelInt, CelNull, CelString};
use cel::common::value::CowVal;
use cel::context::VariableResolver;
use cel::{Context, Env};

use super::MAX_EXPRESSION_BYTES;
use super::error::{SpaceError, shorten};
use crate::value::{Params, Value};

/// Deepest tree that is evaluated. A level takes up to 40 KiB of stack in a debug build; threads have 2 MiB.
const MAX_DEPTH: usize = 20;

/// Stack of the parser, which needs up to 170 KiB for a level of brackets in a debug build and stops at 96 levels.
const PARSER_STACK_BYTES: usize = 64 << 20;

/// Functions and operators of an expression are looked up here; making one takes 0.1 ms, so a space shares one.
pub(super) type Environment = Arc<Env>;

pub(super) fn environment() -> Environment {
    Arc::new(Env::stdlib())
}

/// A compiled expression and its text.
#[derive(Clone)]
pub(super) struct Expression {
    text: String,
    native: Arc<IdedExpr>,
    /// The same with every integer literal a float.
    floats: Arc<IdedExpr>,
    /// Variables mentioned, sorted.
    variables: Vec<String>,
    environment: Environment,
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Expression {
    pub(super) fn compile(place: &str, text: &str, environment: &Environment) -> Result<Self, SpaceError> {
        if text.len() > MAX_EXPRESSION_BYTES {
            let what = format!("{place}: an expression of {} bytes", text.len());
            return Err(SpaceError::TooLarge { what, limit: "4 KiB".to_owned() });
        }
        let (native, floats, variables) = parse(text, environment)
            .map_err(|(message, hint)| refuse(place, text, message, hint.map(str::to_owned)))?;
        Ok(Self {
            text: text.to_owned(),
            native: Arc::new(native),
            floats: Arc::new(floats),
            variables: variables.into_iter().collect(),
            environment: environment.clone(),
        })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn variables(&self) -> &[String] {
        &self.variables
    }

    /// Evaluates to true or false over `params`.
    pub(super) fn holds(&self, params: &Params) -> Result<bool, String> {
        let value = match self.run(&self.native, &Parameters { params, floats: false }) {
            Err(cel::ExecutionError::UnsupportedBinaryOperator(..)) => {
                self.run(&self.floats, &Parameters { params, floats: true })
            }
            other => other,
        };
        match value {
            Ok(cel::Value::Bool(answer)) => Ok(answer),
            Ok(_) => Err("is neither true nor false".to_owned()),
            Err(error) => Err(shorten(&error.to_string())),
        }
    }

    /// Evaluates to a number; `lookup` answers `metrics.<name>.<statistic>`. `None` when something is not there.
    pub(super) fn number(&self, metrics: cel::Value) -> Result<Option<f64>, String> {
        let mut context = Context::with_env(self.environment.clone());
        context.add_variable_from_value("metrics", metrics);
        match cel::Value::resolve(&self.floats, &context) {
            Ok(cel::Value::Float(float)) if float.is_finite() => Ok(Some(float)),
            Ok(cel::Value::Float(_)) => Err("is not finite".to_owned()),
            Ok(cel::Value::Int(int)) => Ok(Some(int as f64)),
            Ok(_) => Err("is no number".to_owned()),
            Err(cel::ExecutionError::NoSuchKey(_)) => Ok(None),
            Err(error) => Err(shorten(&error.to_string())),
        }
    }

    fn run(&self, expression: &IdedExpr, variables: &Parameters<'_>) -> cel::ResolveResult {
        let mut context = Context::with_env(self.environment.clone());
        context.set_variable_resolver(variables);
        cel::Value::resolve(expression, &context)
    }

    /// Field paths such as `["metrics", "ttft_ms", "p95"]`, root first, of every selection in the expression.
    pub(super) fn paths(&self) -> Vec<Vec<&str>> {
        let mut paths = Vec::new();
        collect_paths(&self.native, &mut paths);
        paths
    }
}

pub(super) fn refuse(place: &str, text: &str, message: String, hint: Option<String>) -> SpaceError {
    SpaceError::Expression { place: place.to_owned(), text: shorten(text), message, hint }
}

struct Parameters<'a> {
    params: &'a Params,
    floats: bool,
}

impl VariableResolver for Parameters<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        Some(match self.params.get(variable)? {
            Value::Null => CowVal::owned(CelNull),
            Value::Bool(bool) => CowVal::owned(CelBool::from(*bool)),
            Value::Int(int) if self.floats => CowVal::owned(CelDouble::from(*int as f64)),
            Value::Int(int) => CowVal::owned(CelInt::from(*int)),
            Value::Float(float) => CowVal::owned(CelDouble::from(*float)),
            Value::Text(text) => CowVal::owned(CelString::from(text.as_str())),
        })
    }
}

type Parsed = (IdedExpr, IdedExpr, BTreeSet<String>);
type Refused = (String, Option<&'static str>);

/// Parses on a thread of its own: the generated parser recurses deeply, and a panic of it must not become ours.
fn parse(text: &str, environment: &Environment) -> Result<Parsed, Refused> {
    let parse = || {
        let program = environment.compile(text).map_err(|errors| {
            let first = errors.errors.first();
            let message =
                first.map_or_else(String::new, |error| format!("at column {}: {}", error.pos.1, shorten(&error.msg)));
            (if message.is_empty() { "syntax error".to_owned() } else { message }, None)
        })?;
        let native = program.expression().clone();
        let mut floats = native.clone();
        let mut variables = BTreeSet::new();
        walk(&mut floats, &mut variables, 0).map_err(|construct| {
            let hint = "write the cases out with `||` and `&&`, or use `in [...]`";
            (format!("{construct} is not supported"), Some(hint))
        })?;
        Ok((native, floats, variables))
    };
    std::thread::scope(|scope| {
        let parser = std::thread::Builder::new().stack_size(PARSER_STACK_BYTES).spawn_scoped(scope, parse);
        let parsed = parser.map_err(|error| (format!("no thread to parse on: {error}"), None))?.join();
        parsed.unwrap_or_else(|_| Err(("the parser gave up".to_owned(), None)))
    })
}

/// Collects variables, turns integer literals into floats, and refuses what could run for ever.
fn walk(node: &mut IdedExpr, variables: &mut BTreeSet<String>, depth: usize) -> Result<(), &'static str> {
    if depth == MAX_DEPTH {
        return Err("an expression nested deeper than 20 levels");
    }
    let depth = depth + 1;
    match &mut node.expr {
        Expr::Unspecified => {}
        Expr::Ident(name) => {
            variables.insert(name.trim_start_matches('.').to_owned());
        }
        Expr::Literal(literal) => {
            if let LiteralValue::Int(int) = literal {
                *literal = LiteralValue::Double(CelDouble::from(*int.inner() as f64));
            }
        }
        Expr::Call(call) => {
            for child in call.target.iter_mut().map(|target| &mut **target).chain(&mut call.args) {
                walk(child, variables, depth)?;
            }
        }
        Expr::List(list) => {
            for child in &mut list.elements {
                walk(child, variables, depth)?;
            }
        }
        Expr::Select(select) => walk(&mut select.operand, variables, depth)?,
        Expr::Comprehension(_) => return Err("a macro such as `exists` or `map`"),
        Expr::Map(_) => return Err("a map"),
        Expr::Struct(_) => return Err("a message"),
    }
    Ok(())
}

fn collect_paths<'a>(node: &'a IdedExpr, paths: &mut Vec<Vec<&'a str>>) {
    match &node.expr {
        Expr::Select(_) | Expr::Ident(_) => {
            let mut path = Vec::new();
            let mut inner = node;
            while let Expr::Select(select) = &inner.expr {
                path.push(select.field.as_str());
                inner = &select.operand;
            }
            match &inner.expr {
                Expr::Ident(name) => path.push(name.as_str()),
                _ => collect_paths(inner, paths),
            }
            path.reverse();
            paths.push(path);
        }
        Expr::Call(call) => {
            for child in call.target.iter().map(|target| &**target).chain(&call.args) {
                collect_paths(child, paths);
            }
        }
        Expr::List(list) => list.elements.iter().for_each(|child| collect_paths(child, paths)),
        Expr::Unspecified | Expr::Literal(_) | Expr::Comprehension(_) | Expr::Map(_) | Expr::Struct(_) => {}
    }
}
