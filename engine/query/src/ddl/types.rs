//! Types of columns: from SQL's words to what the storage keeps.
//!
//! | SQL | kept as |
//! |---|---|
//! | `TEXT`, `VARCHAR`, `CHAR(n)` | Utf8; a length becomes a CHECK |
//! | `UUID` | Utf8 in the form `a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11` |
//! | `JSON`, `JSONB` | Utf8, checked to be JSON, otherwise as written |
//! | `SERIAL`, `BIGSERIAL` | INTEGER, BIGINT with an identity |
//! | `UTINYINT`, `USMALLINT`, `UINTEGER`, `UBIGINT` | whole numbers without a sign |
//! | `HUGEINT` | DECIMAL(38, 0) |
//! | `T[]`, `STRUCT`, `VECTOR(n)` | List (items nullable), Struct, FixedSizeList |
//! | everything else | DataFusion's type |
//!
//! Limits: intervals and maps are not kept. a text that is compared with a UUID column may have any spelling.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{self, ArrayElemTypeDef, DataType as SqlType};
use triune_common::{Error, Result};
use triune_vector::types::VectorType;

use crate::parser;
use crate::session::SessionCore;
use crate::statement::Statement;

/// Where a field says that its texts are more than texts.
pub(crate) const NAMED: &str = "triune:type";

/// Texts with a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Named {
    Uuid,
    Json,
}

impl Named {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Uuid => "UUID",
            Self::Json => "JSON",
        }
    }

    fn of_sql(sql: &SqlType) -> Option<Self> {
        match sql {
            SqlType::Uuid => Some(Self::Uuid),
            SqlType::JSON | SqlType::JSONB => Some(Self::Json),
            _ => None,
        }
    }
}

/// The form that a field's texts have.
pub(crate) fn named(field: &Field) -> Option<Named> {
    match field.metadata().get(NAMED).map(String::as_str) {
        Some("UUID") => Some(Named::Uuid),
        Some("JSON") => Some(Named::Json),
        _ => None,
    }
}

/// Which integer a `SERIAL` is.
pub(crate) fn serial(sql: &SqlType) -> Option<SqlType> {
    let SqlType::Custom(name, modifiers) = sql else { return None };
    if !modifiers.is_empty() {
        return None;
    }
    match name.to_string().to_ascii_lowercase().as_str() {
        "serial" | "serial4" => Some(SqlType::Integer(None)),
        "bigserial" | "serial8" => Some(SqlType::BigInt(None)),
        "smallserial" | "serial2" => Some(SqlType::SmallInt(None)),
        _ => None,
    }
}

/// The most characters that a text type allows.
pub(crate) fn longest(sql: &SqlType) -> Option<u64> {
    let length = match sql {
        SqlType::Varchar(l) | SqlType::CharacterVarying(l) | SqlType::Char(l) | SqlType::Character(l) => l,
        SqlType::Nvarchar(l) | SqlType::CharVarying(l) => l,
        _ => return None,
    };
    match length {
        Some(ast::CharacterLength::IntegerLength { length, .. }) => Some(*length),
        _ => None,
    }
}

/// The field that a declared column is kept as, nullable.
pub(crate) async fn declared(core: &Arc<SessionCore>, column: &ast::ColumnDef) -> Result<Field> {
    let name = parser::normalize(&column.name);
    let sql_type = serial(&column.data_type).unwrap_or_else(|| column.data_type.clone());
    if let Some(form) = Named::of_sql(&sql_type) {
        let metadata = [(NAMED.to_owned(), form.label().to_owned())];
        return Ok(Field::new(name, DataType::Utf8, true).with_metadata(metadata.into()));
    }
    if matches!(sql_type, SqlType::Unspecified) {
        return Err(Error::invalid(format!("the column \"{name}\" has no type")));
    }
    let Statement::Sql(mut statement) = parser::parse_one("CREATE TABLE declared (c INT)")? else {
        return Err(Error::internal("CREATE TABLE"));
    };
    if let ast::Statement::CreateTable(table) = statement.as_mut()
        && let Some(column) = table.columns.first_mut()
    {
        column.data_type = plain(&sql_type)?;
    }
    let planned = core.state().statement_to_plan(DfStatement::Statement(statement)).await;
    let plan = planned.map_err(|e| {
        let e = Error::from(e);
        Error::new(e.kind(), format!("the column \"{name}\": {}", e.message()))
    })?;
    let field = plan.inputs().first().and_then(|input| input.schema().fields().first().cloned());
    let field = field.ok_or_else(|| Error::internal("a CREATE TABLE without columns"))?;
    stored(&Field::clone(&field).with_name(name).with_nullable(true))
}

