//! What the demo says to the database.

use super::folder::DemoFolder;
use super::generate::END_SECONDS;

/// The query whose neighbours the demo looks for; it is one of `queries.parquet`.
pub(crate) const TOPIC: &str = "time series forecasting";

/// How many hours the last statement looks back.
pub(crate) const LAST_HOURS: i64 = 7 * 24;

/// A statement that makes something, and why.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) why: &'static str,
    /// What it makes; dropped first if an interrupted demo left it.
    pub(crate) makes: Option<&'static str>,
    pub(crate) sql: String,
}

/// A statement that asks something.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) title: &'static str,
    pub(crate) text: &'static str,
    pub(crate) sql: String,
    /// Whether it is drawn: hours in the first column, numbers in `downloads` and `p95_ms`.
    pub(crate) is_drawn: bool,
}

/// The statements that make the database.
pub(crate) fn setup(folder: &DemoFolder) -> Vec<Setup> {
    let path = |name| folder.sql_path(name);
    vec![
        Setup {
            why: "The packages become a Lance dataset; their embeddings, kept as 16-bit floats in the file, \
                  become vectors of 32-bit floats.",
            makes: None,
            sql: format!(
                "COPY (SELECT id, name, version, released, download_rank, summary,\n             \
                 embedding::VECTOR(384) AS embedding\n      FROM '{}')\nTO '{}'",
                path("packages.parquet"),
                path("packages.lance"),
            ),
        },
        Setup {
            why: "Two external tables: the Lance dataset, and the events as a folder of Parquet files.",
            makes: Some("packages"),
            sql: format!(
                "CREATE EXTERNAL TABLE packages STORED AS LANCE LOCATION '{}'",
                path("packages.lance")
            ),
        },
        Setup {
            why: "",
            makes: Some("events"),
            sql: format!("CREATE EXTERNAL TABLE events STORED AS PARQUET LOCATION '{}/'", path("events")),
        },
        Setup {
            why: "And a view: a few queries in plain words, embedded by the model that embedded the packages.",
            makes: Some("queries"),
            sql: format!(
                "CREATE VIEW queries AS\nSELECT id, query, embedding::VECTOR(384) AS embedding FROM '{}'",
                path("queries.parquet"),
            ),
        },
    ]
}

/// The statements that are shown with their results.
pub(crate) fn questions() -> Vec<Question> {
    let day = |days_before_end: i64| {
        let seconds = END_SECONDS - days_before_end * 86_400;
        chrono::DateTime::from_timestamp(seconds, 0)
            .map_or_else(String::new, |t| t.format("%Y-%m-%d").to_string())
    };
    let (week, two_weeks) = (day(7), day(14));
    vec![
        Question {
            title: "What is there",
            text: "Ninety days of downloads, with the packages that they are of.",
            sql: "SELECT count(*) AS downloads,\n       count(DISTINCT package_id) AS packages,\n       \
                  min(ts) AS first, max(ts) AS last,\n       round(sum(bytes) / 1e9, 1) AS gigabytes\nFROM events"
                .to_owned(),
            is_drawn: false,
        },
        Question {
            title: "Time series: the hours that are not like the others",
            text: "Every hour is compared with the median of the same hour of the same weekday. Something was broken \
                   on 29 October, and on 16 September somebody was very busy.",
            sql: "WITH hourly AS (\n  SELECT time_bucket('1 hour', ts) AS hour,\n         count(*) AS downloads,\n         \
                 round(avg(latency_ms), 1) AS avg_ms\n  FROM events\n  \
                 GROUP BY hour\n),\ncompared AS (\n  SELECT *, median(downloads) OVER (\n    \
                 PARTITION BY date_part('dow', hour), date_part('hour', hour)) AS usual\n  FROM hourly\n)\n\
                 SELECT hour, downloads, usual, round(100.0 * downloads / usual) AS percent, avg_ms\n\
                 FROM compared\nORDER BY abs(percent - 100) DESC, hour\nLIMIT 8"
                .to_owned(),
            is_drawn: false,
        },
        Question {
            title: "Vectors: packages that are about something",
            text: "The nearest neighbours of a query in plain words, among the packages released since 2024. The filter \
                   comes before the search: ten rows are found however selective it is.",
            sql: format!(
                "SELECT name, released, round(_distance, 3) AS distance, summary\n\
                 FROM vector_search(packages, embedding,\n       \
                 (SELECT embedding FROM queries WHERE query = '{TOPIC}'), k => 10)\n\
                 WHERE released >= DATE '2024-01-01'\nORDER BY _distance"
            ),
            is_drawn: false,
        },
        Question {
            title: "Joins: who gained most within a week",
            text: "Events of two weeks joined to the packages' metadata; last() tells where the latest download \
                   came from.",
            sql: format!(
                "SELECT p.name,\n       count(*) FILTER (WHERE e.ts >= TIMESTAMP '{week}') AS this_week,\n       \
                 count(*) FILTER (WHERE e.ts < TIMESTAMP '{week}') AS week_before,\n       \
                 last(e.country, e.ts) AS last_from,\n       last(e.installer, e.ts) AS last_by\n\
                 FROM events e JOIN packages p ON p.id = e.package_id\n\
                 WHERE e.ts >= TIMESTAMP '{two_weeks}'\nGROUP BY p.name\n\
                 ORDER BY this_week - week_before DESC, p.name\nLIMIT 8"
            ),
            is_drawn: false,
        },
        Question {
            title: "The one plan",
            text: "All of it in one statement: the hundred packages nearest to the query, of those released since \
                   2023, joined to their downloads of the last seven days, hour by hour, with the number, the average \
                   and the 95th percentile of the latency.",
            sql: format!(
                "WITH near AS (\n  SELECT id, name, _distance\n  FROM vector_search(packages, embedding,\n         \
                 (SELECT embedding FROM queries WHERE query = '{TOPIC}'), k => 100)\n  \
                 WHERE released >= DATE '2023-01-01'\n)\n\
                 SELECT time_bucket('1 hour', e.ts) AS hour,\n       count(*) AS downloads,\n       \
                 round(avg(e.latency_ms), 1) AS avg_ms,\n       \
                 round(percentile_cont(0.95) WITHIN GROUP (ORDER BY e.latency_ms), 1) AS p95_ms\n\
                 FROM near JOIN events e ON e.package_id = near.id\n\
                 WHERE e.ts >= TIMESTAMP '{week}'\nGROUP BY hour\nORDER BY hour"
            ),
            is_drawn: true,
        },
    ]
}
