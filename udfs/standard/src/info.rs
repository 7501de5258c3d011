//! ```sql
//! SELECT typeof(x), pg_typeof(x), version(), current_schema(), current_database();
//! ```
//!
//! `typeof` gives the name that DESCRIBE shows, `pg_typeof` PostgreSQL's name of the same type (`bigint`, `text`,
//! `timestamp without time zone`, `vector(3)`). `version` names Triune and the DataFusion beneath it. All arguments are
//! taken, NULL as well.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, ScalarValue, config::ConfigOptions};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// The SQL name of a column's type.
pub type NameOf = fn(&Field) -> String;

pub(crate) fn functions(name_of: NameOf) -> Vec<Arc<ScalarUDF>> {
    let types = [("typeof", false), ("pg_typeof", true)].map(|(name, postgres)| {
        let signature = Signature::any(1, Volatility::Immutable);
        ScalarUDF::new_from_impl(TypeOf { name, postgres, name_of, signature })
    });
    let words = Word::ALL.map(|word| {
        ScalarUDF::new_from_impl(Words {
            word,
            value: word.value(&ConfigOptions::default()),
            signature: Signature::nullary(Volatility::Stable),
            aliases: word.aliases(),
        })
    });
    types.into_iter().chain(words).map(Arc::new).collect()
}

#[derive(Debug)]
struct TypeOf {
    name: &'static str,
    postgres: bool,
    name_of: NameOf,
    signature: Signature,
}

impl PartialEq for TypeOf {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for TypeOf {}

impl Hash for TypeOf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for TypeOf {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let field = &args.arg_fields[0];
        let name = (self.name_of)(field);
        let name = if self.postgres { postgres_name(field.data_type(), &name) } else { name };
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(name))))
    }
}

/// PostgreSQL's name for the type that is called `name` here.
fn postgres_name(data_type: &DataType, name: &str) -> String {
    if let Some(item) = name.strip_suffix("[]")
        && let DataType::List(f) | DataType::LargeList(f) = data_type
    {
        return format!("{}[]", postgres_name(f.data_type(), item));
    }
    let (base, rest) = name.split_once('(').map_or((name, ""), |(base, rest)| (base, rest));
    let plain = match base {
        "TINYINT" | "SMALLINT" => "smallint",
        "INTEGER" => "integer",
        "BIGINT" => "bigint",
        "REAL" => "real",
        "DOUBLE" => "double precision",
        "VARCHAR" => "text",
        "BLOB" => "bytea",
        "DECIMAL" => "numeric",
        "TIMESTAMP" => "timestamp without time zone",
        "TIMESTAMPTZ" => "timestamp with time zone",
        "TIME" => "time without time zone",
        "DURATION" => "interval",
        "NULL" => "unknown",
        _ if rest.is_empty() => return base.to_lowercase(),
        _ => return name.to_lowercase(),
    };
    plain.to_owned()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Word {
    Version,
    Schema,
    Database,
}

impl Word {
    const ALL: [Self; 3] = [Self::Version, Self::Schema, Self::Database];

    fn aliases(self) -> Vec<String> {
        match self {
            Self::Database => vec!["current_catalog".to_owned()],
            _ => vec![],
        }
    }

    fn value(self, options: &ConfigOptions) -> String {
        match self {
            Self::Version => format!(
                "Triune {} (DataFusion {}, {})",
                env!("CARGO_PKG_VERSION"),
                datafusion::DATAFUSION_VERSION,
                std::env::consts::ARCH
            ),
            Self::Schema => options.catalog.default_schema.clone(),
            Self::Database => options.catalog.default_catalog.clone(),
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Words {
    word: Word,
    value: String,
    signature: Signature,
    aliases: Vec<String>,
}

impl ScalarUDFImpl for Words {
    fn name(&self) -> &str {
        match self.word {
            Word::Version => "version",
            Word::Schema => "current_schema",
            Word::Database => "current_database",
        }
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn with_updated_config(&self, options: &ConfigOptions) -> Option<ScalarUDF> {
        Some(ScalarUDF::new_from_impl(Self {
            word: self.word,
            value: self.word.value(options),
            signature: self.signature.clone(),
            aliases: self.aliases.clone(),
        }))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(self.value.clone()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_postgresql() {
        let list = DataType::new_list(DataType::Int64, true);
        assert_eq!(postgres_name(&DataType::Int64, "BIGINT"), "bigint");
        assert_eq!(postgres_name(&list, "BIGINT[]"), "bigint[]");
        assert_eq!(postgres_name(&DataType::Decimal128(10, 2), "DECIMAL(10,2)"), "numeric");
        assert_eq!(postgres_name(&DataType::Utf8, "UUID"), "uuid");
        assert_eq!(postgres_name(&DataType::Float64, "VECTOR(3)"), "vector(3)");
    }
}
