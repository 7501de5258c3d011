//! Actions of Flight itself: cancelling, and the options and the end of a session.

use std::collections::HashMap;

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo,
};
use prost::Message;
use tonic::{Response, Status};

use super::gate::Caller;
use super::run::handle_of;
use super::service::FlightSql;
use crate::status;

const CANCEL: &str = "CancelFlightInfo";
const CLOSE: &str = "CloseSession";
const GET: &str = "GetSessionOptions";
const SET: &str = "SetSessionOptions";

/// A value of a session's option; the library has no messages for them.
#[derive(Clone, PartialEq, Message)]
struct OptionValue {
    #[prost(oneof = "Value", tags = "1, 2, 3, 4")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(sfixed64, tag = "3")]
    Integer(i64),
    #[prost(double, tag = "4")]
    Double(f64),
}

#[derive(Clone, PartialEq, Message)]
struct SetOptions {
    #[prost(map = "string, message", tag = "1")]
    options: HashMap<String, OptionValue>,
}

#[derive(Clone, PartialEq, Message)]
struct OptionError {
    /// 1: no such name, 2: no such value, 3: it cannot be set.
    #[prost(int32, tag = "1")]
    value: i32,
}

#[derive(Clone, PartialEq, Message)]
struct SetOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    errors: HashMap<String, OptionError>,
}

#[derive(Clone, PartialEq, Message)]
struct GetOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    options: HashMap<String, OptionValue>,
}

#[derive(Clone, PartialEq, Message)]
struct Closed {
    /// 1: closed.
    #[prost(int32, tag = "1")]
    status: i32,
}

pub(super) fn list() -> Vec<ActionType> {
    [
        (CANCEL, "Cancels a statement\nRequest: CancelFlightInfoRequest\nResponse: CancelFlightInfoResult"),
        (CLOSE, "Ends the session and rolls its transactions back\nResponse: CloseSessionResult"),
        (GET, "The catalog and the schema that names are looked up in\nResponse: GetSessionOptionsResult"),
        (SET, "Changes settings, as SET does\nRequest: SetSessionOptionsRequest\nResponse: SetSessionOptionsResult"),
    ]
    .map(|(name, description)| ActionType { r#type: name.to_owned(), description: description.to_owned() })
    .to_vec()
}

/// Cancels what a flight's ticket names.
pub(super) fn cancel(caller: &Caller, info: &FlightInfo) -> Result<CancelStatus, Status> {
    let handle = handle_of(info)?;
    if handle.done {
        return Ok(CancelStatus::NotCancellable);
    }
    match caller.session.cancel(&handle.id) {
        true => Ok(CancelStatus::Cancelled),
        false => Err(status::not_found("no such statement runs in the session")),
    }
}

pub(super) async fn run(
    service: &FlightSql,
    caller: &Caller,
    action: &Action,
) -> Result<Response<<FlightSql as FlightService>::DoActionStream>, Status> {
    let body = match action.r#type.as_str() {
        CANCEL => {
            let request = CancelFlightInfoRequest::decode(action.body.as_ref())
                .map_err(|_| status::invalid("the request cannot be read"))?;
            let info = request.info.ok_or_else(|| status::invalid("the request names no flight"))?;
            CancelFlightInfoResult::new(cancel(caller, &info)?).encode_to_vec()
        }
        CLOSE => {
            service.sessions.close(&caller.session);
            Closed { status: 1 }.encode_to_vec()
        }
        GET => options().encode_to_vec(),
        SET => {
            let request = SetOptions::decode(action.body.as_ref())
                .map_err(|_| status::invalid("the request cannot be read"))?;
            let mut errors = HashMap::new();
            for (name, value) in request.options {
                if let Some(error) = set(caller, &name, value.value).await {
                    errors.insert(name, OptionError { value: error });
                }
            }
            SetOptionsResult { errors }.encode_to_vec()
        }
        other => return Err(status::invalid(format!("there is no action {other:.100}"))),
    };
    let answer = arrow_flight::Result { body: body.into() };
    Ok(Response::new(Box::pin(futures::stream::iter([Ok(answer)]))))
}

fn options() -> GetOptionsResult {
    let text = |t: &str| OptionValue { value: Some(Value::Text(t.to_owned())) };
    let names = [("catalog", triune_query::CATALOG), ("schema", triune_query::DEFAULT_SCHEMA)];
    GetOptionsResult { options: names.map(|(n, v)| (n.to_owned(), text(v))).into() }
}

async fn set(caller: &Caller, name: &str, value: Option<Value>) -> Option<i32> {
    let text = match value {
        Some(Value::Text(text)) => text,
        Some(Value::Bool(b)) => b.to_string(),
        Some(Value::Integer(i)) => i.to_string(),
        Some(Value::Double(d)) => d.to_string(),
        None => return Some(2),
    };
    match name {
        "catalog" => return (text != triune_query::CATALOG).then_some(2),
        "schema" => return (text != triune_query::DEFAULT_SCHEMA).then_some(2),
        _ => {}
    }
    if !name
        .split('.')
        .all(|part| !part.is_empty() && part.chars().all(|c| c == '_' || c.is_ascii_alphanumeric()))
    {
        return Some(1);
    }
    let sql = format!("SET {name} = '{}'", text.replace('\'', "''"));
    match caller.session.session.execute(&sql).await {
        Ok(_) => None,
        Err(e) if e.kind() == triune_common::ErrorKind::NotFound => Some(1),
        Err(_) => Some(2),
    }
}
