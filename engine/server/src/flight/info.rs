//! `GetSqlInfo`: what the server can do. Drivers of BI tools fail where a value is missing, so all are there.

use std::collections::{BTreeSet, HashMap};

use arrow::array::RecordBatch;
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{
    SqlInfo as I, SqlNullOrdering, SqlOuterJoinsSupportLevel, SqlSupportedCaseSensitivity,
    SqlSupportedGroupBy, SqlSupportedSubqueries, SqlSupportedTransaction, SqlSupportedUnions,
    SqlSupportsConvert, SqlTransactionIsolationLevel, SupportedSqlGrammar,
};
use triune_common::{Error, Result};
use triune_query::{FunctionKind, Session};

/// Words that SQL:2003 does not have and names cannot be without quotes.
const KEYWORDS: &[&str] = &[
    "ANALYSE",
    "ANALYZE",
    "ILIKE",
    "LIMIT",
    "OFFSET",
    "QUALIFY",
    "RETURNING",
    "PIVOT",
    "UNPIVOT",
    "VERBOSE",
];

pub(super) fn batch(wanted: &[u32], session: &Session) -> Result<RecordBatch> {
    let failed = |e: &dyn std::fmt::Display| Error::internal(format!("the server's description: {e}"));
    let data = all(session).map_err(|e| failed(&e))?;
    data.record_batch(wanted.iter().copied()).map_err(|e| failed(&e))
}

fn words(set: &BTreeSet<String>) -> Vec<String> {
    set.iter().cloned().collect()
}

fn bits(flags: impl IntoIterator<Item = i32>) -> i32 {
    flags.into_iter().fold(0, |bits, flag| bits | 1 << flag)
}

/// Functions by what they are about.
#[derive(Default)]
struct Functions {
    numeric: BTreeSet<String>,
    text: BTreeSet<String>,
    time: BTreeSet<String>,
    system: BTreeSet<String>,
}

fn functions(session: &Session) -> Functions {
    const NUMERIC: &[&str] = &[
        "abs",
        "acos",
        "acosh",
        "asin",
        "asinh",
        "atan",
        "atan2",
        "atanh",
        "cbrt",
        "ceil",
        "cos",
        "cosh",
        "cot",
        "degrees",
        "exp",
        "factorial",
        "floor",
        "gcd",
        "lcm",
        "ln",
        "log",
        "log10",
        "log2",
        "pi",
        "power",
        "radians",
        "random",
        "round",
        "signum",
        "sin",
        "sinh",
        "sqrt",
        "tan",
        "tanh",
        "trunc",
    ];
    const TIME: &[&str] = &[
        "current_date",
        "current_time",
        "current_timestamp",
        "date_bin",
        "date_part",
        "date_trunc",
        "from_unixtime",
        "make_date",
        "now",
        "time_bucket",
        "to_char",
        "to_date",
        "to_timestamp",
    ];
    const SYSTEM: &[&str] = &["arrow_typeof", "coalesce", "nullif", "uuid", "version"];
    const TEXT: &[&str] = &[
        "ascii",
        "bit_length",
        "btrim",
        "char_length",
        "character_length",
        "chr",
        "concat",
        "concat_ws",
        "contains",
        "ends_with",
        "initcap",
        "left",
        "length",
        "levenshtein",
        "lower",
        "lpad",
        "ltrim",
        "md5",
        "octet_length",
        "overlay",
        "position",
        "regexp_like",
        "regexp_match",
        "regexp_replace",
        "repeat",
        "replace",
        "reverse",
        "right",
        "rpad",
        "rtrim",
        "sha256",
        "split_part",
        "starts_with",
        "strpos",
        "substr",
        "substring",
        "to_hex",
        "translate",
        "trim",
        "upper",
    ];
    let mut found = Functions::default();
    for function in session.functions() {
        if function.kind != FunctionKind::Scalar {
            continue;
        }
        let name = function.name.as_str();
        let place = if NUMERIC.contains(&name) {
            &mut found.numeric
        } else if TIME.contains(&name) {
            &mut found.time
        } else if SYSTEM.contains(&name) {
            &mut found.system
        } else if TEXT.contains(&name) {
            &mut found.text
        } else {
            continue;
        };
        place.insert(function.name.to_uppercase());
    }
    found
}

