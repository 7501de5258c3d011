//! Single rows from the cache.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::interleave;
use triune_common::{Error, Result};

use super::load::{TableCache, chunk};
use crate::provider::Table;

/// Chunks read for one call at most: more rows than that are read as they lie.
const MOST_LOADS: usize = 16;

/// The columns at these addresses, in this order; `None` if they are not in the cache and not to be put there.
///
/// Errors: data for an address of no row.
pub(crate) async fn take(
    table: &Arc<Table>,
    cache: &Arc<TableCache>,
    addresses: &[u64],
    columns: &[usize],
) -> Result<Option<Vec<ArrayRef>>> {
    if let Some(found) = resident(table, cache, addresses, columns)? {
        return Ok(Some(found));
    }
    // (fragment, chunk number, rows of a chunk) → columns that lack it
    let mut lacking: HashMap<(usize, u64, u64), Vec<usize>> = HashMap::new();
    for address in addresses {
        let (fragment, row) = place(table, *address)?;
        for column in columns {
            let rows = table.chunk_rows(*column);
            let key = cache.key(table, fragment, *column, row / rows);
            if !cache.cache.holds(&key) {
                let lacks = lacking.entry((fragment, row / rows, rows)).or_default();
                if !lacks.contains(column) {
                    lacks.push(*column);
                }
            }
        }
        if lacking.len() > MOST_LOADS {
            return Ok(None);
        }
    }
    // Each of them is to be remembered, so this does not end at the first that is new.
    let mut again = true;
    for ((fragment, number, _), columns) in &lacking {
        for column in columns {
            again &= cache.cache.again(cache.key(table, *fragment, *column, *number));
        }
    }
    if !again {
        return Ok(None);
    }
    // Held while they are used, whatever the budget says.
    let mut held = HashMap::new();
    for ((fragment, number, _), columns) in lacking {
        let arrays =
            chunk(Arc::clone(table), Arc::clone(cache), fragment, columns.as_slice().into(), number).await?;
        for (column, array) in columns.into_iter().zip(arrays) {
            held.insert((fragment, column, number), array);
        }
    }
    gather(table, addresses, columns, |fragment, column, number| {
        let known = held.get(&(fragment, column, number)).map(Arc::clone);
        known.or_else(|| cache.cache.get(&cache.key(table, fragment, column, number)))
    })
}

/// The columns if all chunks that they need are in the cache.
fn resident(
    table: &Table,
    cache: &TableCache,
    addresses: &[u64],
    columns: &[usize],
) -> Result<Option<Vec<ArrayRef>>> {
    gather(table, addresses, columns, |fragment, column, number| {
        cache.cache.get(&cache.key(table, fragment, column, number))
    })
}

fn gather(
    table: &Table,
    addresses: &[u64],
    columns: &[usize],
    chunk: impl Fn(usize, usize, u64) -> Option<ArrayRef>,
) -> Result<Option<Vec<ArrayRef>>> {
    let places = addresses.iter().map(|a| place(table, *a)).collect::<Result<Vec<_>>>()?;
    let mut out = Vec::with_capacity(columns.len());
    for column in columns {
        let rows = table.chunk_rows(*column);
        if let [(fragment, row)] = places.as_slice() {
            let Some(array) = chunk(*fragment, *column, row / rows) else { return Ok(None) };
            out.push(array.slice(usize::try_from(row % rows).unwrap_or(usize::MAX), 1));
            continue;
        }
        let mut chunks: Vec<ArrayRef> = Vec::new();
        let mut known: HashMap<(usize, u64), usize> = HashMap::new();
        let mut indexes = Vec::with_capacity(places.len());
        for (fragment, row) in &places {
            let number = row / rows;
            let i = match known.get(&(*fragment, number)) {
                Some(i) => *i,
                None => {
                    let Some(array) = chunk(*fragment, *column, number) else { return Ok(None) };
                    chunks.push(array);
                    known.insert((*fragment, number), chunks.len() - 1);
                    chunks.len() - 1
                }
            };
            indexes.push((i, usize::try_from(row % rows).unwrap_or(usize::MAX)));
        }
        let arrays: Vec<&dyn Array> = chunks.iter().map(AsRef::as_ref).collect();
        out.push(interleave(&arrays, &indexes)?);
    }
    Ok(Some(out))
}

/// The place of the fragment among the table's, and the row in it.
fn place(table: &Table, address: u64) -> Result<(usize, u64)> {
    let (id, row) = (address >> 32, address & u64::from(u32::MAX));
    let fragments = &table.fragments;
    // In the order of their ids, nearly always.
    let found = match fragments.binary_search_by_key(&id, |f| f.id) {
        Ok(i) => Some(i),
        Err(_) => fragments.iter().position(|f| f.id == id),
    };
    found
        .filter(|i| row < fragments[*i].physical)
        .map(|i| (i, row))
        .ok_or_else(|| Error::data(format!("{} has no row at the address {address}", table.dataset.uri())))
}
