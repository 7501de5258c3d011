//! The arguments of a call, by place and by name, each looked at as the statement has it.
//!
//! ```text
//! text_search(docs, 'solar', k => 5)        table, query │ k        the first few may come without a name
//! ```

use datafusion::sql::sqlparser::ast::{
    Array, BinaryOperator, Expr, FunctionArg, FunctionArgExpr, Spanned, Value, ValueWithSpan,
};
use triune_common::{Error, Position, Result, names::did_you_mean};

use super::args::normal;
use super::position_of;

/// What a function of `FROM` takes.
#[derive(Debug)]
pub(crate) struct Signature {
    pub(crate) name: &'static str,
    pub(crate) arguments: &'static [&'static str],
    /// How many of them, from the first, may come without a name.
    pub(crate) by_place: usize,
    /// How a call looks, for messages.
    pub(crate) usage: &'static str,
}

/// An argument as it was written, and where: its name if it has one, else itself, else the call.
pub(crate) type Argument = (Expr, Option<Position>);

/// The arguments of one call.
#[derive(Debug)]
pub(crate) struct Given {
    signature: &'static Signature,
    slots: Vec<Option<Argument>>,
    pub(crate) call: Option<Position>,
}

impl Given {
    /// Puts every argument into the slot of its name.
    ///
    /// # Errors
    /// `Invalid`, with a position: an argument that is unknown, there twice, or without a name where it needs one.
    pub(crate) fn sort(
        signature: &'static Signature,
        args: Vec<FunctionArg>,
        call: Option<Position>,
    ) -> Result<Self> {
        let function = signature.name;
        let slots = signature.arguments.iter().map(|_| None).collect();
        let mut given = Self { signature, slots, call };
        let mut named = false;
        for (index, arg) in args.into_iter().enumerate() {
            let (name, arg) = match arg {
                FunctionArg::Named { name, arg, .. } => (Some(name), arg),
                FunctionArg::ExprNamed { name: Expr::Identifier(name), arg, .. } => (Some(name), arg),
                FunctionArg::ExprNamed { name, .. } => {
                    return Err(Error::invalid(format!(
                        "{name} is not the name of an argument of {function}"
                    ))
                    .with_hint(given.accepted())
                    .at(position_of(name.span()).or(call)));
                }
                FunctionArg::Unnamed(arg) => (None, arg),
            };
            let FunctionArgExpr::Expr(expr) = arg else {
                return Err(Error::invalid(format!("an argument of {function} cannot be {arg}")).at(call));
            };
            let (slot, place) = match name {
                Some(name) => {
                    named = true;
                    let wanted = name.value.to_lowercase();
                    let place = position_of(name.span).or(call);
                    let slot = signature.arguments.iter().position(|a| *a == wanted).ok_or_else(|| {
                        let near = did_you_mean(&wanted, signature.arguments.iter().copied())
                            .map(|near| format!("did you mean {near}? "))
                            .unwrap_or_default();
                        Error::invalid(format!("{function} has no argument {}", name.value))
                            .with_hint(format!("{near}{}", given.accepted()))
                            .at(place)
                    })?;
                    (slot, place)
                }
                None => {
                    let place = position_of(expr.span()).or(call);
                    if let Some(name) = given.compared(&expr) {
                        return Err(Error::invalid(format!(
                            "{name} = … is a comparison, not a named argument"
                        ))
                        .with_hint(format!("write {name} => …"))
                        .at(place));
                    }
                    if named || index >= signature.by_place {
                        let first = signature.arguments[..signature.by_place].join(", ");
                        return Err(Error::invalid(format!(
                            "{function} takes {} by place ({first}), and {expr} has no name",
                            count(signature.by_place)
                        ))
                        .with_hint(given.accepted())
                        .at(place));
                    }
                    (index, place)
                }
            };
            if given.slots[slot].is_some() {
                return Err(Error::invalid(format!(
                    "{function} has its argument {} twice",
                    signature.arguments[slot]
                ))
                .at(place));
            }
            given.slots[slot] = Some((expr, place));
        }
        Ok(given)
    }

    fn accepted(&self) -> String {
        let Signature { arguments, by_place, .. } = self.signature;
        format!("named arguments are {}", arguments[*by_place..].join(", "))
    }

