//! Values for `$1`, `$2` … and `$name`.

use std::collections::HashMap;
use std::ops::ControlFlow;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{self, Visit};
use triune_common::{Error, Result};

use crate::visit;
use triune_vector::types::VectorType;

/// Parameters of one execution.
#[derive(Debug, Clone, Default)]
pub enum Params {
    #[default]
    None,
    /// `$1` is the first.
    Positional(Vec<ScalarValue>),
    /// `$name`, without the `$`.
    Named(HashMap<String, ScalarValue>),
}

impl Params {
    pub fn is_empty(&self) -> bool {
        match self {
            Self::None => true,
            Self::Positional(values) => values.is_empty(),
            Self::Named(values) => values.is_empty(),
        }
    }
}

/// Puts values in place of a plan's parameters, cast to the types that the plan inferred.
///
/// Too few, too many and wrongly typed values are errors that name the parameter.
pub(crate) fn bind(plan: LogicalPlan, params: &Params) -> Result<LogicalPlan> {
    let wanted = plan.get_parameter_fields()?;
    if wanted.is_empty() && params.is_empty() {
        return Ok(plan);
    }
    let values = match params {
        Params::None => return bind(plan, &Params::Positional(vec![])),
        Params::Positional(values) => positional(&wanted, values)?,
        Params::Named(values) => named(&wanted, values)?,
    };
    Ok(plan.replace_params_with_values(&values)?)
}

/// [`bind`] for one of several plans that a statement is made of: values that this one does not use are passed over.
/// What the statement as a whole uses is for [`check`].
pub(crate) fn bind_part(plan: LogicalPlan, params: &Params) -> Result<LogicalPlan> {
    let wanted = plan.get_parameter_fields()?;
    if wanted.is_empty() {
        return Ok(plan);
    }
    match params {
        Params::None => bind(plan, params),
        Params::Positional(values) => {
            let number = |name: &String| name.trim_start_matches('$').parse::<usize>().ok();
            let highest = wanted.keys().filter_map(number).max().unwrap_or(0);
            bind(plan, &Params::Positional(values[..highest.min(values.len())].to_vec()))
        }
        Params::Named(values) => {
            let used = values.iter().filter(|(k, _)| wanted.contains_key(&format!("${k}")));
            bind(plan, &Params::Named(used.map(|(k, v)| (k.clone(), v.clone())).collect()))
        }
    }
}

/// Compares the parameters that stand in a statement's tree with those given.
pub(crate) fn check<V: Visit>(statement: &V, params: &Params) -> Result<()> {
    if fits(statement, params) {
        return Ok(());
    }
    let mut wanted = Wanted::new();
    let _ = visit::expressions(statement, |expr| {
        if let ast::Expr::Value(value) = expr
            && let ast::Value::Placeholder(name) = &value.value
        {
            wanted.insert(name.clone(), None);
        }
        ControlFlow::<()>::Continue(())
    });
    match params {
        Params::None => positional(&wanted, &[]).map(drop),
        Params::Positional(values) => positional(&wanted, values).map(drop),
        Params::Named(values) => named(&wanted, values).map(drop),
    }
}

/// Whether the values are clearly those that the statement asks for; nothing is copied to find out.
fn fits<V: Visit>(statement: &V, params: &Params) -> bool {
    let given = match params {
        Params::None => 0,
        Params::Positional(values) => values.len(),
        Params::Named(_) => return false,
    };
    let mut highest = 0;
    let strange = visit::expressions(statement, |expr| {
        if let ast::Expr::Value(value) = expr
            && let ast::Value::Placeholder(name) = &value.value
        {
            match name.trim_start_matches('$').parse::<usize>() {
                Ok(number) if number > 0 => highest = highest.max(number),
                _ => return ControlFlow::Break(()),
            }
        }
        ControlFlow::Continue(())
    });
    strange.is_continue() && highest == given
}

