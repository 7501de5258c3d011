//! What happens to every call before its method: credentials, session, time limit.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::Schema;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, BasicAuth, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaAsIpc, SchemaResult, Ticket,
};
use futures::Stream;
use prost::Message;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Request, Response, Status, Streaming};
use triune_query::Database;

use super::service::FlightSql;
use crate::auth::{self, Credentials, Door, Guest, log_in_wanted};
use crate::connection::Peer;
use crate::options::{Compression, ServerOptions};
use crate::sessions::{Active, ClientSession, Sessions};
use crate::status;
use crate::stream::Limit;

/// What a method knows of its caller.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) session: Arc<ClientSession>,
    pub(crate) limit: Limit,
    pub(crate) compression: Compression,
    /// Until the request is done the session is in use.
    _active: Arc<Active>,
}

/// The service that the transport calls.
#[derive(Debug)]
pub(crate) struct Gate {
    inner: FlightSql,
    sessions: Arc<Sessions>,
    door: Arc<Door>,
    options: Arc<ServerOptions>,
}

type Stream_<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send + 'static>>;

impl Gate {
    pub(crate) fn new(
        database: Arc<Database>,
        sessions: Arc<Sessions>,
        door: Arc<Door>,
        options: Arc<ServerOptions>,
    ) -> Self {
        Self { inner: FlightSql::new(database, Arc::clone(&sessions)), sessions, door, options }
    }

    /// Finds the session of a request and puts the caller beside it; a cookie to set, where the session is new.
    async fn enter<T>(
        &self,
        request: &mut Request<T>,
    ) -> Result<Option<MetadataValue<tonic::metadata::Ascii>>, Status> {
        let peer = peer(request)?;
        let metadata = request.metadata();
        let cookie = auth::cookie(metadata);
        let guest = self.door.admit(Credentials::of(metadata), peer.address.ip()).await?;
        let (session, tell) = match guest {
            Guest::Session(session) => (session, false),
            Guest::Principal(principal) => {
                self.sessions.of_client(principal, cookie.as_deref(), peer.connection)?
            }
        };
        let limit = Limit::new(client_timeout(metadata), self.options.query_timeout);
        let compression = match metadata.get("x-triune-compression") {
            None => self.options.compression,
            Some(value) => value
                .to_str()
                .map_err(|_| status::invalid("the compression cannot be read"))?
                .parse()
                .map_err(status::of_error)?,
        };
        let cookie = if tell {
            let text = format!("{}={}; HttpOnly; SameSite=Strict", auth::COOKIE, session.id);
            MetadataValue::try_from(text).ok()
        } else {
            None
        };
        let active = Arc::new(session.active());
        request.extensions_mut().insert(Caller { session, limit, compression, _active: active });
        Ok(cookie)
    }

