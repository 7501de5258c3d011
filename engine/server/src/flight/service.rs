//! The messages of the protocol, each to its place.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::EndTransaction;
use arrow_flight::sql::server::{DoPutError, FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionBeginSavepointRequest, ActionBeginSavepointResult, ActionBeginTransactionRequest,
    ActionBeginTransactionResult, ActionCancelQueryRequest, ActionCancelQueryResult,
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
    ActionCreatePreparedStatementResult, ActionCreatePreparedSubstraitPlanRequest, ActionEndSavepointRequest,
    ActionEndTransactionRequest, Any, Command, CommandGetCatalogs, CommandGetCrossReference,
    CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys, CommandGetPrimaryKeys,
    CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo,
    CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementIngest,
    CommandStatementQuery, CommandStatementSubstraitPlan, CommandStatementUpdate,
    DoPutPreparedStatementResult, ProstMessageExt, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{Action, ActionType, FlightData, FlightDescriptor, FlightInfo, Ticket};
use futures::stream::BoxStream;
use prost::Message;
use tonic::{Request, Response, Status};
use triune_common::{Error, Result as EngineResult};
use triune_query::{Database, number_marks};

use super::gate::Caller;
use super::run::{self, Handle, Place};
use super::{catalog, info, ingest, session_actions, types};
use crate::sessions::Sessions;
use crate::status;
use crate::stream::{self, plain_schema};

pub(super) type DoGet = Result<Response<BoxStream<'static, Result<FlightData, Status>>>, Status>;
type Info = Result<Response<FlightInfo>, Status>;

/// The service behind the [gate](super::gate).
#[derive(Debug)]
pub(super) struct FlightSql {
    pub(super) database: Arc<Database>,
    pub(super) sessions: Arc<Sessions>,
}

impl FlightSql {
    pub(super) fn new(database: Arc<Database>, sessions: Arc<Sessions>) -> Self {
        Self { database, sessions }
    }

    pub(super) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        caller.ok_or_else(|| Status::internal("a request without a session (SQLSTATE XX000)"))
    }

    /// A list of the catalog's: its ticket is its command, which some drivers insist on.
    fn list(command: &impl ProstMessageExt, schema: &SchemaRef, request: Request<FlightDescriptor>) -> Info {
        run::info(schema, command.as_any().encode_to_vec(), request.into_inner(), -1)
    }

    fn give(batch: EngineResult<arrow::array::RecordBatch>, caller: &Caller) -> DoGet {
        let batch = batch.map_err(status::of_error)?;
        let schema = batch.schema();
        let batches = Box::pin(futures::stream::iter([Ok(batch)]));
        Ok(Response::new(stream::encode(&schema, batches, caller.compression)?))
    }

    /// `GetSchema`: the columns of a statement that is not run, or of a list.
    pub(super) async fn schema_of(&self, request: Request<FlightDescriptor>) -> Result<SchemaRef, Status> {
        let any = Any::decode(request.get_ref().cmd.as_ref())
            .map_err(|_| status::invalid("the command cannot be read"))?;
        let command = Command::try_from(any)
            .map_err(|e| status::invalid(format!("the command cannot be read: {e}")))?;
        let caller = Self::caller(&request)?;
        match command {
            Command::CommandStatementQuery(query) => {
                let transaction = run::transaction_id(query.transaction_id.as_ref())?;
                let place = Place::of(&caller, transaction.as_deref())?;
                let _turn = place.turn().await;
                let described = place.session().describe(&number_marks(&query.query)).await;
                Ok(plain_schema(&described.map_err(status::of_error)?.columns))
            }
            Command::CommandPreparedStatementQuery(query) => {
                let statement = caller.session.statement(&query.prepared_statement_handle)?;
                Ok(plain_schema(&statement.described.columns))
            }
            // The lists answer with their schema without looking anything up.
            _ => {
                let info = FlightService::get_flight_info(self, request).await?.into_inner();
                let schema = info.try_decode_schema().map_err(|e| status::of_error(e.into()))?;
                Ok(Arc::new(schema))
            }
        }
    }
}

fn no_substrait() -> Status {
    status::of_error(Error::unsupported("Substrait plans are not supported").with_hint("send SQL"))
}

