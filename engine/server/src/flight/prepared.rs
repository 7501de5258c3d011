//! Prepared statements: described when they are made, run with rows of parameters.
//!
//! ```text
//!  CreatePreparedStatement ─▶ handle, columns, parameters        nothing is run
//!  DoPut PreparedStatementQuery   + rows of parameters ─▶ bound   then GetFlightInfo, DoGet
//!  DoPut PreparedStatementUpdate  + rows of parameters ─▶ run once for each row, all or none
//! ```

use arrow::datatypes::Schema;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::sql::server::PeekableFlightDataStream;
use arrow_flight::sql::{ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult};
use arrow_flight::{FlightDescriptor, FlightInfo, IpcMessage, SchemaAsIpc, Ticket};
use bytes::Bytes;
use datafusion::common::ScalarValue;
use futures::{StreamExt, TryStreamExt};
use tonic::{Request, Response, Status};
use triune_common::{Error, ErrorKind};
use triune_query::{Described, Params, number_marks};

use super::gate::Caller;
use super::run::{self, Handle, Place};
use super::service::{DoGet, FlightSql};
use crate::sessions::PreparedStatement;
use crate::status;
use crate::stream::{self, plain_schema};

/// Rows of parameters of one call; more is work for ingest.
const MOST_ROWS: usize = 1_000_000;

fn ipc(schema: &Schema) -> Result<Bytes, Status> {
    let options = IpcWriteOptions::default();
    let message: Result<IpcMessage, _> = SchemaAsIpc::new(schema, &options).try_into();
    message.map(|m| m.0).map_err(|e| status::of_error(e.into()))
}

impl FlightSql {
    pub(super) async fn prepare(
        &self,
        query: ActionCreatePreparedStatementRequest,
        caller: &Caller,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let transaction = run::transaction_id(query.transaction_id.as_ref())?;
        let sql = number_marks(&query.query).into_owned();
        let described = {
            let place = Place::of(caller, transaction.as_deref())?;
            let _turn = place.turn().await;
            place.session().describe(&sql).await.map_err(status::of_error)?
        };
        let dataset_schema = ipc(&plain_schema(&described.columns))?;
        let parameter_schema = ipc(&plain_schema(&described.parameters))?;
        let statement = PreparedStatement { sql, described, transaction, bound: Default::default() };
        let handle = caller.session.keep_statement(statement)?;
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: handle.into(),
            dataset_schema,
            parameter_schema,
        })
    }

    pub(super) async fn bind(
        &self,
        handle: &[u8],
        request: Request<PeekableFlightDataStream>,
    ) -> Result<(), Status> {
        let statement = Self::caller(&request)?.session.statement(handle)?;
        let rows = parameters(&statement.described, request.into_inner()).await?;
        *statement.bound.lock() = rows;
        Ok(())
    }

    pub(super) async fn prepared_update(
        &self,
        handle: &[u8],
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let caller = Self::caller(&request)?;
        let statement = caller.session.statement(handle)?;
        let given = parameters(&statement.described, request.into_inner()).await?;
        let bound = if given.is_empty() { statement.bound.lock().clone() } else { given };
        let place = Place::of_prepared(&caller, &statement)?;
        let results = run::run(&caller, &place, &statement.sql, &bound).await?;
        Ok(run::as_count(run::count(results).await?))
    }

    pub(super) async fn prepared_info(
        &self,
        handle: &Bytes,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let caller = Self::caller(&request)?;
        let statement = caller.session.statement(handle)?;
        let place = Place::of_prepared(&caller, &statement)?;
        let bound = statement.bound.lock().clone();
        let results = run::run(&caller, &place, &statement.sql, &bound).await?;
        let handle = Handle {
            id: self.new_id(),
            sql: statement.sql.clone(),
            transaction: statement.transaction.clone(),
            done: false,
            prepared: std::str::from_utf8(handle).ok().map(str::to_owned),
        };
        run::hand_out(&caller, handle, results, request.into_inner()).await
    }

    /// `DoGet` with the command itself, as some clients do it.
    pub(super) async fn prepared_rows(&self, handle: &[u8], request: Request<Ticket>) -> DoGet {
        let caller = Self::caller(&request)?;
        let statement = caller.session.statement(handle)?;
        let place = Place::of_prepared(&caller, &statement)?;
        let bound = statement.bound.lock().clone();
        let results = run::run(&caller, &place, &statement.sql, &bound).await?;
        let schema = results.first().map(|r| plain_schema(&r.schema())).unwrap_or_else(run::no_columns);
        let running = caller.session.run(&self.new_id());
        let rows = stream::rows(results, &schema, caller.limit, running);
        Ok(Response::new(stream::encode(&schema, rows, caller.compression)?))
    }
}

/// The rows of a stream, each as the values of one run.
async fn parameters(described: &Described, data: PeekableFlightDataStream) -> Result<Vec<Params>, Status> {
    let names: Vec<String> =
        described.parameters.fields().iter().map(|f| f.name().trim_start_matches('$').to_owned()).collect();
    let named = names.iter().any(|n| n.parse::<usize>().is_err());
    // Some clients send the command in a message of its own, without a schema, where there are no parameters.
    let data = data
        .try_filter(|message| std::future::ready(!message.data_header.is_empty()))
        .map_err(|status| FlightError::Tonic(Box::new(status)));
    let mut batches = FlightRecordBatchStream::new_from_flight_data(data);
    let mut rows = Vec::new();
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(status::of_flight)?;
        if batch.num_columns() == 0 {
            continue;
        }
        if batch.num_columns() != names.len() {
            return Err(status::invalid(format!(
                "the statement has {} parameters, a row of {} values is given",
                names.len(),
                batch.num_columns()
            )));
        }
        if rows.len() + batch.num_rows() > MOST_ROWS {
            let error = Error::new(ErrorKind::Resources, format!("more than {MOST_ROWS} rows of parameters"));
            return Err(status::of_error(error.with_hint("CommandStatementIngest takes any number of rows")));
        }
        for row in 0..batch.num_rows() {
            let values = batch.columns().iter().map(|c| ScalarValue::try_from_array(c, row));
            let values = values.collect::<Result<Vec<_>, _>>().map_err(|e| status::of_error(e.into()))?;
            rows.push(if named {
                Params::Named(names.iter().cloned().zip(values).collect())
            } else {
                Params::Positional(values)
            });
        }
    }
    Ok(rows)
}