    /// `Basic` credentials in the header or the first message become a bearer token.
    async fn log_in(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Stream_<HandshakeResponse>>, Status> {
        let peer = peer(&request)?;
        let mut credentials = Credentials::of(request.metadata());
        let mut protocol_version = 0;
        if matches!(credentials, Credentials::None) {
            let message = tokio::time::timeout(Duration::from_secs(10), request.into_inner().message()).await;
            if let Ok(Ok(Some(first))) = message {
                protocol_version = first.protocol_version;
                if let Ok(basic) = BasicAuth::decode(first.payload.as_ref())
                    && !basic.username.is_empty()
                {
                    credentials = Credentials::Basic { user: basic.username, password: basic.password };
                }
            }
        }
        // A session that a token is traded for would outlive it: the token goes on being asked for.
        let mut own = None;
        let principal = match credentials {
            Credentials::Basic { user, password } if self.door.must_log_in() => {
                self.door.of_password(&user, &password, peer.address.ip()).await?
            }
            Credentials::Bearer(token) => {
                let principal = self.door.of_token(&token)?;
                own = Some(token);
                principal
            }
            Credentials::Basic { .. } | Credentials::None if !self.door.must_log_in() => Sessions::anybody(),
            _ => return Err(log_in_wanted()),
        };
        let token = match own {
            Some(token) => token,
            None => self.sessions.log_in(principal)?.0,
        };
        let answer = HandshakeResponse { protocol_version, payload: token.clone().into() };
        let mut response =
            Response::new(Box::pin(futures::stream::iter([Ok(answer)])) as Stream_<HandshakeResponse>);
        let header = MetadataValue::try_from(format!("Bearer {token}"))
            .map_err(|_| Status::internal("the token cannot be sent (SQLSTATE XX000)"))?;
        response.metadata_mut().insert("authorization", header);
        Ok(response)
    }
}

fn peer<T>(request: &Request<T>) -> Result<Peer, Status> {
    Peer::of(request.extensions())
        .ok_or_else(|| Status::internal("a request without a connection (SQLSTATE XX000)"))
}

/// `grpc-timeout: 500m`
fn client_timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if number.is_empty() || number.len() > 8 {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The library says "internal" where a client sent nonsense.
fn blame_client(status: Status) -> Status {
    let message = status.message();
    if status.code() == Code::Internal && message.contains("ParseError") {
        return status::invalid(format!("the message cannot be read: {message}"));
    }
    status
}

fn with_cookie<T>(
    response: Result<Response<T>, Status>,
    cookie: Option<MetadataValue<tonic::metadata::Ascii>>,
) -> Result<Response<T>, Status> {
    let mut response = response.map_err(blame_client)?;
    if let Some(cookie) = cookie {
        response.metadata_mut().insert("set-cookie", cookie);
    }
    Ok(response)
}

#[tonic::async_trait]
impl FlightService for Gate {
    type HandshakeStream = Stream_<HandshakeResponse>;
    type ListFlightsStream = Stream_<FlightInfo>;
    type DoGetStream = Stream_<FlightData>;
    type DoPutStream = Stream_<PutResult>;
    type DoActionStream = Stream_<arrow_flight::Result>;
    type ListActionsStream = Stream_<ActionType>;
    type DoExchangeStream = Stream_<FlightData>;

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        self.log_in(request).await
    }

    async fn list_flights(
        &self,
        mut request: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        let cookie = self.enter(&mut request).await?;
        // There are no flights but those that a client describes by SQL.
        let none: Self::ListFlightsStream = Box::pin(futures::stream::empty());
        with_cookie(Ok(Response::new(none)), cookie)
    }

    async fn get_flight_info(
        &self,
        mut request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let cookie = self.enter(&mut request).await?;
        with_cookie(FlightService::get_flight_info(&self.inner, request).await, cookie)
    }

    async fn poll_flight_info(
        &self,
        mut request: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        let cookie = self.enter(&mut request).await?;
        let info = FlightService::get_flight_info(&self.inner, request).await;
        // What is begun is ready to be fetched: there is nothing to poll for.
        with_cookie(info.map(|info| info.map(|info| PollInfo::new().with_info(info))), cookie)
    }

    async fn get_schema(
        &self,
        mut request: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        let cookie = self.enter(&mut request).await?;
        let schema = self.inner.schema_of(request).await;
        with_cookie(schema.and_then(|s| schema_result(&s)).map(Response::new), cookie)
    }

    async fn do_get(&self, mut request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let cookie = self.enter(&mut request).await?;
        with_cookie(FlightService::do_get(&self.inner, request).await, cookie)
    }

    async fn do_put(
        &self,
        mut request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        let cookie = self.enter(&mut request).await?;
        with_cookie(FlightService::do_put(&self.inner, request).await, cookie)
    }

    async fn list_actions(
        &self,
        mut request: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        let cookie = self.enter(&mut request).await?;
        with_cookie(FlightService::list_actions(&self.inner, request).await, cookie)
    }

    async fn do_action(
        &self,
        mut request: Request<Action>,
    ) -> Result<Response<Self::DoActionStream>, Status> {
        let cookie = self.enter(&mut request).await?;
        with_cookie(FlightService::do_action(&self.inner, request).await, cookie)
    }

    async fn do_exchange(
        &self,
        mut request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        self.enter(&mut request).await?;
        Err(status::of_error(triune_common::Error::unsupported("DoExchange is not supported")))
    }
}

fn schema_result(schema: &Schema) -> Result<SchemaResult, Status> {
    let options = IpcWriteOptions::default();
    SchemaAsIpc::new(schema, &options)
        .try_into()
        .map_err(|e: arrow::error::ArrowError| status::of_error(e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_time_is_read() {
        let of = |text: &'static str| {
            let mut map = MetadataMap::new();
            map.insert("grpc-timeout", text.parse().unwrap());
            client_timeout(&map)
        };
        assert_eq!(of("1S"), Some(Duration::from_secs(1)));
        assert_eq!(of("250m"), Some(Duration::from_millis(250)));
        for bad in ["", "S", "1", "-1S", "1x", "123456789S"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
