//! A session: settings, temporary tables, prepared statements, and the way from text to rows.

pub(crate) mod build;
pub(crate) mod names;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{TableFunctionImpl, TableProvider};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::{DdlStatement, LogicalPlan, ScalarUDF, WriteOp};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast;
use futures::FutureExt;
use parking_lot::{Mutex, RwLock};
use triune_common::{Error, Result, boxed};

pub use names::{ColumnInfo, FunctionInfo, FunctionKind, Names, Relation, TableInfo};

use crate::catalog::DEFAULT_SCHEMA;
use crate::database::Database;
use crate::describe::{self, Described};
use crate::dml::RulesCache;
use crate::models::constants;
use crate::observe::{self, Started};
use crate::params::{self, Params};
use crate::prepass::labels::{self, ColumnNames};
use crate::principal::{self, Principal};
use crate::progress::ProgressHandle;
use crate::result::QueryResult;
use crate::statement::Statement;
use crate::transaction::{self, Work};
use crate::{commands, dml, errors, moments, parser, prepass, queries};

/// One user's conversation with a database. Cheap to make; clones are the same session.
#[derive(Debug, Clone)]
pub struct Session {
    core: Arc<SessionCore>,
}

/// A statement that `PREPARE` keeps: its tree, and the types that were declared for its parameters.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) statement: Statement,
    pub(crate) types: Vec<ast::DataType>,
}

/// Statements that will come again with other values.
#[derive(Debug, Default)]
struct Parsed {
    known: HashMap<String, Arc<Statement>>,
    /// Bytes of all the texts; a tree takes some forty times as many.
    bytes: usize,
}

/// What a session's parts share.
pub(crate) struct SessionCore {
    database: Arc<Database>,
    state: RwLock<SessionState>,
    temporary: Arc<RwLock<HashMap<String, Arc<dyn TableProvider>>>>,
    prepared: Arc<RwLock<HashMap<String, Prepared>>>,
    /// On whose behalf statements run; `None` is whoever has the database in their own process.
    principal: RwLock<Option<Principal>>,
    /// See [`Session::end_with_request`].
    one_request: AtomicBool,
    work: Work,
    /// The statement that was begun last, if it writes.
    started: Mutex<Weak<Started>>,
    rules: RulesCache,
    /// Trees of statements that came with parameters, by their text.
    parsed: Mutex<Parsed>,
}