#[tonic::async_trait]
impl FlightSqlService for FlightSql {
    type FlightService = Self;

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Info {
        let caller = Self::caller(&request)?;
        let transaction = run::transaction_id(query.transaction_id.as_ref())?;
        let place = Place::of(&caller, transaction.as_deref())?;
        let sql = number_marks(&query.query).into_owned();
        let results = run::run(&caller, &place, &sql, &[]).await?;
        let handle = Handle { id: self.new_id(), sql, transaction, done: false, prepared: None };
        run::hand_out(&caller, handle, results, request.into_inner()).await
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Info {
        self.prepared_info(&query.prepared_statement_handle, request).await
    }

    async fn get_flight_info_substrait_plan(
        &self,
        _: CommandStatementSubstraitPlan,
        _: Request<FlightDescriptor>,
    ) -> Info {
        Err(no_substrait())
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Info {
        Self::list(&query, &catalog::catalogs_schema(), request)
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Info {
        let schema = query.clone().into_builder().schema();
        Self::list(&query, &schema, request)
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Info {
        let schema = query.clone().into_builder().schema();
        Self::list(&query, &schema, request)
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Info {
        Self::list(&query, &query.into_builder().schema(), request)
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Info {
        let schema = Arc::new(arrow_flight::sql::metadata::SqlInfoDataBuilder::schema().clone());
        Self::list(&query, &schema, request)
    }

    async fn get_flight_info_primary_keys(
        &self,
        query: CommandGetPrimaryKeys,
        request: Request<FlightDescriptor>,
    ) -> Info {
        Self::list(&query, &catalog::primary_keys_schema(), request)
    }

    async fn get_flight_info_exported_keys(
        &self,
        query: CommandGetExportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Info {
        Self::list(&query, &catalog::foreign_keys_schema(), request)
    }

    async fn get_flight_info_imported_keys(
        &self,
        query: CommandGetImportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Info {
        Self::list(&query, &catalog::foreign_keys_schema(), request)
    }

    async fn get_flight_info_cross_reference(
        &self,
        query: CommandGetCrossReference,
        request: Request<FlightDescriptor>,
    ) -> Info {
        Self::list(&query, &catalog::foreign_keys_schema(), request)
    }

    async fn get_flight_info_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        request: Request<FlightDescriptor>,
    ) -> Info {
        let schema = types::batch(None).map_err(status::of_error)?.schema();
        Self::list(&query, &schema, request)
    }

    async fn get_flight_info_fallback(&self, command: Command, _: Request<FlightDescriptor>) -> Info {
        Err(status::of_error(Error::unsupported(format!("{} describes no flight", command.type_url()))))
    }

    async fn do_get_statement(&self, ticket: TicketStatementQuery, request: Request<Ticket>) -> DoGet {
        self.fetch(&ticket, &request).await
    }

    async fn do_get_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<Ticket>,
    ) -> DoGet {
        self.prepared_rows(&query.prepared_statement_handle, request).await
    }

    async fn do_get_catalogs(&self, _: CommandGetCatalogs, request: Request<Ticket>) -> DoGet {
        Self::give(catalog::catalogs(), &Self::caller(&request)?)
    }

    async fn do_get_schemas(&self, query: CommandGetDbSchemas, request: Request<Ticket>) -> DoGet {
        let caller = Self::caller(&request)?;
        Self::give(catalog::schemas(query, &caller.session.session), &caller)
    }

    async fn do_get_tables(&self, query: CommandGetTables, request: Request<Ticket>) -> DoGet {
        let caller = Self::caller(&request)?;
        Self::give(catalog::tables(query, &caller.session.session).await, &caller)
    }

    async fn do_get_table_types(&self, query: CommandGetTableTypes, request: Request<Ticket>) -> DoGet {
        Self::give(catalog::table_types(query), &Self::caller(&request)?)
    }

    async fn do_get_sql_info(&self, query: CommandGetSqlInfo, request: Request<Ticket>) -> DoGet {
        let caller = Self::caller(&request)?;
        Self::give(info::batch(&query.info, &caller.session.session), &caller)
    }

    async fn do_get_primary_keys(&self, query: CommandGetPrimaryKeys, request: Request<Ticket>) -> DoGet {
        let caller = Self::caller(&request)?;
        Self::give(catalog::primary_keys(&query, &caller.session.session).await, &caller)
    }

    async fn do_get_exported_keys(&self, _: CommandGetExportedKeys, request: Request<Ticket>) -> DoGet {
        Self::give(Ok(catalog::no_foreign_keys()), &Self::caller(&request)?)
    }

    async fn do_get_imported_keys(&self, _: CommandGetImportedKeys, request: Request<Ticket>) -> DoGet {
        Self::give(Ok(catalog::no_foreign_keys()), &Self::caller(&request)?)
    }

    async fn do_get_cross_reference(&self, _: CommandGetCrossReference, request: Request<Ticket>) -> DoGet {
        Self::give(Ok(catalog::no_foreign_keys()), &Self::caller(&request)?)
    }

    async fn do_get_xdbc_type_info(&self, query: CommandGetXdbcTypeInfo, request: Request<Ticket>) -> DoGet {
        Self::give(types::batch(query.data_type), &Self::caller(&request)?)
    }

    async fn do_get_fallback(&self, _: Request<Ticket>, message: Any) -> DoGet {
        Err(status::invalid(format!("the ticket is of a kind that is not known: {:.100}", message.type_url)))
    }

    async fn do_put_statement_update(
        &self,
        update: CommandStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let caller = Self::caller(&request)?;
        let transaction = run::transaction_id(update.transaction_id.as_ref())?;
        let place = Place::of(&caller, transaction.as_deref())?;
        let results = run::run(&caller, &place, &number_marks(&update.query), &[]).await?;
        Ok(run::as_count(run::count(results).await?))
    }

    async fn do_put_statement_ingest(
        &self,
        command: CommandStatementIngest,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let caller = Self::caller(&request)?;
        let name = format!("__ingest_{}", self.new_id());
        ingest::run(&caller, command, request.into_inner(), name).await
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        self.bind(&query.prepared_statement_handle, request).await?;
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(query.prepared_statement_handle) })
    }

    async fn do_put_prepared_statement_update(
        &self,
        query: CommandPreparedStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        self.prepared_update(&query.prepared_statement_handle, request).await
    }

    async fn do_put_substrait_plan(
        &self,
        _: CommandStatementSubstraitPlan,
        _: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        Err(no_substrait())
    }

    async fn do_put_error_callback(
        &self,
        _: Request<PeekableFlightDataStream>,
        error: DoPutError,
    ) -> Result<Response<<Self as FlightService>::DoPutStream>, Status> {
        Err(status::invalid(format!("DoPut without a command: {error}")))
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        self.prepare(query, &Self::caller(&request)?).await
    }

    async fn do_action_close_prepared_statement(
        &self,
        query: ActionClosePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<(), Status> {
        // Closing twice is no mistake: drivers do.
        Self::caller(&request)?.session.drop_statement(&query.prepared_statement_handle);
        Ok(())
    }

    async fn do_action_create_prepared_substrait_plan(
        &self,
        _: ActionCreatePreparedSubstraitPlanRequest,
        _: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        Err(no_substrait())
    }

    async fn do_action_begin_transaction(
        &self,
        _: ActionBeginTransactionRequest,
        request: Request<Action>,
    ) -> Result<ActionBeginTransactionResult, Status> {
        let id = Self::caller(&request)?.session.begin().await?;
        Ok(ActionBeginTransactionResult { transaction_id: id.into() })
    }

    async fn do_action_end_transaction(
        &self,
        query: ActionEndTransactionRequest,
        request: Request<Action>,
    ) -> Result<(), Status> {
        let caller = Self::caller(&request)?;
        let sql = match EndTransaction::try_from(query.action) {
            Ok(EndTransaction::Commit) => "COMMIT",
            Ok(EndTransaction::Rollback) => "ROLLBACK",
            _ => return Err(status::invalid("a transaction ends by COMMIT or ROLLBACK")),
        };
        let id = run::transaction_id(Some(&query.transaction_id))?.unwrap_or_default();
        let open = caller.session.take_transaction(&id)?;
        let _turn = open.turn.lock().await;
        open.session.execute(sql).await.map(drop).map_err(status::of_error)
    }

    async fn do_action_begin_savepoint(
        &self,
        query: ActionBeginSavepointRequest,
        request: Request<Action>,
    ) -> Result<ActionBeginSavepointResult, Status> {
        let caller = Self::caller(&request)?;
        let id = run::transaction_id(Some(&query.transaction_id))?.unwrap_or_default();
        let open = caller.session.transaction(&id)?;
        let _turn = open.turn.lock().await;
        let name = format!("flight_{}", self.new_id());
        open.session.execute(&format!("SAVEPOINT {name}")).await.map_err(status::of_error)?;
        open.savepoints.lock().push(name.clone());
        Ok(ActionBeginSavepointResult { savepoint_id: format!("{id}:{name}").into() })
    }

    async fn do_action_end_savepoint(
        &self,
        query: ActionEndSavepointRequest,
        request: Request<Action>,
    ) -> Result<(), Status> {
        // The library does not export the request's enumeration.
        const RELEASE: i32 = 1;
        const ROLLBACK: i32 = 2;
        let caller = Self::caller(&request)?;
        let unknown = || status::not_found("the session has no savepoint of this id");
        let text = std::str::from_utf8(&query.savepoint_id).map_err(|_| unknown())?;
        let (id, name) = text.split_once(':').ok_or_else(unknown)?;
        let open = caller.session.transaction(id)?;
        let _turn = open.turn.lock().await;
        if !open.savepoints.lock().iter().any(|s| s == name) {
            return Err(unknown());
        }
        let sql = match query.action {
            RELEASE => format!("RELEASE SAVEPOINT {name}"),
            ROLLBACK => format!("ROLLBACK TO SAVEPOINT {name}"),
            _ => return Err(status::invalid("a savepoint ends by RELEASE or ROLLBACK")),
        };
        open.session.execute(&sql).await.map(drop).map_err(status::of_error)
    }

    async fn do_action_cancel_query(
        &self,
        query: ActionCancelQueryRequest,
        request: Request<Action>,
    ) -> Result<ActionCancelQueryResult, Status> {
        let caller = Self::caller(&request)?;
        let info = FlightInfo::decode(query.info.as_ref())
            .map_err(|_| status::invalid("the flight info cannot be read"))?;
        let status = session_actions::cancel(&caller, &info)?;
        Ok(ActionCancelQueryResult { result: status as i32 })
    }

    async fn do_action_fallback(
        &self,
        request: Request<Action>,
    ) -> Result<Response<<Self as FlightService>::DoActionStream>, Status> {
        let caller = Self::caller(&request)?;
        session_actions::run(self, &caller, request.get_ref()).await
    }

    async fn list_custom_actions(&self) -> Option<Vec<Result<ActionType, Status>>> {
        Some(session_actions::list().into_iter().map(Ok).collect())
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}