/// The parameters that a tree still asks for, when values have taken the places of some.
pub(crate) fn used<V: Visit>(tree: &V, params: Params) -> Params {
    let mut names = std::collections::HashSet::new();
    let _ = visit::expressions(tree, |expr| {
        if let ast::Expr::Value(value) = expr
            && let ast::Value::Placeholder(name) = &value.value
        {
            names.insert(name.trim_start_matches('$').to_owned());
        }
        ControlFlow::<()>::Continue(())
    });
    match params {
        Params::None => Params::None,
        Params::Positional(mut values) => {
            let highest = names.iter().filter_map(|n| n.parse::<usize>().ok()).max().unwrap_or(0);
            values.truncate(highest);
            Params::Positional(values)
        }
        Params::Named(mut values) => {
            values.retain(|name, _| names.contains(name));
            Params::Named(values)
        }
    }
}

/// The value of a parameter by the name in the statement (`$1`, `$name`); [`check`] says what is missing.
pub(crate) fn value<'a>(params: &'a Params, name: &str) -> Option<&'a ScalarValue> {
    let bare = name.trim_start_matches('$');
    match params {
        Params::None => None,
        Params::Positional(values) => values.get(bare.parse::<usize>().ok()?.checked_sub(1)?),
        Params::Named(values) => values.get(bare),
    }
}

type Wanted = HashMap<String, Option<FieldRef>>;

fn positional(wanted: &Wanted, values: &[ScalarValue]) -> Result<ParamValues> {
    let mut highest = 0;
    for name in wanted.keys() {
        let number = name.trim_start_matches('$').parse::<usize>().map_err(|_| {
            Error::invalid(format!("the parameter {name} is named, the values are given by position"))
        })?;
        highest = highest.max(number);
        if number == 0 || number > values.len() {
            return Err(Error::invalid(format!(
                "the parameter {name} has no value, {} given",
                count(values.len())
            )));
        }
    }
    if values.len() > highest {
        return Err(Error::invalid(format!(
            "{} given, the statement has {}",
            count(values.len()),
            if highest == 0 { "no parameters".to_owned() } else { format!("parameters up to ${highest}") }
        )));
    }
    let cast = values
        .iter()
        .enumerate()
        .map(|(i, value)| {
            let name = format!("${}", i + 1);
            cast(&name, value, wanted.get(&name).and_then(Option::as_ref)).map(Into::into)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(ParamValues::List(cast))
}

fn named(wanted: &Wanted, values: &HashMap<String, ScalarValue>) -> Result<ParamValues> {
    let mut cast_values = HashMap::new();
    for (name, field) in wanted {
        let bare = name.trim_start_matches('$');
        let Some(value) = values.get(bare) else {
            let near = triune_common::names::did_you_mean(bare, values.keys().map(String::as_str));
            let error = Error::invalid(format!("the parameter {name} has no value"));
            return Err(match near {
                Some(near) => error.with_hint(format!("did you mean ${near}?")),
                None => error,
            });
        };
        cast_values.insert(bare.to_owned(), cast(name, value, field.as_ref())?.into());
    }
    if let Some(extra) = values.keys().find(|k| !wanted.contains_key(&format!("${k}"))) {
        return Err(Error::invalid(format!("the statement has no parameter ${extra}")));
    }
    Ok(ParamValues::Map(cast_values))
}

fn count(n: usize) -> String {
    if n == 1 { "1 value is".to_owned() } else { format!("{n} values are") }
}

/// A value in the type that the statement expects of it.
pub(crate) fn cast(name: &str, value: &ScalarValue, wanted: Option<&FieldRef>) -> Result<ScalarValue> {
    // NULL as the wanted type: nothing around the parameter says what it is.
    let Some(field) = wanted.filter(|f| *f.data_type() != DataType::Null) else { return Ok(value.clone()) };
    if value.data_type() == *field.data_type() {
        return Ok(value.clone());
    }
    let vector = VectorType::from_field(field).or_else(|| VectorType::from_data_type(field.data_type()));
    let done = match vector {
        Some(vector) => triune_vector::types::scalar_to_vector(value, vector),
        None => value.cast_to(field.data_type()).map_err(Error::from),
    };
    done.map_err(|e| Error::invalid(format!("the parameter {name}: {}", e.message())))
}
