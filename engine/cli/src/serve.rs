//! `triune serve [DB]`: the database on the network.
//!
//! ```text
//! $ triune serve shop --listen 127.0.0.1:50051
//! listening on grpc://127.0.0.1:50051
//! and on http://127.0.0.1:50052
//! ```

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use futures::FutureExt;
use triune_common::{Error, ErrorKind, Result};
use triune_query::{Database, DatabaseOptions};
use triune_server::{Compression, Server, ServerOptions, TlsFiles};

#[derive(Debug, Clone, Args)]
pub struct ServeOptions {
    /// The database: a folder (made if missing) or a URL; in memory if none is given
    #[arg(value_name = "DB")]
    pub database: Option<String>,

    /// Where to listen for Flight SQL; port 0 takes a free one, which is printed
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50051")]
    pub listen: SocketAddr,

    /// Where to speak HTTP (default: the port after that of --listen; a free one where that is 0)
    #[arg(long, value_name = "ADDRESS", conflicts_with = "no_http")]
    pub http: Option<SocketAddr>,

    /// Speak no HTTP
    #[arg(long)]
    pub no_http: bool,

    /// The server's certificate and the chain to its authority (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// The certificate's key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Clients must show a certificate of this authority (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,

    /// Clients must log in on loopback too; they must everywhere once there are users
    #[arg(long)]
    pub auth: bool,

    /// Serve other machines without TLS, and without log-ins while there are no users
    #[arg(long)]
    pub insecure: bool,

    /// Open the database as it is, beside a process that may be writing it
    #[arg(long, requires = "database")]
    pub readonly: bool,

    /// Bytes that all running statements together may hold (default: 70 % of the machine's memory)
    #[arg(long, value_name = "BYTES")]
    pub memory_limit: Option<usize>,

    /// Seconds after which an unused session ends and is rolled back
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    pub idle_timeout: u64,

    /// The most seconds that a statement may take, up to its last row (default: as long as it needs)
    #[arg(long, value_name = "SECONDS")]
    pub query_timeout: Option<f64>,

    /// Seconds that a stop waits for running statements
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    pub drain: f64,

    /// Compression of results: none, lz4 or zstd
    #[arg(long, value_name = "NAME", default_value = "none")]
    pub compression: String,
}

fn seconds(name: &str, value: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| Error::invalid(format!("--{name} cannot be {value}")).with_hint("it takes seconds"))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| {
        let kind = match e.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::PermissionDenied => ErrorKind::Permission,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, format!("{} cannot be read: {e}", path.display()))
    })
}

/// HTTP is next door, unless it was said where.
fn http_address(options: &ServeOptions) -> Result<Option<SocketAddr>> {
    if options.no_http || options.http.is_some() {
        return Ok(options.http);
    }
    let mut next = options.listen;
    match options.listen.port() {
        0 => {}
        port => next.set_port(port.checked_add(1).ok_or_else(|| {
            Error::invalid(format!("after port {port} there is none for HTTP"))
                .with_hint("say --http ADDRESS or --no-http")
        })?),
    }
    Ok(Some(next))
}

fn server_options(options: &ServeOptions) -> Result<ServerOptions> {
    let tls = match (&options.tls_cert, &options.tls_key) {
        (Some(certificate), Some(key)) => Some(TlsFiles {
            certificate: read(certificate)?,
            key: read(key)?,
            client_authority: options.tls_client_ca.as_deref().map(read).transpose()?,
        }),
        _ => None,
    };
    Ok(ServerOptions {
        http: http_address(options)?,
        tls,
        authenticate: options.auth,
        insecure: options.insecure,
        idle_timeout: Duration::from_secs(options.idle_timeout),
        query_timeout: options.query_timeout.map(|s| seconds("query-timeout", s)).transpose()?,
        drain: seconds("drain", options.drain)?,
        compression: options.compression.parse::<Compression>()?,
        ..ServerOptions::new(options.listen)
    })
}

/// Whoever starts the server reads these lines; with the output gone there is nobody to tell.
fn say(line: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
}

/// Ctrl-C, or the `SIGTERM` of a service manager.
async fn stop() {
    let interrupt = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let terminate = async {
            match signal(SignalKind::terminate()) {
                Ok(mut signal) => drop(signal.recv().await),
                Err(_) => std::future::pending::<()>().await,
            }
        };
        tokio::select! { () = interrupt => {}, () = terminate => {} }
    }
    #[cfg(not(unix))]
    interrupt.await;
    say("stopping");
}

/// Serves until it is told to stop.
pub async fn run(options: ServeOptions) -> Result<()> {
    let server = server_options(&options)?;
    // Before a database is made for nothing.
    server.check()?;
    let database = DatabaseOptions {
        read_only: options.readonly,
        memory_limit: options.memory_limit,
        ..DatabaseOptions::default()
    };
    let database = Database::open_with(options.database.as_deref(), database).await?;
    let mut server = Server::bind(database, server).await?;
    if let Some(password) = server.take_first_password() {
        say(&format!("the user admin was made, with the password {password} (shown this once)"));
    }
    // From here on a signal is a wish to stop and no longer the end of the process.
    let stopping = stop().boxed();
    say(&format!("listening on {}", server.url()));
    if let Some(url) = server.http_url() {
        say(&format!("and on {url}"));
    }
    server.run(stopping).await?;
    say("stopped");
    Ok(())
}