impl std::fmt::Debug for SessionCore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionCore").field("database", &self.database.location()).finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) fn new(database: Arc<Database>) -> Self {
        Self::with_shared(database, Arc::default(), Arc::default(), None)
    }

    fn with_shared(
        database: Arc<Database>,
        temporary: Arc<RwLock<HashMap<String, Arc<dyn TableProvider>>>>,
        prepared: Arc<RwLock<HashMap<String, Prepared>>>,
        principal: Option<Principal>,
    ) -> Self {
        let core = Arc::new_cyclic(|core| SessionCore {
            state: RwLock::new(build::session_state(&database, Weak::clone(core))),
            database,
            temporary,
            prepared,
            principal: RwLock::new(principal),
            one_request: AtomicBool::new(false),
            work: Work::default(),
            started: Mutex::default(),
            rules: RulesCache::default(),
            parsed: Mutex::default(),
        });
        Self { core }
    }

    pub fn database(&self) -> &Arc<Database> {
        &self.core.database
    }

    /// A session with a transaction of its own that shares this one's temporary tables and prepared statements and
    /// starts with its settings: for protocols in which one client has several transactions.
    #[must_use]
    pub fn fork(&self) -> Self {
        let core = &self.core;
        let fork = Self::with_shared(
            Arc::clone(&core.database),
            Arc::clone(&core.temporary),
            Arc::clone(&core.prepared),
            core.principal(),
        );
        let options = self.config_options();
        fork.core.change_state(|state| {
            *state.config_mut().options_mut() = options;
            commands::follow_settings(state);
        });
        fork.core.work.set_waits(core.work.waits());
        fork
    }

    /// Whether a `BEGIN` waits for its `COMMIT`.
    pub fn in_transaction(&self) -> bool {
        self.core.work.is_open()
    }

    /// On whose behalf statements run from now on: what [`Role`](crate::Role) forbids is refused.
    pub fn set_principal(&self, principal: Principal) {
        *self.core.principal.write() = Some(principal);
    }

    pub fn principal(&self) -> Option<Principal> {
        self.core.principal()
    }

    /// From now on statements that leave something to the session (`BEGIN`, `SET`, `PREPARE`, temporary tables) are
    /// refused: for protocols in which a session ends with its request.
    pub fn end_with_request(&self) {
        self.core.one_request.store(true, Ordering::Relaxed);
    }

    /// What a statement takes and gives, found by planning it; nothing is run or changed.
    #[boxed]
    pub async fn describe(&self, sql: &str) -> Result<Described> {
        describe::describe(self, &self.core, sql).await
    }

    /// Relations for which `wanted(schema, name, kind)` holds, sorted by schema and name. With `schemas` their columns
    /// are looked up too, which opens external tables and views; one that cannot be opened has none.
    #[boxed]
    pub async fn relations(
        &self,
        wanted: &(dyn Fn(&str, &str, &str) -> bool + Send + Sync),
        schemas: bool,
    ) -> Vec<Relation> {
        names::relations(&self.core, wanted, schemas).await
    }

    /// The schemas that names can be looked up in.
    pub fn schema_names(&self) -> Vec<String> {
        names::schema_names(&self.core)
    }

    /// Runs exactly one statement.
    ///
    /// A query starts when its first batch is asked for; everything else is done when this returns.
    #[boxed]
    pub async fn execute(&self, sql: &str) -> Result<QueryResult> {
        self.execute_with(sql, &Params::None).await
    }

    /// Runs one statement with values for its parameters.
    #[boxed]
    pub async fn execute_with(&self, sql: &str, params: &Params) -> Result<QueryResult> {
        if queries::is_recorded() {
            let statement = self.core.parse(sql, params)?;
            return self.execute_statement(sql, statement, params).await;
        }
        let queries = self.core.database.queries();
        let begun = queries.moment();
        let statement = match self.core.parse(sql, params) {
            Ok(statement) => statement,
            Err(error) => {
                queries.refused(&self.core, sql, begun, &error);
                return Err(error);
            }
        };
        let recorder = queries.begin(&self.core, sql, &statement, begun);
        recorder.run(self.execute_statement(sql, statement, params)).await
    }

    #[boxed]
    async fn execute_statement(
        &self,
        sql: &str,
        statement: Arc<Statement>,
        params: &Params,
    ) -> Result<QueryResult> {
        if self.core.one_request.load(Ordering::Relaxed)
            && let Some(kept) = describe::kept_by_session(&statement)
        {
            return Err(Error::unsupported(format!("{kept} would end with the request")).with_hint(
                "each request is a session of its own; the shell and Flight SQL have sessions that stay",
            ));
        }
        principal::authorise(&self.core, &statement)?;
        if !params.is_empty() && constants::may_call(&self.core, sql) {
            let settled = constants::settle_statement(&self.core, statement.as_ref(), params).boxed();
            let (settled, left) = transaction::scoped(&self.core, settled).await?;
            return self.execute_parsed(sql, Arc::new(settled), &left).await;
        }
        self.execute_parsed(sql, statement, params).await
    }

    #[boxed]
    async fn execute_parsed(
        &self,
        sql: &str,
        statement: Arc<Statement>,
        params: &Params,
    ) -> Result<QueryResult> {
        let done = if let Some(insert) = dml::own_insert(&self.core, &statement) {
            // It makes its own context when it begins to write.
            dml::run(&self.core, insert, params).boxed().await
        } else {
            // A type of its own for whatever a statement does: its name would be too long for the compiler.
            let running = commands::run(&self.core, statement, params).boxed();
            transaction::scoped(&self.core, running).boxed().await
        };
        match done {
            Ok(result) => Ok(result),
            Err(error) => Err(errors::improve(&self.core, sql, error)),
        }
    }

    /// How far the statement is that writes, before it has a result; to be asked from another task.
    pub fn progress(&self) -> ProgressHandle {
        ProgressHandle::of_session(&self.core)
    }

    /// Every relation with its columns, for completion and for `\d`. One that cannot be opened is listed
    /// without columns.
    #[boxed]
    pub async fn names(&self) -> Names {
        names::of_session(&self.core).await
    }

    /// Every function with its description.
    pub fn functions(&self) -> Vec<FunctionInfo> {
        names::functions(&self.core.state())
    }

    /// The settings as they are now.
    pub(crate) fn config_options(&self) -> datafusion::config::ConfigOptions {
        self.core.state().config_options().as_ref().clone()
    }

    /// Puts a table in front of the catalog's, for this session only.
    pub fn register_temporary(&self, name: &str, table: Arc<dyn TableProvider>) {
        self.core.put_temporary(name.to_owned(), table);
    }

    /// Takes such a table away again; statements that have begun keep it. Says whether there was one.
    pub fn deregister_temporary(&self, name: &str) -> bool {
        self.core.drop_temporary(name)
    }

    /// Makes a scalar function known to this session; one of the same name is replaced.
    ///
    /// *Errors*: a defect only, the session's registry takes every function.
    pub fn register_scalar(&self, function: Arc<ScalarUDF>) -> Result<()> {
        self.core.change_state(|state| state.register_udf(function))?;
        Ok(())
    }

    /// Makes a table function known to this session; one of the same name is replaced.
    pub fn register_table_function(&self, name: &str, function: Arc<dyn TableFunctionImpl>) {
        self.core.change_state(|state| state.register_udtf(name, function));
    }

    /// The columns of a query's result, which is planned and not run. `None` for what is no query.
    ///
    /// *Errors*: those of planning it.
    #[boxed]
    pub async fn schema_of(&self, sql: &str, params: &Params) -> Result<Option<SchemaRef>> {
        let statement = self.core.parse(sql, params)?;
        let Statement::Sql(tree) = statement.as_ref() else { return Ok(None) };
        if !matches!(tree.as_ref(), ast::Statement::Query(_)) {
            return Ok(None);
        }
        let planning = self.core.plan_result(tree.as_ref().clone(), params).boxed();
        let plan = transaction::scoped(&self.core, planning)
            .boxed()
            .await
            .map_err(|e| errors::improve(&self.core, sql, e))?;
        let schema = plan.schema().as_arrow();
        let fields = schema.fields().iter().map(|f| {
            let name = labels::given(f.name()).to_owned();
            f.as_ref().clone().with_name(name)
        });
        let fields: Vec<_> = fields.collect();
        Ok(Some(Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))))
    }

    /// Names of one word in a statement that could be meant for relations and are none of this session's: as written, and
    /// as a table would have to be called. Columns are among them: this is for whoever knows further tables by name, such
    /// as a program's variables.
    ///
    /// *Errors*: the text is no statement.
    pub fn unknown_names(&self, sql: &str) -> Result<Vec<(String, String)>> {
        let catalog = self.core.database.catalog();
        let words = crate::visit::words(&parser::parse_one(sql)?);
        let mut unknown: Vec<_> = words.into_iter().map(|w| (parser::normalize(&w), w.value)).collect();
        unknown.retain(|(name, _)| {
            self.core.temporary(name).is_none() && catalog.relation(DEFAULT_SCHEMA, name).is_none()
        });
        Ok(unknown.into_iter().map(|(name, written)| (written, name)).collect())
    }
}