fn all(session: &Session) -> std::result::Result<SqlInfoData, arrow_flight::error::FlightError> {
    let mut b = SqlInfoDataBuilder::new();
    let functions = functions(session);
    b.append(I::FlightSqlServerName, "Triune");
    b.append(I::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    b.append(I::FlightSqlServerArrowVersion, "1.3");
    b.append(I::FlightSqlServerReadOnly, false);
    b.append(I::FlightSqlServerSql, true);
    b.append(I::FlightSqlServerSubstrait, false);
    b.append(I::FlightSqlServerSubstraitMinVersion, "");
    b.append(I::FlightSqlServerSubstraitMaxVersion, "");
    b.append(I::FlightSqlServerTransaction, SqlSupportedTransaction::Savepoint as i32);
    b.append(I::FlightSqlServerCancel, true);
    b.append(I::FlightSqlServerBulkIngestion, true);
    b.append(I::FlightSqlServerIngestTransactionsSupported, true);
    b.append(I::FlightSqlServerStatementTimeout, 0_i32);
    b.append(I::FlightSqlServerTransactionTimeout, 0_i32);
    // Which definitions there are.
    b.append(I::SqlDdlCatalog, false);
    b.append(I::SqlDdlSchema, true);
    b.append(I::SqlDdlTable, true);
    // Names without quotes are folded to lower case; quoted ones are as they are.
    b.append(I::SqlIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32);
    b.append(I::SqlIdentifierQuoteChar, "\"");
    // The protocol's values for quoted names go beyond the enumeration: "as they are" is not among them.
    b.append(
        I::SqlQuotedIdentifierCase,
        SqlSupportedCaseSensitivity::SqlCaseSensitivityCaseInsensitive as i32,
    );
    b.append(I::SqlAllTablesAreSelectable, true);
    b.append(I::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedHigh as i32);
    b.append(I::SqlKeywords, KEYWORDS);
    b.append(I::SqlNumericFunctions, words(&functions.numeric));
    b.append(I::SqlStringFunctions, words(&functions.text));
    b.append(I::SqlSystemFunctions, words(&functions.system));
    b.append(I::SqlDatetimeFunctions, words(&functions.time));
    b.append(I::SqlSearchStringEscape, "\\");
    b.append(I::SqlExtraNameCharacters, "");
    b.append(I::SqlSupportsColumnAliasing, true);
    b.append(I::SqlNullPlusNullIsNull, true);
    b.append(I::SqlSupportsConvert, conversions());
    b.append(I::SqlSupportsTableCorrelationNames, true);
    b.append(I::SqlSupportsDifferentTableCorrelationNames, false);
    b.append(I::SqlSupportsExpressionsInOrderBy, true);
    b.append(I::SqlSupportsOrderByUnrelated, true);
    b.append(
        I::SqlSupportedGroupBy,
        bits([
            SqlSupportedGroupBy::SqlGroupByUnrelated as i32,
            SqlSupportedGroupBy::SqlGroupByBeyondSelect as i32,
        ]),
    );
    b.append(I::SqlSupportsLikeEscapeClause, true);
    b.append(I::SqlSupportsNonNullableColumns, true);
    b.append(
        I::SqlSupportedGrammar,
        bits([SupportedSqlGrammar::SqlMinimumGrammar as i32, SupportedSqlGrammar::SqlCoreGrammar as i32]),
    );
    // Entry level.
    b.append(I::SqlAnsi92SupportedLevel, 1_i32);
    b.append(I::SqlSupportsIntegrityEnhancementFacility, false);
    b.append(I::SqlOuterJoinsSupportLevel, bits([SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32]));
    b.append(I::SqlSchemaTerm, "schema");
    b.append(I::SqlProcedureTerm, "procedure");
    b.append(I::SqlCatalogTerm, "catalog");
    b.append(I::SqlCatalogAtStart, true);
    // In index definitions, privileges, procedure calls: none; a schema can be named wherever a table can.
    b.append(I::SqlSchemasSupportedActions, 0_i32);
    b.append(I::SqlCatalogsSupportedActions, 0_i32);
    b.append(I::SqlSupportedPositionedCommands, 0_i32);
    b.append(I::SqlSelectForUpdateSupported, false);
    b.append(I::SqlStoredProceduresSupported, false);
    b.append(
        I::SqlSupportedSubqueries,
        bits([
            SqlSupportedSubqueries::SqlSubqueriesInComparisons as i32,
            SqlSupportedSubqueries::SqlSubqueriesInExists as i32,
            SqlSupportedSubqueries::SqlSubqueriesInIns as i32,
        ]),
    );
    b.append(I::SqlCorrelatedSubqueriesSupported, true);
    b.append(
        I::SqlSupportedUnions,
        bits([SqlSupportedUnions::SqlUnion as i32, SqlSupportedUnions::SqlUnionAll as i32]),
    );
    // No limit that anybody knows of is 0.
    for unlimited in [
        I::SqlMaxBinaryLiteralLength,
        I::SqlMaxCharLiteralLength,
        I::SqlMaxColumnNameLength,
        I::SqlMaxColumnsInGroupBy,
        I::SqlMaxColumnsInIndex,
        I::SqlMaxColumnsInOrderBy,
        I::SqlMaxColumnsInSelect,
        I::SqlMaxColumnsInTable,
        I::SqlMaxConnections,
        I::SqlMaxCursorNameLength,
        I::SqlMaxIndexLength,
        I::SqlDbSchemaNameLength,
        I::SqlMaxProcedureNameLength,
        I::SqlMaxCatalogNameLength,
        I::SqlMaxRowSize,
        I::SqlMaxStatementLength,
        I::SqlMaxStatements,
        I::SqlMaxTableNameLength,
        I::SqlMaxTablesInSelect,
        I::SqlMaxUsernameLength,
    ] {
        b.append(unlimited, 0_i64);
    }
    b.append(I::SqlMaxRowSizeIncludesBlobs, true);
    b.append(
        I::SqlDefaultTransactionIsolation,
        i64::from(SqlTransactionIsolationLevel::SqlTransactionRepeatableRead as i32),
    );
    b.append(I::SqlTransactionsSupported, true);
    b.append(
        I::SqlSupportedTransactionsIsolationLevels,
        bits([SqlTransactionIsolationLevel::SqlTransactionRepeatableRead as i32]),
    );
    // A definition is refused within a transaction, which is neither of the two.
    b.append(I::SqlDataDefinitionCausesTransactionCommit, false);
    b.append(I::SqlDataDefinitionsInTransactionsIgnored, false);
    b.append(I::SqlSupportedResultSetTypes, bits([1]));
    for none in [
        I::SqlSupportedConcurrenciesForResultSetUnspecified,
        I::SqlSupportedConcurrenciesForResultSetScrollSensitive,
        I::SqlSupportedConcurrenciesForResultSetScrollInsensitive,
    ] {
        b.append(none, 0_i32);
    }
    b.append(I::SqlSupportedConcurrenciesForResultSetForwardOnly, bits([1]));
    b.append(I::SqlBatchUpdatesSupported, true);
    b.append(I::SqlSavepointsSupported, true);
    b.append(I::SqlNamedParametersSupported, true);
    b.append(I::SqlLocatorsUpdateCopy, false);
    b.append(I::SqlStoredFunctionsUsingCallSyntaxSupported, false);
    b.build()
}

/// Which types CAST turns into which.
fn conversions() -> HashMap<i32, Vec<i32>> {
    use SqlSupportsConvert as C;
    let numbers = [
        C::SqlConvertBigint,
        C::SqlConvertDecimal,
        C::SqlConvertFloat,
        C::SqlConvertInteger,
        C::SqlConvertReal,
        C::SqlConvertSmallint,
        C::SqlConvertTinyint,
        C::SqlConvertVarchar,
    ];
    let mut map: HashMap<i32, Vec<i32>> =
        numbers.iter().map(|n| (*n as i32, numbers.iter().map(|m| *m as i32).collect())).collect();
    let times = [C::SqlConvertDate, C::SqlConvertTimestamp, C::SqlConvertVarchar].map(|c| c as i32);
    map.insert(C::SqlConvertDate as i32, times.to_vec());
    map.insert(C::SqlConvertTimestamp as i32, times.to_vec());
    let text = map.entry(C::SqlConvertVarchar as i32).or_default();
    text.extend([C::SqlConvertDate as i32, C::SqlConvertTimestamp as i32, C::SqlConvertTime as i32]);
    map
}
