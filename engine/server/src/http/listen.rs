//! Connections: at most so many, each within its times, with or without TLS.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use datafusion::common::runtime::JoinSet;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use triune_common::{Error, Result};

use super::app::{self, App};
use super::stalled::Stalled;
use crate::connection::Peer;
use crate::metrics::Protocol;
use crate::options::TlsFiles;

const MOST_CONNECTIONS: usize = 1_000;
/// For a handshake of TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// From the end of an answer to the end of the next request's headers.
const HEADERS: Duration = Duration::from_secs(60);
/// How long a client may take nothing of what is sent to it.
const PATIENCE: Duration = Duration::from_secs(300);
const MOST_HEADER_BYTES: usize = 64 << 10;

/// Certificates for connections that speak HTTP/1.1.
pub(crate) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor> {
    let broken =
        |e: &dyn std::fmt::Display| Error::invalid(format!("the certificate or its key cannot be used: {e}"));
    // Dependencies bring two providers; whoever asked first has chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certificates = |pem: &[u8]| {
        CertificateDer::pem_slice_iter(pem)
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(|e| broken(&e))
    };
    let key = PrivateKeyDer::from_pem_slice(&files.key).map_err(|e| broken(&e))?;
    let config = ServerConfig::builder();
    let config = match &files.client_authority {
        None => config.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(authority)? {
                roots.add(certificate).map_err(|e| broken(&e))?;
            }
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().map_err(|e| broken(&e))?;
            config.with_client_cert_verifier(verifier)
        }
    };
    let mut config =
        config.with_single_cert(certificates(&files.certificate)?, key).map_err(|e| broken(&e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves until `stop`; then lets every connection end the request that it is at.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    app: Arc<App>,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let next = AtomicU64::new(1);
    let router = app::router(Arc::clone(&app));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepted => accepted,
        };
        while connections.try_join_next().is_some() {}
        let Ok((stream, address)) = accepted else {
            // Out of file descriptors, or a client that went away: others will come.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let peer = Peer { connection: next.fetch_add(1, Ordering::Relaxed), address };
        let (tls, router, stop) = (tls.clone(), router.clone(), stop.clone());
        let open = app.metrics.connected(Protocol::Http);
        connections.spawn(async move {
            connect(stream, tls, peer, router, stop).await;
            drop((slot, open));
        });
    }
    while connections.join_next().await.is_some() {}
}

async fn connect(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    peer: Peer,
    router: Router,
    stop: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    match tls {
        None => talk(stream, peer, router, stop).await,
        // One that is no TLS has nobody to be told.
        Some(tls) => {
            if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
                talk(stream, peer, router, stop).await;
            }
        }
    }
}

async fn talk<S>(stream: S, peer: Peer, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(MOST_HEADER_BYTES)
        .serve_connection(TokioIo::new(Stalled::new(stream, PATIENCE)), service);
    tokio::pin!(connection);
    tokio::select! {
        // What is wrong with a connection is its client's to see.
        _ = &mut connection => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
