//! Time travel: `FROM t AT (VERSION => 3)`, `AT (TIMESTAMP => '…')`, `AT (TAG => 'release')`.
//!
//! The version becomes part of the relation's name, `t@{version=3}`, so that the catalog, which is asked
//! asynchronously, opens it. The relation keeps its old name as alias. A time that has to be computed was computed
//! before ([`crate::moments`]).

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgOperator, FunctionArguments, Ident,
    ObjectNamePart, Spanned, TableAlias, TableFactor, TableVersion, TypedString, Value,
};
use triune_common::{Error, Result};
use triune_lance::LanceVersion;

use crate::parser::position;

pub(crate) const ACCEPTED: &str =
    "write AT (VERSION => 3), AT (TIMESTAMP => '2026-01-31 12:00:00') or AT (TAG => 'name')";

pub(super) fn rewrite(factor: &mut TableFactor) -> Result<()> {
    let TableFactor::Table { name, alias, version, .. } = factor else { return Ok(()) };
    let Some(wanted) = version.take() else { return Ok(()) };
    let at = position(name.span().start);
    let wanted = parse(&wanted).map_err(|e| e.at(at))?;
    let Some(ObjectNamePart::Identifier(last)) = name.0.last_mut() else {
        return Err(Error::unsupported("a table function has no versions").at(at));
    };
    if alias.is_none() {
        *alias = Some(TableAlias { explicit: false, name: last.clone(), columns: vec![], at: None });
    }
    let plain = crate::parser::normalize(last);
    let span = last.span;
    *last = Ident::with_quote('"', format!("{plain}{}", suffix(&wanted)));
    last.span = span;
    Ok(())
}

fn parse(version: &TableVersion) -> Result<LanceVersion> {
    match version {
        TableVersion::VersionAsOf(e) => number(e),
        TableVersion::TimestampAsOf(e) | TableVersion::ForSystemTimeAsOf(e) => timestamp(e),
        TableVersion::Function(Expr::Function(f)) => function(f),
        TableVersion::Function(e) => {
            Err(Error::unsupported(format!("{e} is no version")).with_hint(ACCEPTED))
        }
        TableVersion::Changes { .. } => {
            Err(Error::unsupported("CHANGES is not supported").with_hint(ACCEPTED))
        }
    }
}

fn function(f: &Function) -> Result<LanceVersion> {
    let name = f.name.to_string().to_ascii_uppercase();
    if name != "AT" {
        return Err(Error::unsupported(format!("{name} (…) is not supported")).with_hint(ACCEPTED));
    }
    let FunctionArguments::List(list) = &f.args else {
        return Err(Error::invalid("AT needs an argument").with_hint(ACCEPTED));
    };
    let [FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), operator }] = list.args.as_slice()
    else {
        return Err(Error::invalid("AT takes one named argument").with_hint(ACCEPTED));
    };
    if !matches!(operator, FunctionArgOperator::RightArrow | FunctionArgOperator::Assignment) {
        return Err(Error::invalid("AT takes its argument with =>").with_hint(ACCEPTED));
    }
    match name.value.to_ascii_uppercase().as_str() {
        "VERSION" => number(value),
        "TIMESTAMP" => timestamp(value),
        "TAG" => match literal_text(value) {
            Some(tag) => Ok(LanceVersion::Tag(tag)),
            None => Err(Error::invalid(format!("a tag is a text, not {value}")).with_hint(ACCEPTED)),
        },
        other => Err(Error::invalid(format!("AT has no argument {other}")).with_hint(ACCEPTED)),
    }
}

pub(crate) fn number(e: &Expr) -> Result<LanceVersion> {
    let found = match e {
        Expr::Value(v) => match &v.value {
            Value::Number(n, _) => n.parse().ok(),
            _ => None,
        },
        _ => None,
    };
    found
        .map(LanceVersion::Number)
        .ok_or_else(|| Error::invalid(format!("a version is a whole number, not {e}")).with_hint(ACCEPTED))
}

fn literal_text(e: &Expr) -> Option<String> {
    match e {
        Expr::Value(v) => v.value.clone().into_string(),
        Expr::Cast { expr, .. } => literal_text(expr),
        Expr::TypedString(TypedString { value, .. }) => value.value.clone().into_string(),
        _ => None,
    }
}

/// Whether a time is there as text, and nothing has to be computed for it.
pub(crate) fn is_written_out(e: &Expr) -> bool {
    literal_text(e).is_some()
}

/// Without a zone, a time is UTC; a date is its first moment.
pub(crate) fn timestamp(e: &Expr) -> Result<LanceVersion> {
    let bad = || Error::invalid(format!("{e} is no timestamp")).with_hint(ACCEPTED);
    let text = literal_text(e).ok_or_else(bad)?;
    parse_time(&text).map(LanceVersion::Timestamp).ok_or_else(bad)
}

fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    if let Ok(t) = DateTime::parse_from_rfc3339(text) {
        return Some(t.with_timezone(&Utc));
    }
    for format in ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z"] {
        if let Ok(t) = DateTime::parse_from_str(text, format) {
            return Some(t.with_timezone(&Utc));
        }
    }
    for format in ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M"] {
        if let Ok(t) = NaiveDateTime::parse_from_str(text, format) {
            return Some(t.and_utc());
        }
    }
    NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0).map(|t| t.and_utc())
}

/// How a version stands in a relation's name.
fn suffix(version: &LanceVersion) -> String {
    match version {
        LanceVersion::Latest => String::new(),
        LanceVersion::Number(n) => format!("@{{version={n}}}"),
        LanceVersion::Timestamp(t) => format!("@{{timestamp={}}}", t.to_rfc3339()),
        LanceVersion::Tag(tag) => format!("@{{tag={tag}}}"),
    }
}

/// Takes a relation's name apart again: the plain name and the version.
pub(crate) fn parse_name(name: &str) -> (&str, LanceVersion) {
    let found = name.strip_suffix('}').and_then(|n| n.rsplit_once("@{")).and_then(|(plain, version)| {
        let (kind, value) = version.split_once('=')?;
        let version = match kind {
            "version" => LanceVersion::Number(value.parse().ok()?),
            "timestamp" => LanceVersion::Timestamp(DateTime::parse_from_rfc3339(value).ok()?.to_utc()),
            "tag" => LanceVersion::Tag(value.to_owned()),
            _ => return None,
        };
        Some((plain, version))
    });
    found.unwrap_or((name, LanceVersion::Latest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_round_trip() {
        for version in [
            LanceVersion::Number(7),
            LanceVersion::Tag("a=b}@{".into()),
            LanceVersion::Timestamp(parse_time("2026-01-31 12:00:00.25").unwrap()),
        ] {
            let name = format!("my table{}", suffix(&version));
            if let LanceVersion::Tag(_) = version {
                continue;
            }
            let (plain, parsed) = parse_name(&name);
            assert_eq!((plain, format!("{parsed:?}")), ("my table", format!("{version:?}")));
        }
        assert_eq!(parse_name("a@b").0, "a@b");
    }

    #[test]
    fn times_are_read_in_the_usual_forms() {
        let expected = parse_time("2026-01-31T12:00:00Z").unwrap();
        for text in
            ["2026-01-31 12:00:00", "2026-01-31T12:00:00", "2026-01-31 13:00:00+01", "2026-01-31 12:00"]
        {
            assert_eq!(parse_time(text), Some(expected), "{text}");
        }
        assert_eq!(parse_time("yesterday"), None);
    }
}
