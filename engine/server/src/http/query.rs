//! `POST /query`: a statement and its rows.
//!
//! ```text
//!  Asked ─ Session ─ QueryResult ─ first batch ─▶ 200 ─ task: batches → pieces ─ 2 wait ─▶ client
//! ```
//!
//! What goes wrong before the first rows are there has a status of its own. Afterwards the status has been sent: a JSON
//! answer ends with a member `error` in place of `row_count`, any other breaks the connection before its end.
//!
//! A client that reads slowly holds back the query; one that goes away cancels it.

use std::sync::Arc;

use arrow::array::RecordBatch;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use datafusion::common::runtime::SpawnedTask;
use serde_json::json;
use tokio::sync::mpsc;
use triune_common::{Error, ErrorKind, Result};
use triune_query::{QueryResult, Session, Tag};

use super::answer::{Failure, json_answer};
use super::app::App;
use super::input::Asked;
use super::output::Writer;
use super::who::Who;
use crate::stream::Limit;

/// The statement's number, to look at it and to cancel it.
const QUERY_ID: &str = "x-triune-query-id";
/// Pieces that wait for the connection.
const AHEAD: usize = 2;

type Piece = std::result::Result<Bytes, std::io::Error>;

pub(super) async fn run(
    State(app): State<Arc<App>>,
    who: Who,
    request: Request,
) -> std::result::Result<Response, Failure> {
    if app.is_stopping() {
        return Err(Error::new(ErrorKind::Unavailable, "the server is stopping").into());
    }
    let asked = Asked::read(request, app.options.message_limit).await?;
    let limit = Limit::new(asked.timeout, app.options.query_timeout);
    let session = app.database.session();
    session.set_principal(who.principal.clone());
    session.end_with_request();
    let mut result = within(limit, session.execute_with(&asked.sql, &asked.params)).await?;
    let id = result.id();
    let mut response = if let Tag::Command { name, rows } = result.tag() {
        json_answer(StatusCode::OK, &json!({ "id": id, "command": name, "rows_affected": rows }))
    } else {
        let first = within(limit, async { result.next().await.transpose() }).await?;
        let (writer, head) = Writer::start(asked.format, id, &result.schema())?;
        let body = body(Work { _session: session, result, writer, limit, _who: who }, head, first);
        let mut response = Response::new(body);
        let kind = HeaderValue::from_static(asked.format.media_type());
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    };
    if let Some(id) = id {
        response.headers_mut().insert(QUERY_ID, HeaderValue::from(id));
    }
    Ok(response)
}

async fn within<T>(limit: Limit, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        done = work => done,
        () = limit.over() => Err(timed_out()),
    }
}

fn timed_out() -> Error {
    Error::new(ErrorKind::Cancelled, "the statement took longer than its time limit")
}

/// What an answer is made from.
struct Work {
    /// Its temporary things live as long as the rows are read.
    _session: Session,
    result: QueryResult,
    writer: Writer,
    limit: Limit,
    _who: Who,
}

/// Rows as they come. The task ends with the body, whether all was read or nobody reads any more.
fn body(work: Work, head: Bytes, first: Option<RecordBatch>) -> Body {
    let (out, pieces) = mpsc::channel::<Piece>(AHEAD);
    let task = SpawnedTask::spawn(send(work, out, head, first));
    let stream = futures::stream::unfold((pieces, task), |(mut pieces, task)| async move {
        pieces.recv().await.map(|piece| (piece, (pieces, task)))
    });
    Body::from_stream(stream)
}

async fn send(mut work: Work, out: mpsc::Sender<Piece>, head: Bytes, first: Option<RecordBatch>) {
    let limit = work.limit;
    let sent = tokio::select! {
        biased;
        sent = send_all(&mut work, &out, head, first) => sent,
        () = limit.over() => Err(timed_out()),
    };
    if let Err(error) = sent {
        let last = match work.writer.broken(&error) {
            Some(piece) => Ok(piece),
            None => Err(std::io::Error::other(error)),
        };
        // What the statement holds is given back now, and not when a slow client has taken the last piece.
        drop(work);
        let _ = out.send(last).await;
    }
}

/// Sends everything; stops without an error when nobody reads any more.
async fn send_all(
    work: &mut Work,
    out: &mpsc::Sender<Piece>,
    head: Bytes,
    first: Option<RecordBatch>,
) -> Result<()> {
    if out.send(Ok(head)).await.is_err() {
        return Ok(());
    }
    let mut next = first;
    while let Some(batch) = next {
        for piece in work.writer.batch(&batch)? {
            if out.send(Ok(piece)).await.is_err() {
                return Ok(());
            }
        }
        next = work.result.next().await.transpose()?;
    }
    let end = work.writer.end()?;
    if !end.is_empty() {
        let _ = out.send(Ok(end)).await;
    }
    Ok(())
}
