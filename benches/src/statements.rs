//! The statements that are timed, in each engine's words.
//!
//! `{f}` stands for the folder of the data; Triune and DataFusion take the query vector as `$1`, DuckDB as the
//! variable `q`, which its planner folds to a constant as well.

/// Who runs a text, over what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Triune,
    DuckDb,
    DataFusion,
}

impl Engine {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Triune => "Triune",
            Self::DuckDb => "DuckDB",
            Self::DataFusion => "DataFusion",
        }
    }
}

/// One way to answer a statement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lane {
    pub(crate) engine: Engine,
    /// Where its data lies: `Parquet`, `Lance`, `own table`.
    pub(crate) source: &'static str,
    pub(crate) sql: &'static str,
}

/// What must agree between the answers of the lanes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Agreement {
    /// The same rows in the same order, numbers up to this fraction of their size, column by column; a missing
    /// column must be equal.
    Rows(&'static [f64]),
    /// The same ids in any order: distances that differ in the last bit change places.
    Ids,
}

/// One question, asked of several engines. The first lane is the one that ratios are taken to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    pub(crate) name: &'static str,
    pub(crate) agreement: Agreement,
    pub(crate) lanes: &'static [Lane],
}

const fn triune(source: &'static str, sql: &'static str) -> Lane {
    Lane { engine: Engine::Triune, source, sql }
}

const fn duckdb(source: &'static str, sql: &'static str) -> Lane {
    Lane { engine: Engine::DuckDb, source, sql }
}

const fn datafusion(sql: &'static str) -> Lane {
    Lane { engine: Engine::DataFusion, source: "Parquet", sql }
}

/// Sums and averages are taken in another order.
const ALMOST: f64 = 1e-9;
/// DataFusion cuts the weight between two neighbours to six digits.
const SIX_DIGITS: f64 = 1e-6;
/// Two sketches of one distribution, of a handful of events an hour: they interpolate differently.
const SKETCHED: f64 = 0.5;

macro_rules! one_plan {
    ($docs:literal, $events:literal, $bucket:literal, $percentile:literal) => {
        concat!(
            "SELECT ",
            $bucket,
            " AS hour, count(*) AS n, avg(e.latency_ms) AS mean, ",
            $percentile,
            " AS p95 ",
            "FROM ",
            $docs,
            " AS d JOIN ",
            $events,
            " AS e ON e.doc_id = d.id ",
            "WHERE e.ts >= TIMESTAMP '2026-10-23 00:00:00' GROUP BY 1 ORDER BY 1"
        )
    };
}

macro_rules! triune_one_plan {
    ($docs:literal, $percentile:literal) => {
        one_plan!($docs, "'{f}/events.parquet'", "time_bucket('1 hour', e.ts)", $percentile)
    };
}

macro_rules! duckdb_one_plan {
    ($percentile:literal) => {
        one_plan!(
            "(SELECT id FROM docs WHERE lang = 'en' ORDER BY array_cosine_distance(embedding, getvariable('q')) LIMIT 100)",
            "events",
            "time_bucket(INTERVAL '1 hour', e.ts)",
            $percentile
        )
    };
}

/// See the module's page; `bench run` times the lanes of Triune, `bench compare` all of them.
pub(crate) const QUESTIONS: &[Question] = &[
    Question {
        name: "select_1",
        agreement: Agreement::Rows(&[]),
        lanes: &[
            triune("none", "SELECT 1"),
            duckdb("none", "SELECT 1"),
            Lane { engine: Engine::DataFusion, source: "none", sql: "SELECT 1" },
        ],
    },
    Question {
        name: "exact_top10",
        agreement: Agreement::Ids,
        lanes: &[
            triune("Parquet", "SELECT id FROM '{f}/docs.parquet' ORDER BY embedding <=> $1 LIMIT 10"),
            triune("Lance", "SELECT id FROM '{f}/docs.lance' ORDER BY embedding <=> $1 LIMIT 10"),
            duckdb(
                "Parquet",
                "SELECT id FROM '{f}/docs.parquet' \
                 ORDER BY array_cosine_distance(embedding::FLOAT[384], getvariable('q')) LIMIT 10",
            ),
            duckdb(
                "own table",
                "SELECT id FROM docs ORDER BY array_cosine_distance(embedding, getvariable('q')) LIMIT 10",
            ),
            datafusion("SELECT id FROM docs ORDER BY cosine_distance(embedding, $1) LIMIT 10"),
        ],
    },
    Question {
        name: "filtered_top10",
        agreement: Agreement::Ids,
        lanes: &[
            triune(
                "Parquet",
                "SELECT id FROM vector_search('{f}/docs.parquet', embedding, $1, k => 10) WHERE lang = 'de'",
            ),
            triune(
                "Lance",
                "SELECT id FROM vector_search('{f}/docs.lance', embedding, $1, k => 10) WHERE lang = 'de'",
            ),
            duckdb(
                "Parquet",
                "SELECT id FROM '{f}/docs.parquet' WHERE lang = 'de' \
                 ORDER BY array_cosine_distance(embedding::FLOAT[384], getvariable('q')) LIMIT 10",
            ),
            duckdb(
                "own table",
                "SELECT id FROM docs WHERE lang = 'de' \
                 ORDER BY array_cosine_distance(embedding, getvariable('q')) LIMIT 10",
            ),
            datafusion(
                "SELECT id FROM docs WHERE lang = 'de' ORDER BY cosine_distance(embedding, $1) LIMIT 10",
            ),
        ],
    },
    Question {
        name: "one_plan",
        agreement: Agreement::Rows(&[0.0, 0.0, ALMOST, SKETCHED]),
        lanes: &[
            triune(
                "Parquet",
                triune_one_plan!(
                    "(SELECT id FROM vector_search('{f}/docs.parquet', embedding, $1, k => 100) WHERE lang = 'en')",
                    "approx_percentile_cont(0.95) WITHIN GROUP (ORDER BY e.latency_ms)"
                ),
            ),
            triune(
                "Lance + Parquet",
                triune_one_plan!(
                    "(SELECT id FROM vector_search('{f}/docs.lance', embedding, $1, k => 100) WHERE lang = 'en')",
                    "approx_percentile_cont(0.95) WITHIN GROUP (ORDER BY e.latency_ms)"
                ),
            ),
            duckdb("own table", duckdb_one_plan!("approx_quantile(e.latency_ms, 0.95)")),
            datafusion(one_plan!(
                "(SELECT id FROM docs WHERE lang = 'en' ORDER BY cosine_distance(embedding, $1) LIMIT 100)",
                "events",
                "date_bin(INTERVAL '1 hour', e.ts)",
                "approx_percentile_cont(0.95) WITHIN GROUP (ORDER BY e.latency_ms)"
            )),
        ],
    },
    Question {
        name: "one_plan_exact_percentile",
        agreement: Agreement::Rows(&[0.0, 0.0, ALMOST, SIX_DIGITS]),
        lanes: &[
            triune(
                "Parquet",
                triune_one_plan!(
                    "(SELECT id FROM vector_search('{f}/docs.parquet', embedding, $1, k => 100) WHERE lang = 'en')",
                    "percentile_cont(0.95) WITHIN GROUP (ORDER BY e.latency_ms)"
                ),
            ),
            duckdb("own table", duckdb_one_plan!("quantile_cont(e.latency_ms, 0.95)")),
        ],
    },
];