impl SessionCore {
    pub(crate) fn database(&self) -> &Arc<Database> {
        &self.database
    }

    /// Parses a statement, or remembers that it did: one with parameters will come again with others.
    pub(crate) fn parse(&self, sql: &str, params: &Params) -> Result<Arc<Statement>> {
        const KEPT: usize = 64;
        const KEPT_BYTES: usize = 128 << 10;
        if params.is_empty() || sql.len() > KEPT_BYTES {
            return parser::parse_one(sql).map(Arc::new);
        }
        if let Some(known) = self.parsed.lock().known.get(sql) {
            return Ok(Arc::clone(known));
        }
        let statement = Arc::new(parser::parse_one(sql)?);
        let mut parsed = self.parsed.lock();
        if parsed.known.len() >= KEPT || parsed.bytes + sql.len() > KEPT_BYTES {
            *parsed = Parsed::default();
        }
        if parsed.known.insert(sql.to_owned(), Arc::clone(&statement)).is_none() {
            parsed.bytes += sql.len();
        }
        Ok(statement)
    }

    /// The open transaction.
    pub(crate) fn work(&self) -> &Work {
        &self.work
    }

    pub(crate) fn set_started(&self, statement: Weak<Started>) {
        *self.started.lock() = statement;
    }

    pub(crate) fn started(&self) -> Option<Arc<Started>> {
        self.started.lock().upgrade()
    }

    /// What tables ask of new rows, planned.
    pub(crate) fn rules(&self) -> &RulesCache {
        &self.rules
    }

    pub(crate) fn state(&self) -> SessionState {
        let mut state = self.state.read().clone();
        state.mark_start_execution();
        state
    }

    pub(crate) fn change_state<T>(&self, change: impl FnOnce(&mut SessionState) -> T) -> T {
        change(&mut self.state.write())
    }

    pub(crate) fn temporary(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        self.temporary.read().get(name).cloned()
    }

    pub(crate) fn temporary_names(&self) -> Vec<String> {
        self.temporary.read().keys().cloned().collect()
    }

    pub(crate) fn put_temporary(&self, name: String, table: Arc<dyn TableProvider>) {
        self.temporary.write().insert(name, table);
    }

    pub(crate) fn drop_temporary(&self, name: &str) -> bool {
        self.temporary.write().remove(name).is_some()
    }

