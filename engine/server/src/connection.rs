//! A client's connection, which has a number and says when it ends.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tonic::Extensions;
use tonic::transport::server::{Connected, TlsConnectInfo};

use crate::metrics::OpenConnection;
use crate::sessions::Sessions;

/// What a request knows of its connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    /// Unlike any other connection of the process.
    pub(crate) connection: u64,
    pub(crate) address: SocketAddr,
}

impl Peer {
    pub(crate) fn of(extensions: &Extensions) -> Option<Self> {
        extensions
            .get::<Self>()
            .or_else(|| extensions.get::<TlsConnectInfo<Self>>().map(TlsConnectInfo::get_ref))
            .copied()
    }
}

/// Ends what belongs to the connection when it does.
#[derive(Debug)]
struct Ending {
    peer: Peer,
    sessions: Arc<Sessions>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.sessions.connection_ended(self.peer.connection);
    }
}

#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    ending: Ending,
    _open: OpenConnection,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, peer: Peer, sessions: Arc<Sessions>, open: OpenConnection) -> Self {
        // A small answer must not wait for a larger one.
        let _ = stream.set_nodelay(true);
        Self { stream, ending: Ending { peer, sessions }, _open: open }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.ending.peer
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
