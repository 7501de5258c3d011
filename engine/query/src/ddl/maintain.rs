//! `CHECKPOINT`, `REFRESH`, `OPTIMIZE t`, `VACUUM [t]`, `RESTORE TABLE t TO …`.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::sql::sqlparser::ast::ObjectName;
use futures::FutureExt;
use triune_common::{Error, Result};
use triune_lance::LanceVersion;
use triune_storage::stamp::{CommitTs, TableId};
use triune_storage::store::StoreProvider;

use crate::dml::{self, target};
use crate::result::QueryResult;
use crate::session::SessionCore;
use crate::transaction;

pub(crate) async fn checkpoint(core: &Arc<SessionCore>) -> Result<QueryResult> {
    core.database().store().checkpoint().boxed().await?;
    Ok(QueryResult::command("CHECKPOINT", None))
}

/// Reads what the process that writes has published and committed. A database that is open for writing shows that
/// without being told to.
pub(crate) async fn refresh(core: &Arc<SessionCore>) -> Result<QueryResult> {
    core.database().refresh().await?;
    Ok(QueryResult::command("REFRESH", None))
}

pub(crate) async fn optimize(core: &Arc<SessionCore>, name: &ObjectName) -> Result<QueryResult> {
    let def = target::find(core, name, "OPTIMIZE")?;
    core.database().store().optimize(def.id).boxed().await?;
    // Rows that moved are in no index.
    core.database().store().upkeep_indexes(def.id).boxed().await?;
    Ok(QueryResult::command("OPTIMIZE", None))
}

/// One table or all of them.
pub(crate) async fn vacuum(core: &Arc<SessionCore>, name: Option<&ObjectName>) -> Result<QueryResult> {
    let tables: Vec<TableId> = match name {
        Some(name) => vec![target::find(core, name, "VACUUM")?.id],
        None => core.database().catalog().tables().map(|t| t.id).collect(),
    };
    for table in tables {
        core.database().store().vacuum(table).boxed().await?;
    }
    Ok(QueryResult::command("VACUUM", None))
}

/// A table with the name that plans show.
pub(crate) fn named(table: Arc<dyn TableProvider>, name: &str) -> Arc<dyn TableProvider> {
    match table.downcast_ref::<StoreProvider>() {
        Some(stored) => Arc::new(stored.clone().named(name)),
        None => table,
    }
}

/// `FROM t AT (…)` on a table of the database.
pub(crate) async fn at_version(
    core: &Arc<SessionCore>,
    table: TableId,
    name: &str,
    version: &LanceVersion,
) -> Result<Arc<dyn TableProvider>> {
    let at = match version {
        LanceVersion::Latest => return Ok(named(transaction::current(core).provider(table)?, name)),
        LanceVersion::Number(n) => CommitTs(*n),
        LanceVersion::Timestamp(time) => CommitTs(
            u64::try_from(time.timestamp_micros())
                .map_err(|_| Error::invalid(format!("\"{name}\" has no version as old as {time}")))?,
        ),
        LanceVersion::Tag(tag) => {
            return Err(Error::unsupported(format!(
                "\"{name}\" is a table and its versions have no tags ('{tag}')"
            ))
            .with_hint("write AT (VERSION => …) or AT (TIMESTAMP => …)"));
        }
    };
    Ok(named(core.database().store().provider_at(table, at).boxed().await?, name))
}

/// Puts the rows of an earlier version in the place of today's, as one commit.
pub(crate) async fn restore(
    core: &Arc<SessionCore>,
    name: &ObjectName,
    version: &LanceVersion,
) -> Result<QueryResult> {
    transaction::write(core, || restore_now(core, name, version).boxed()).await
}

async fn restore_now(
    core: &Arc<SessionCore>,
    name: &ObjectName,
    version: &LanceVersion,
) -> Result<QueryResult> {
    const EARLIER: &str = "@earlier";
    let def = target::find(core, name, "RESTORE")?;
    let plain = crate::commands::qualified(name)?.1;
    let earlier = at_version(core, def.id, &plain, version).await?;
    transaction::put_relation(EARLIER, earlier)?;
    let rows = dml::replace_all(core, def.id, &plain, EARLIER).await?;
    Ok(QueryResult::command("RESTORE", Some(rows)))
}