/// A type in DataFusion's words. Named texts within lists are plain texts; structs are read out of the modifiers that
/// the parser made of their fields.
pub(crate) fn plain(sql: &SqlType) -> Result<SqlType> {
    Ok(match sql {
        SqlType::Uuid | SqlType::JSON | SqlType::JSONB => SqlType::Text,
        SqlType::UTinyInt => SqlType::TinyIntUnsigned(None),
        SqlType::USmallInt => SqlType::SmallIntUnsigned(None),
        SqlType::UBigInt => SqlType::BigIntUnsigned(None),
        SqlType::Custom(name, of) if of.is_empty() && name.to_string().eq_ignore_ascii_case("uinteger") => {
            SqlType::IntUnsigned(None)
        }
        SqlType::HugeInt => SqlType::Decimal(ast::ExactNumberInfo::PrecisionAndScale(38, 0)),
        SqlType::Blob(_) | SqlType::Binary(_) | SqlType::Varbinary(_) => SqlType::Bytea,
        SqlType::Array(ArrayElemTypeDef::SquareBracket(item, size)) => {
            SqlType::Array(ArrayElemTypeDef::SquareBracket(Box::new(plain(item)?), *size))
        }
        SqlType::Array(ArrayElemTypeDef::AngleBracket(item)) => {
            SqlType::Array(ArrayElemTypeDef::AngleBracket(Box::new(plain(item)?)))
        }
        SqlType::Custom(name, fields) if is_struct(name) => {
            let field = |text: &String| {
                let (name, data_type) = parser::parse_field(text)?;
                Ok(ast::StructField { field_name: Some(name), field_type: plain(&data_type)?, options: None })
            };
            let fields = fields.iter().map(field).collect::<Result<Vec<_>>>()?;
            SqlType::Struct(fields, ast::StructBracketKind::Parentheses)
        }
        other => other.clone(),
    })
}

pub(crate) fn is_struct(name: &ast::ObjectName) -> bool {
    name.to_string().eq_ignore_ascii_case("struct")
}

/// A field in the types that the storage reads back as it wrote them.
///
/// Errors: unsupported for intervals, maps and unions.
pub(crate) fn stored(field: &Field) -> Result<Field> {
    if let Some(vector) = VectorType::from_field(field) {
        let metadata = field.metadata().clone();
        let kept = vector.field(field.name(), field.is_nullable());
        return Ok(if metadata.is_empty() { kept.with_metadata(metadata) } else { kept });
    }
    let data_type = stored_type(field.data_type()).map_err(|e| {
        Error::unsupported(format!("the column \"{}\": {}", field.name(), e.message()))
            .with_hint(e.hint().unwrap_or("keep it as TEXT"))
    })?;
    let kept = Field::new(field.name(), data_type, field.is_nullable());
    Ok(match named(field) {
        Some(form) => kept.with_metadata([(NAMED.to_owned(), form.label().to_owned())].into()),
        None => kept,
    })
}

