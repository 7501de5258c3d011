//! Checks of passwords: few at a time, and slower after each failure.
//!
//! ```text
//! failures of a user from an address   0   1     2     3     …   7 and more
//! wait before the next check           0   0.1 s 0.2 s 0.4 s     5 s
//! ```

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::runtime::SpawnedTask;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tonic::Status;
use triune_query::{Database, Principal};

use crate::status;

/// Each check holds 19 MiB and a core.
const CHECKS_AT_ONCE: usize = 2;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Failures are forgotten after so long.
const FORGOTTEN: Duration = Duration::from_secs(10 * 60);
/// Names that are remembered; somebody who tries more is slowed down by their address alone.
const REMEMBERED: usize = 10_000;

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Duration,
}

type Tried = (Option<String>, IpAddr);

#[derive(Debug)]
pub(crate) struct Logins {
    database: Arc<Database>,
    failures: Mutex<HashMap<Tried, Failures>>,
    checks: Semaphore,
}

impl Logins {
    pub(crate) fn new(database: Arc<Database>) -> Self {
        Self { database, failures: Mutex::default(), checks: Semaphore::new(CHECKS_AT_ONCE) }
    }

    /// Checks a password, after the wait that earlier failures earned.
    pub(crate) async fn check(&self, user: &str, password: &str, from: IpAddr) -> Result<Principal, Status> {
        // The address counts too, but later: several people may share one.
        let by_name = self.count(&(Some(user.to_owned()), from));
        let by_address = self.count(&(None, from)).saturating_sub(20);
        tokio::time::sleep(wait_after(by_name.max(by_address))).await;
        let _turn =
            self.checks.acquire().await.map_err(|_| status::unauthenticated("the server is stopping"))?;
        let (database, name, password) = (Arc::clone(&self.database), user.to_owned(), password.to_owned());
        let checked =
            SpawnedTask::spawn_blocking(move || database.check_password(&name, &password)).join().await;
        match checked {
            Ok(Ok(principal)) => {
                self.failures.lock().remove(&(Some(user.to_owned()), from));
                Ok(principal)
            }
            Ok(Err(error)) => {
                self.failed((Some(user.to_owned()), from));
                self.failed((None, from));
                Err(status::unauthenticated(error.message()))
            }
            Err(_) => Err(status::unauthenticated("the password could not be checked")),
        }
    }

    fn count(&self, tried: &Tried) -> u32 {
        let now = self.database.clock().elapsed();
        let failures = self.failures.lock();
        failures.get(tried).filter(|f| now.saturating_sub(f.last) < FORGOTTEN).map_or(0, |f| f.count)
    }

    fn failed(&self, tried: Tried) {
        let now = self.database.clock().elapsed();
        let mut failures = self.failures.lock();
        if failures.len() >= REMEMBERED {
            failures.retain(|_, f| now.saturating_sub(f.last) < FORGOTTEN);
        }
        if failures.len() >= REMEMBERED && tried.0.is_some() {
            return;
        }
        let entry = failures.entry(tried).or_insert(Failures { count: 0, last: now });
        if now.saturating_sub(entry.last) >= FORGOTTEN {
            entry.count = 0;
        }
        *entry = Failures { count: entry.count + 1, last: now };
    }
}

fn wait_after(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        n => FIRST_WAIT.saturating_mul(1 << (n - 1).min(10)).min(LONGEST_WAIT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_doubles_the_wait() {
        assert_eq!(wait_after(0), Duration::ZERO);
        assert_eq!(wait_after(1), FIRST_WAIT);
        assert_eq!(wait_after(3), FIRST_WAIT * 4);
        assert_eq!(wait_after(u32::MAX), LONGEST_WAIT);
    }
}
