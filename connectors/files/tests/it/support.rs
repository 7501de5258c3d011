//! A session over a folder of test files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::TableProvider;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::{LogicalPlan, dml::CopyTo};
use datafusion::prelude::{SessionConfig, SessionContext};
use triune_common::{Error, Result};
use triune_files::{ExternalTableSpec, FileKind, copy_target, explain_read_error, open_table};
use triune_object_store::{Environment, StoreLimits, StoreRegistry};

pub(crate) struct Fixture {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) ctx: SessionContext,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with_config(SessionConfig::new().with_target_partitions(4))
    }

    pub(crate) fn with_config(config: SessionConfig) -> Self {
        let registry = StoreRegistry::with_settings(None, StoreLimits::default(), Environment::default());
        Self::on(registry, config)
    }

    pub(crate) fn on(registry: Arc<StoreRegistry>, config: SessionConfig) -> Self {
        let runtime = RuntimeEnvBuilder::new().with_object_store_registry(registry).build_arc().unwrap();
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(runtime)
            .with_default_features()
            .build();
        Self { dir: tempfile::tempdir().unwrap(), ctx: SessionContext::new_with_state(state) }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, contents).unwrap();
        path
    }

    pub(crate) fn spec(&self, name: &str, kind: FileKind) -> ExternalTableSpec {
        ExternalTableSpec::new(self.path(name), kind)
    }

    pub(crate) async fn open(&self, spec: &ExternalTableSpec) -> Result<Arc<dyn TableProvider>> {
        open_table(&self.ctx.state(), spec).await
    }

    /// Opens a table under the name `t`.
    pub(crate) async fn table(&self, spec: &ExternalTableSpec) -> Result<()> {
        let table = self.open(spec).await?;
        self.ctx.deregister_table("t")?;
        self.ctx.register_table("t", table)?;
        Ok(())
    }

    pub(crate) async fn batches(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        let plan = self.ctx.state().create_logical_plan(sql).await?;
        self.run(plan).await
    }

    pub(crate) async fn run(&self, plan: LogicalPlan) -> Result<Vec<RecordBatch>> {
        let frame = self.ctx.execute_logical_plan(plan).await.map_err(explain_read_error)?;
        frame.collect().await.map_err(explain_read_error)
    }

    /// The result as lines of values, without borders.
    pub(crate) async fn rows(&self, sql: &str) -> Result<Vec<String>> {
        let batches = self.batches(sql).await?;
        let text = pretty_format_batches(&batches).map_err(Error::from)?.to_string();
        Ok(text
            .lines()
            .filter(|l| l.starts_with('|'))
            .skip(1)
            .map(|l| l.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join("|"))
            .collect())
    }

    /// `COPY (sql) TO 'name' (options)`.
    pub(crate) async fn copy(
        &self,
        sql: &str,
        name: &str,
        options: &[(&str, &str)],
        partition_by: &[&str],
    ) -> Result<()> {
        let mut path = self.path(name);
        if name.ends_with('/') && !path.ends_with('/') {
            path.push('/');
        }
        self.copy_to(sql, &path, options, partition_by).await
    }

    pub(crate) async fn copy_to(
        &self,
        sql: &str,
        path: &str,
        options: &[(&str, &str)],
        partition_by: &[&str],
    ) -> Result<()> {
        let input = self.ctx.state().create_logical_plan(sql).await?;
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let target = copy_target(path, None, options, !partition_by.is_empty())?;
        let plan = LogicalPlan::Copy(CopyTo::new(
            Arc::new(input),
            target.output_url(),
            partition_by.iter().map(|s| (*s).to_owned()).collect(),
            Arc::clone(&target.file_type),
            target.options,
        ));
        self.run(plan).await.map(drop)
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        Path::new(&self.path(name)).exists()
    }
}