    pub(crate) fn principal(&self) -> Option<Principal> {
        self.principal.read().clone()
    }

    pub(crate) fn prepared(&self) -> &RwLock<HashMap<String, Prepared>> {
        &self.prepared
    }

    /// Plans a statement of sqlparser's, refusing what DataFusion would do wrongly.
    pub(crate) async fn plan(
        self: &Arc<Self>,
        statement: ast::Statement,
        params: &Params,
    ) -> Result<LogicalPlan> {
        let plan = Box::pin(self.plan_unbound(statement)).await?;
        params::bind(plan, params)
    }

    /// Plans a statement whose result a user reads. Its columns may have one name twice; in the plan they have not,
    /// and [`labels::given`] gives the names back.
    pub(crate) async fn plan_result(
        self: &Arc<Self>,
        statement: ast::Statement,
        params: &Params,
    ) -> Result<LogicalPlan> {
        let names = ColumnNames { give_back: true, collisions: vec![] };
        let plan = Box::pin(self.plan_named(statement, names)).await?;
        params::bind(plan, params)
    }

    pub(crate) async fn plan_unbound(self: &Arc<Self>, statement: ast::Statement) -> Result<LogicalPlan> {
        Box::pin(self.plan_named(statement, ColumnNames::default())).await
    }

    /// Plans until no `*` stands for a name that its select list has already.
    pub(crate) async fn plan_named(
        self: &Arc<Self>,
        mut statement: ast::Statement,
        mut names: ColumnNames,
    ) -> Result<LogicalPlan> {
        moments::settle(self, &mut statement).await?;
        constants::settle(self, &mut statement, &Params::None).await?;
        loop {
            let mut prepared = statement.clone();
            prepass::prepare_with(&mut prepared, &names)?;
            let error = match self.plan_prepared(prepared).await {
                Ok(plan) => return Ok(plan),
                Err(error) => error,
            };
            match labels::collision(error.message()) {
                Some(name) if !names.collisions.contains(&name) && labels::may_rename(&statement, &name) => {
                    names.collisions.push(name);
                }
                Some(name) => {
                    // What another attempt called the column, or the name itself.
                    let given = names.collisions.iter().find(|given| name.starts_with(given.as_str()));
                    return Err(labels::twice(given.unwrap_or(&name)));
                }
                None => return Err(error),
            }
        }
    }

    /// Plans what went through the pre-pass already.
    pub(crate) async fn plan_prepared(&self, statement: ast::Statement) -> Result<LogicalPlan> {
        let statement = DfStatement::Statement(Box::new(statement));
        let state = self.state();
        // DataFusion's future is large; boxed, it does not grow every caller's.
        let plan = Box::pin(state.statement_to_plan(statement)).await?;
        refuse_unsafe(&plan)?;
        Ok(plan)
    }

    /// From a bound logical plan to operators.
    pub(crate) async fn physical(&self, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
        if let Some(name) = plan.get_parameter_names()?.into_iter().min() {
            return Err(Error::invalid(format!("the parameter {name} has no value")));
        }
        let state = self.state();
        Ok(Box::pin(state.create_physical_plan(plan)).await?)
    }

    /// Starts operators, on the threads for queries.
    pub(crate) fn stream(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        self.database.cpu().stream(plan, queries::charged(context))
    }

    /// Starts a bound logical plan.
    pub(crate) async fn start(&self, plan: &LogicalPlan) -> Result<QueryResult> {
        let physical = Box::pin(self.physical(plan)).await?;
        observe::note(&physical);
        let stream = self.stream(Arc::clone(&physical), self.state().task_ctx())?;
        Ok(QueryResult::rows(stream, physical))
    }

    /// Starts what [`Self::plan_result`] planned.
    pub(crate) async fn start_result(&self, plan: &LogicalPlan) -> Result<QueryResult> {
        Ok(self.start(plan).await?.rename(labels::given))
    }
}

/// DataFusion's DELETE and UPDATE lose their predicates, and its DDL works on its own catalog: neither may
/// be reached by any way round.
fn refuse_unsafe(plan: &LogicalPlan) -> Result<()> {
    match plan {
        LogicalPlan::Dml(dml) if !matches!(dml.op, WriteOp::Insert(_)) => {
            Err(Error::unsupported(format!("{} is not supported yet", dml.op.name())))
        }
        LogicalPlan::Ddl(DdlStatement::CreateIndex(_)) => {
            Err(Error::unsupported("CREATE INDEX is not supported yet"))
        }
        LogicalPlan::Explain(e) => refuse_unsafe(&e.plan),
        LogicalPlan::Analyze(a) => refuse_unsafe(&a.input),
        _ => Ok(()),
    }
}
