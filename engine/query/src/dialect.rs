//! The SQL dialect: PostgreSQL's, with DuckDB's conveniences and pgvector's operators.
//!
//! ```sql
//! FROM packages SELECT * EXCLUDE (embedding) ORDER BY embedding <=> $1 LIMIT 3;
//! ```
//!
//! `<->`, `<=>`, `<#>`, `<+>`, `<~>` and `<%>` bind as pgvector's operators do in PostgreSQL: tighter than
//! comparisons, looser than `+` and `-`.

use std::any::TypeId;

use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

/// PostgreSQL's precedence of operators that it does not name itself.
const OTHER_OPERATOR: u8 = 70;

/// Triune's dialect for sqlparser.
#[derive(Debug, Default, Clone, Copy)]
pub struct TriuneDialect {}

const POSTGRES: PostgreSqlDialect = PostgreSqlDialect {};

macro_rules! as_postgres {
    ($($name:ident),* $(,)?) => { $(fn $name(&self) -> bool { POSTGRES.$name() })* };
}

macro_rules! yes {
    ($($name:ident),* $(,)?) => { $(fn $name(&self) -> bool { true })* };
}

impl Dialect for TriuneDialect {
    /// sqlparser asks in ninety places which dialect it is parsing: it is PostgreSQL's.
    fn dialect(&self) -> TypeId {
        TypeId::of::<PostgreSqlDialect>()
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        POSTGRES.identifier_quote_style(identifier)
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        POSTGRES.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        POSTGRES.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        POSTGRES.is_identifier_part(ch)
    }

    /// PostgreSQL's reserved words that would otherwise be read as columns where an expression is missing.
    fn is_reserved_for_identifier(&self, kw: Keyword) -> bool {
        matches!(
            kw,
            Keyword::AND
                | Keyword::FROM
                | Keyword::GROUP
                | Keyword::HAVING
                | Keyword::INTERSECT
                | Keyword::LIMIT
                | Keyword::ON
                | Keyword::OR
                | Keyword::ORDER
                | Keyword::SELECT
                | Keyword::THEN
                | Keyword::UNION
                | Keyword::WHEN
                | Keyword::WHERE
        ) || POSTGRES.is_reserved_for_identifier(kw)
    }

    fn is_custom_operator_part(&self, ch: char) -> bool {
        POSTGRES.is_custom_operator_part(ch)
    }

    fn prec_value(&self, prec: Precedence) -> u8 {
        POSTGRES.prec_value(prec)
    }

    fn get_next_precedence(&self, parser: &Parser<'_>) -> Option<Result<u8, ParserError>> {
        match parser.peek_token_ref().token {
            // sqlparser reads MySQL's NULL-safe equality here, which binds like `=`.
            Token::Spaceship => Some(Ok(OTHER_OPERATOR)),
            _ => POSTGRES.get_next_precedence(parser),
        }
    }

    fn parse_infix(
        &self,
        parser: &mut Parser<'_>,
        expr: &Expr,
        precedence: u8,
    ) -> Option<Result<Expr, ParserError>> {
        // sqlparser takes all that follows, `AND …` and `OR …` too, for the right side of these.
        const IS_DISTINCT: [Keyword; 3] = [Keyword::IS, Keyword::DISTINCT, Keyword::FROM];
        const IS_NOT_DISTINCT: [Keyword; 4] = [Keyword::IS, Keyword::NOT, Keyword::DISTINCT, Keyword::FROM];
        let made = if parser.parse_keywords(&IS_DISTINCT) {
            Expr::IsDistinctFrom
        } else if parser.parse_keywords(&IS_NOT_DISTINCT) {
            Expr::IsNotDistinctFrom
        } else {
            return POSTGRES.parse_infix(parser, expr, precedence);
        };
        let right = parser.parse_subexpr(POSTGRES.prec_value(Precedence::Is));
        Some(right.map(|right| made(Box::new(expr.clone()), Box::new(right))))
    }

    as_postgres!(
        allow_extract_custom,
        allow_extract_single_quotes,
        supports_alter_column_type_using,
        supports_array_typedef_with_brackets,
        supports_bitwise_shift_operators,
        supports_comma_separated_trim,
        supports_comment_on,
        supports_create_index_with_clause,
        supports_create_table_like_parenthesized,
        supports_empty_projections,
        supports_factorial_operator,
        supports_filter_during_aggregation,
        supports_geometric_types,
        supports_group_by_expr,
        supports_insert_table_alias,
        supports_interval_options,
        supports_nested_comments,
        supports_notnull_operator,
        supports_numeric_literal_underscores,
        supports_set_names,
        supports_string_escape_constant,
        supports_unicode_string_literal,
    );

    yes!(
        support_map_literal_syntax,
        supports_dictionary_syntax,
        supports_from_first_select,
        supports_from_trailing_commas,
        supports_named_fn_args_with_assignment_operator,
        supports_order_by_all,
        supports_projection_trailing_commas,
        supports_column_definition_trailing_commas,
        supports_select_wildcard_exclude,
        supports_select_wildcard_except,
        supports_select_wildcard_replace,
        supports_table_versioning,
        supports_trailing_commas,
    );
}