fn stored_type(data_type: &DataType) -> Result<DataType> {
    use DataType as T;
    let item = |f: &FieldRef| -> Result<FieldRef> {
        Ok(Arc::new(Field::new("item", stored_type(f.data_type())?, true)))
    };
    Ok(match data_type {
        T::Utf8 | T::LargeUtf8 | T::Utf8View | T::Null => T::Utf8,
        T::Binary | T::LargeBinary | T::BinaryView => T::Binary,
        T::List(f) | T::LargeList(f) | T::ListView(f) | T::LargeListView(f) => T::List(item(f)?),
        T::FixedSizeList(f, n) => T::FixedSizeList(item(f)?, *n),
        T::Struct(fields) => {
            let fields =
                fields.iter().map(|f| Ok(Arc::new(stored(&f.as_ref().clone().with_nullable(true))?)));
            T::Struct(fields.collect::<Result<Fields>>()?)
        }
        T::Dictionary(_, value) => stored_type(value)?,
        T::RunEndEncoded(_, value) => stored_type(value.data_type())?,
        T::Decimal32(p, s) | T::Decimal64(p, s) => T::Decimal128(*p, *s),
        T::Interval(_) => {
            return Err(Error::unsupported("an INTERVAL cannot be kept in a table")
                .with_hint("keep a number of seconds, or two timestamps"));
        }
        T::Map(..) | T::Union(..) => {
            return Err(Error::unsupported("maps and unions cannot be kept in a table")
                .with_hint("keep a STRUCT, a list of structs, or JSON"));
        }
        other => other.clone(),
    })
}

/// Reads a UUID in any of the usual spellings: with or without hyphens, upper case, in braces.
pub(crate) fn normal_uuid(text: &str) -> Result<String> {
    let wrong = || {
        Error::invalid(format!("'{text}' is no UUID"))
            .with_hint("write it as a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
    };
    let trimmed = text.trim();
    let bare = trimmed.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(trimmed);
    let digits: String = bare.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
    if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    Ok(parts.join("-"))
}

pub(crate) fn check_json(text: &str) -> Result<()> {
    serde_json::from_str::<serde_json::Value>(text)
        .map(drop)
        .map_err(|e| Error::invalid(format!("'{text}' is no JSON: {e}")))
}

/// `to_uuid(text)` and `to_json(text)`: what casts to these types become.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    [Named::Uuid, Named::Json].map(|form| Arc::new(ScalarUDF::new_from_impl(ToNamed::new(form)))).to_vec()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ToNamed {
    form: Named,
    signature: Signature,
}

impl ToNamed {
    fn new(form: Named) -> Self {
        Self { form, signature: Signature::string(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for ToNamed {
    fn name(&self) -> &str {
        match self.form {
            Named::Uuid => "to_uuid",
            Named::Json => "to_json_text",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(
        &self,
        _args: datafusion::logical_expr::ReturnFieldArgs<'_>,
    ) -> DfResult<FieldRef> {
        let metadata = [(NAMED.to_owned(), self.form.label().to_owned())];
        Ok(Arc::new(Field::new(self.name(), DataType::Utf8, true).with_metadata(metadata.into())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let texts = cast(&arrays[0], &DataType::Utf8)?;
        let texts = texts.as_string::<i32>();
        let done: ArrayRef = match self.form {
            Named::Uuid => {
                let normal = texts.iter().map(|t| t.map(normal_uuid).transpose());
                Arc::new(normal.collect::<Result<StringArray>>()?)
            }
            Named::Json => {
                texts.iter().flatten().try_for_each(check_json)?;
                Arc::new(texts.clone())
            }
        };
        debug_assert_eq!(done.len(), texts.len());
        Ok(ColumnarValue::Array(done))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_read_in_their_usual_spellings() {
        let normal = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        for text in [normal, "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "{a0eebc999c0b4ef8bb6d6bb9bd380a11}"] {
            assert_eq!(normal_uuid(text).unwrap(), normal);
        }
        for text in ["", "a0eebc99", "g0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "äääääääääääääääää"]
        {
            assert!(normal_uuid(text).is_err(), "{text}");
        }
    }

    #[test]
    fn views_and_dictionaries_are_stored_plainly() {
        let list = DataType::List(Arc::new(Field::new("element", DataType::Utf8View, false)));
        let kept = stored(&Field::new("c", list, true)).unwrap();
        assert_eq!(*kept.data_type(), DataType::new_list(DataType::Utf8, true));
        let interval = DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano);
        assert!(stored(&Field::new("c", interval, true)).is_err());
    }
}
