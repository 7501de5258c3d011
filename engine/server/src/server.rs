//! The life of a server: bind, run, drain, checkpoint.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use datafusion::common::runtime::SpawnedTask;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::ServerTlsConfig;
use tonic::transport::{Certificate, Identity};
use triune_common::{Error, ErrorKind, Result, boxed};
use triune_query::Database;

use crate::auth::Door;
use crate::connection::{Connection, Peer};
use crate::flight::Gate;
use crate::http::{self, App};
use crate::metrics::{Metrics, Protocol};
use crate::options::ServerOptions;
use crate::sessions::Sessions;

/// Headers of one request; a larger one is refused by the transport.
const MOST_HEADER_BYTES: u32 = 64 << 10;
/// A connection whose other end does not answer any more is closed.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_WAITS: Duration = Duration::from_secs(10);
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// What a client sends ahead of us, for one stream and for a connection.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// A server that listens and does not serve yet.
#[derive(Debug)]
pub struct Server {
    database: Arc<Database>,
    options: Arc<ServerOptions>,
    listener: TcpListener,
    address: SocketAddr,
    http: Option<(TcpListener, SocketAddr)>,
    first_password: Option<String>,
}

impl Server {
    /// Listens. Makes the first admin where users are wanted and there are none.
    ///
    /// *Errors*: an address of other machines without TLS; one that is in use.
    #[boxed]
    pub async fn bind(database: Arc<Database>, options: ServerOptions) -> Result<Self> {
        options.check()?;
        // What is wrong with a certificate is to be said before anybody connects.
        transport(&options)?;
        options.tls.as_ref().map(http::acceptor).transpose()?;
        let (listener, address) = listen(options.listen).await?;
        let http = match options.http {
            Some(wanted) => Some(listen(wanted).await?),
            None => None,
        };
        let first_password = match options.wants_users() {
            true => database.first_admin().await?.map(|p| p.expose().clone()),
            false => None,
        };
        Ok(Self { database, options: Arc::new(options), listener, address, http, first_password })
    }

    /// Where it listens; the port that was chosen, where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `grpc://127.0.0.1:50051`, `grpc+tls://…`
    pub fn url(&self) -> String {
        let scheme = if self.options.tls.is_some() { "grpc+tls" } else { "grpc" };
        format!("{scheme}://{}", self.address)
    }

    /// `http://127.0.0.1:50052`, `https://…`; `None` where HTTP is not spoken.
    pub fn http_url(&self) -> Option<String> {
        let scheme = if self.options.tls.is_some() { "https" } else { "http" };
        self.http.as_ref().map(|(_, address)| format!("{scheme}://{address}"))
    }

    /// The password of the user `admin` that was made just now, to be shown once.
    pub fn take_first_password(&mut self) -> Option<String> {
        self.first_password.take()
    }

