//! What a server listens on and what it allows.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use triune_common::{Error, ErrorKind, Result};

/// How the bodies of results are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// Every client reads it.
    #[default]
    None,
    Lz4,
    Zstd,
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "none" => Ok(Self::None),
            "lz4" => Ok(Self::Lz4),
            "zstd" => Ok(Self::Zstd),
            _ => Err(Error::invalid(format!("there is no compression \"{text}\""))
                .with_hint("accepted are none, lz4 and zstd")),
        }
    }
}

/// Certificates in PEM.
#[derive(Clone)]
pub struct TlsFiles {
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
    /// Clients have to show a certificate that this authority signed.
    pub client_authority: Option<Vec<u8>>,
}

impl std::fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsFiles").field("mutual", &self.client_authority.is_some()).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone)]
pub struct ServerOptions {
    pub listen: SocketAddr,
    /// Where HTTP is spoken; nowhere if `None`.
    pub http: Option<SocketAddr>,
    pub tls: Option<TlsFiles>,
    /// Clients have to log in even on loopback. They have to everywhere once there are users.
    pub authenticate: bool,
    /// Serves other machines without TLS, and without log-ins while there are no users.
    pub insecure: bool,
    /// A session that is not used for so long ends; its transactions are rolled back.
    pub idle_timeout: Duration,
    /// The most time that a statement may take, from its start to its last row.
    pub query_timeout: Option<Duration>,
    /// How long a stop waits for running statements.
    pub drain: Duration,
    /// Unless a request says otherwise (`x-triune-compression`).
    pub compression: Compression,
    /// The most bytes of one message of a client's.
    pub message_limit: usize,
}

impl ServerOptions {
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            http: None,
            tls: None,
            authenticate: false,
            insecure: false,
            idle_timeout: Duration::from_secs(30 * 60),
            query_timeout: None,
            drain: Duration::from_secs(10),
            compression: Compression::None,
            message_limit: 64 << 20,
        }
    }

    /// Refuses to be open to other machines by mistake.
    pub fn check(&self) -> Result<()> {
        let mut addresses = [Some(self.listen), self.http].into_iter().flatten();
        let open = addresses.find(|a| !a.ip().is_loopback());
        let Some(open) = open.filter(|_| !self.insecure && self.tls.is_none()) else { return Ok(()) };
        Err(Error::new(
            ErrorKind::Permission,
            format!("{open} is open to other machines, and passwords and rows would travel in clear"),
        )
        .with_hint("give --tls-cert and --tls-key, listen on 127.0.0.1, or say --insecure"))
    }

    /// Whether clients have to log in although there are no users yet.
    pub(crate) fn wants_users(&self) -> bool {
        self.authenticate || !(self.is_local() || self.insecure)
    }

    /// Whether only this machine can connect.
    pub(crate) fn is_local(&self) -> bool {
        [Some(self.listen), self.http].into_iter().flatten().all(|a| a.ip().is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_machines_need_tls_or_a_word() {
        let loopback = ServerOptions::new("127.0.0.1:0".parse().unwrap());
        assert!(loopback.check().is_ok() && !loopback.wants_users());
        let open = ServerOptions::new("0.0.0.0:0".parse().unwrap());
        assert!(open.check().unwrap_err().to_string().contains("--insecure"));
        assert!(open.wants_users());
        let http = ServerOptions { http: Some(open.listen), ..loopback };
        assert!(http.check().is_err() && http.wants_users());
        let insecure = ServerOptions { insecure: true, ..open };
        assert!(insecure.check().is_ok() && !insecure.wants_users());
    }
}