    /// `k = 10`, which PostgreSQL's dialect reads as a comparison with a column `k`.
    fn compared(&self, expr: &Expr) -> Option<&'static str> {
        let Expr::BinaryOp { left, op: BinaryOperator::Eq, .. } = expr else { return None };
        let Expr::Identifier(name) = left.as_ref() else { return None };
        self.signature.arguments.iter().find(|a| name.value.eq_ignore_ascii_case(a)).copied()
    }

    pub(crate) fn function(&self) -> &'static str {
        self.signature.name
    }

    /// Where an argument is, if it is there.
    pub(crate) fn place(&self, name: &str) -> Option<Position> {
        let slot = self.signature.arguments.iter().position(|a| *a == name)?;
        self.slots[slot].as_ref().and_then(|(_, place)| *place)
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<Argument> {
        self.signature.arguments.iter().position(|a| *a == name).and_then(|i| self.slots[i].take())
    }

    pub(crate) fn needed(&mut self, name: &str) -> Result<Argument> {
        let (function, usage, call) = (self.signature.name, self.signature.usage, self.call);
        self.take(name).ok_or_else(|| {
            Error::invalid(format!("{function} is missing its argument {name}"))
                .with_hint(format!("write {usage}"))
                .at(call)
        })
    }

    pub(crate) fn truth(&mut self, name: &str) -> Result<Option<bool>> {
        let Some((expr, place)) = self.take(name) else { return Ok(None) };
        match expr {
            Expr::Value(ValueWithSpan { value: Value::Boolean(b), .. }) => Ok(Some(b)),
            other => Err(wrong(name, &other, "true or false is", place)),
        }
    }

    /// A whole number of a range.
    pub(crate) fn count(&mut self, name: &str, range: std::ops::RangeInclusive<u32>) -> Result<Option<u32>> {
        let Some((expr, place)) = self.take(name) else { return Ok(None) };
        match whole(&expr).filter(|n| range.contains(n)) {
            Some(n) => Ok(Some(n)),
            None => {
                let (least, most) = range.into_inner();
                Err(wrong(name, &expr, &format!("a whole number from {least} to {most} is"), place))
            }
        }
    }

    /// A number from 0 to 1.
    pub(crate) fn share(&mut self, name: &str) -> Result<Option<f64>> {
        let Some((expr, place)) = self.take(name) else { return Ok(None) };
        match decimal(&expr).filter(|n| (0.0..=1.0).contains(n)) {
            Some(n) => Ok(Some(n)),
            None => Err(wrong(name, &expr, "a number from 0 to 1 is", place)),
        }
    }

    pub(crate) fn one_of(&mut self, name: &str, values: &[&str]) -> Result<Option<String>> {
        let Some((expr, place)) = self.take(name) else { return Ok(None) };
        let value = string(&expr).map(str::to_lowercase).filter(|v| values.contains(&v.as_str()));
        value.map(Some).ok_or_else(|| {
            let list: Vec<_> = values.iter().map(|v| format!("'{v}'")).collect();
            let near = string(&expr)
                .and_then(|text| did_you_mean(&text.to_lowercase(), values.iter().copied()))
                .map(|near| format!("did you mean '{near}'? "))
                .unwrap_or_default();
            wrong(name, &expr, &format!("{near}one of {} is", list.join(", ")), place)
        })
    }

    /// The name of a column or a list of names, as a catalog has them.
    pub(crate) fn columns(&mut self, name: &str, example: &str) -> Result<Option<Vec<String>>> {
        let Some((expr, place)) = self.take(name) else { return Ok(None) };
        let accepted = format!("the name of a column or a list of them, {example}, is");
        columns(&expr).map(Some).ok_or_else(|| wrong(name, &expr, &accepted, place))
    }
}

fn count(n: usize) -> String {
    match n {
        1 => "one argument".to_owned(),
        2 => "two arguments".to_owned(),
        3 => "three arguments".to_owned(),
        n => format!("{n} arguments"),
    }
}

pub(crate) fn wrong(name: &str, value: &Expr, accepted: &str, place: Option<Position>) -> Error {
    Error::invalid(format!("{name} => {value} is not accepted")).with_hint(accepted.to_owned()).at(place)
}

pub(crate) fn string(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => Some(text),
        _ => None,
    }
}

pub(crate) fn whole(expr: &Expr) -> Option<u32> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::Number(digits, _), .. }) => digits.parse().ok(),
        _ => None,
    }
}

pub(crate) fn decimal(expr: &Expr) -> Option<f64> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::Number(digits, _), .. }) => {
            digits.parse().ok().filter(|n: &f64| n.is_finite())
        }
        _ => None,
    }
}

/// The members of `[a, b]`, `ARRAY[a, b]` or `(a, b)`; one without brackets is a list too.
pub(crate) fn list(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::Array(Array { elem, .. }) => elem.iter().collect(),
        Expr::Tuple(elem) => elem.iter().collect(),
        Expr::Nested(inner) => list(inner),
        one => vec![one],
    }
}

fn columns(expr: &Expr) -> Option<Vec<String>> {
    let column = |expr: &Expr| {
        match expr {
            Expr::Identifier(ident) => Some(normal(ident)),
            Expr::CompoundIdentifier(idents) => idents.last().map(normal),
            other => string(other).map(str::to_owned),
        }
        .filter(|name| !name.is_empty())
    };
    let names: Option<Vec<String>> = list(expr).into_iter().map(column).collect();
    names.filter(|n| !n.is_empty())
}