    /// Serves until `stop` is done; then takes no new connection, lets statements finish for the drain time, cancels
    /// the rest, rolls open transactions back, checkpoints and closes the database.
    #[boxed]
    pub async fn run(self, stop: BoxStop) -> Result<()> {
        let Self { database, options, listener, http, .. } = self;
        let sessions = Arc::new(Sessions::new(Arc::clone(&database), options.idle_timeout));
        let door = Door::new(Arc::clone(&database), Arc::clone(&sessions), Arc::clone(&options));
        let door = Arc::new(door);
        let metrics = Arc::new(Metrics::new(database.clock().now()));
        database.queries().watch({
            let metrics = Arc::clone(&metrics);
            Arc::new(move |query| metrics.ended(query))
        });
        let gate =
            Gate::new(Arc::clone(&database), Arc::clone(&sessions), Arc::clone(&door), Arc::clone(&options));
        let service = FlightServiceServer::new(gate)
            .max_decoding_message_size(options.message_limit)
            .max_encoding_message_size(usize::MAX)
            .accept_compressed(tonic::codec::CompressionEncoding::Gzip)
            .accept_compressed(tonic::codec::CompressionEncoding::Zstd);
        let mut transport = transport(&options)?;
        let sweeper = SpawnedTask::spawn({
            let sessions = Arc::clone(&sessions);
            async move {
                loop {
                    tokio::time::sleep(SWEEP_EVERY).await;
                    sessions.sweep();
                }
            }
        });
        let stopping = stop.shared();
        let app = Arc::new(App {
            database: Arc::clone(&database),
            sessions: Arc::clone(&sessions),
            door,
            options: Arc::clone(&options),
            metrics: Arc::clone(&metrics),
            stopping: AtomicBool::new(false),
        });
        let told = CancellationToken::new();
        let over_http = {
            let (app, told) = (Arc::clone(&app), told.clone());
            let tls = options.tls.as_ref().map(http::acceptor).transpose()?;
            async move {
                match http {
                    Some((listener, _)) => http::serve(listener, tls, app, told).await,
                    None => told.cancelled().await,
                }
            }
        };
        let served = transport.add_service(service).serve_with_incoming_shutdown(
            incoming(listener, Arc::clone(&sessions), metrics),
            stopping.clone(),
        );
        let served = async {
            // The first that breaks ends both.
            tokio::try_join!(served, over_http.map(Ok)).map(drop)
        };
        let drained = async {
            stopping.await;
            app.stopping.store(true, Ordering::Relaxed);
            told.cancel();
            tokio::time::sleep(options.drain).await;
            sessions.cancel_all();
            // Those over HTTP belong to no session that stays.
            database.queries().cancel_all();
            // Whoever is cancelled has a moment to hear it.
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        tokio::select! {
            done = served => {
                done.map_err(|e| Error::new(ErrorKind::Unavailable, format!("the server stopped: {}", chain(&e))))?;
            }
            () = drained => {}
        }
        drop(sweeper);
        sessions.end();
        drop(sessions);
        finish(&database).await
    }
}

async fn listen(wanted: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let in_use = |e: std::io::Error| {
        let kind = match e.kind() {
            std::io::ErrorKind::PermissionDenied => ErrorKind::Permission,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, format!("{wanted} cannot be listened on: {e}"))
    };
    let listener = TcpListener::bind(wanted).await.map_err(in_use)?;
    let address = listener.local_addr().map_err(in_use)?;
    Ok((listener, address))
}

/// HTTP/2 and TLS.
fn transport(options: &ServerOptions) -> Result<tonic::transport::Server> {
    let transport = tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_WAITS))
        .http2_max_header_list_size(MOST_HEADER_BYTES);
    let Some(tls) = &options.tls else { return Ok(transport) };
    // Dependencies bring two providers; whoever asked first has chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut config = ServerTlsConfig::new().identity(Identity::from_pem(&tls.certificate, &tls.key));
    if let Some(authority) = &tls.client_authority {
        config = config.client_ca_root(Certificate::from_pem(authority));
    }
    transport
        .tls_config(config)
        .map_err(|e| Error::invalid(format!("the certificate or its key cannot be used: {}", chain(&e))))
}

/// What ends a server: `tokio::signal` or a test.
pub type BoxStop = futures::future::BoxFuture<'static, ()>;

/// What is in the log only becomes part of the tables, so that the next start has little to read.
async fn finish(database: &Arc<Database>) -> Result<()> {
    if !database.is_in_memory() {
        // Without a checkpoint nothing is lost either: it is in the log.
        let _ = database.session().execute("CHECKPOINT").await;
    }
    database.close().await
}

/// An error with what it came from: the transport's own text says "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

fn incoming(
    listener: TcpListener,
    sessions: Arc<Sessions>,
    metrics: Arc<Metrics>,
) -> BoxStream<'static, std::io::Result<Connection>> {
    let next = AtomicU64::new(1);
    futures::stream::unfold(
        (listener, sessions, metrics, next),
        |(listener, sessions, metrics, next)| async move {
            loop {
                match listener.accept().await {
                    Ok((stream, address)) => {
                        let peer = Peer { connection: next.fetch_add(1, Ordering::Relaxed), address };
                        let open = metrics.connected(Protocol::Flight);
                        let connection = Connection::new(stream, peer, Arc::clone(&sessions), open);
                        return Some((Ok(connection), (listener, sessions, metrics, next)));
                    }
                    // Out of file descriptors, or a client that went away: others will come.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        },
    )
    .boxed()
}
