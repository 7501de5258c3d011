//! Clients that send what no client should.

use arrow_flight::sql::{Any, CommandStatementQuery, ProstMessageExt, TicketStatementQuery};
use arrow_flight::{Action, FlightData, FlightDescriptor, Ticket};
use prost::Message;
use tonic::{Code, Request};

use crate::served::{Served, number, query};

#[tokio::test]
async fn broken_messages_and_wrong_tickets() {
    let served = Served::in_memory();
    let mut client = served.client().await;
    let raw = client.inner_mut();
    let unknown = Any { type_url: "type.googleapis.com/no.such.Message".into(), value: vec![1, 2, 3].into() };
    let broken_inside = Any {
        type_url: "type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery".into(),
        value: vec![0xff; 40].into(),
    };
    let foreign = TicketStatementQuery { statement_handle: vec![0xfe; 30].into() };
    let empty = TicketStatementQuery { statement_handle: vec![].into() };
    let bodies: [Vec<u8>; 7] = [
        vec![],
        vec![0xff; 100],
        b"SELECT 1".to_vec(),
        unknown.encode_to_vec(),
        broken_inside.encode_to_vec(),
        foreign.as_any().encode_to_vec(),
        empty.as_any().encode_to_vec(),
    ];
    for body in bodies {
        let wrong = |code: Code| matches!(code, Code::InvalidArgument | Code::Unimplemented | Code::NotFound);
        let status = raw.get_flight_info(FlightDescriptor::new_cmd(body.clone())).await.unwrap_err();
        assert!(wrong(status.code()), "{status}");
        let status = raw.do_get(Ticket::new(body.clone())).await.map(|_| ()).unwrap_err();
        assert!(wrong(status.code()), "{status}");
        let status = raw.get_schema(FlightDescriptor::new_cmd(body.clone())).await.unwrap_err();
        assert!(wrong(status.code()), "{status}");
        let data = FlightData::new().with_descriptor(FlightDescriptor::new_cmd(body.clone()));
        let status = raw.do_put(futures::stream::iter([data])).await.map(|_| ()).unwrap_err();
        assert!(wrong(status.code()), "{status}");
        for kind in [
            "CreatePreparedStatement",
            "BeginTransaction",
            "EndTransaction",
            "CancelQuery",
            "CancelFlightInfo",
            "NoSuch",
        ] {
            let status = raw.do_action(Action::new(kind, body.clone())).await.map(|_| ());
            // An empty message may be a complete one.
            assert!(
                status.as_ref().is_ok() || status.as_ref().is_err_and(|s| wrong(s.code()) || body.is_empty()),
                "{kind} {status:?}"
            );
        }
    }
    let status = raw.do_put(futures::stream::iter([FlightData::new()])).await.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    // A ticket of another session's transaction, and statements that no longer exist.
    let ticket =
        TicketStatementQuery { statement_handle: b"\x0a\x01x\x12\x08SELECT 1\x1a\x02no".to_vec().into() };
    let status = raw.do_get(Ticket::new(ticket.as_any().encode_to_vec())).await.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status}");
    // The text of a ticket is a statement like any other; one that writes is not run by it.
    let ticket = TicketStatementQuery {
        statement_handle: b"\x0a\x01x\x12\x12CREATE TABLE t (x INT)"[..24].to_vec().into(),
    };
    assert!(raw.do_get(Ticket::new(ticket.as_any().encode_to_vec())).await.is_err());
    assert_eq!(number(&mut client, "SELECT 1").await, 1);
}

#[tokio::test]
async fn huge_headers_and_messages() {
    let served = Served::in_memory();
    let mut client = served.client().await;
    let query_of = |sql: String| {
        let command = CommandStatementQuery { query: sql, transaction_id: None };
        FlightDescriptor::new_cmd(command.as_any().encode_to_vec())
    };
    let mut request = Request::new(query_of("SELECT 1".into()));
    for n in 0..20 {
        let key: tonic::metadata::MetadataKey<tonic::metadata::Ascii> = format!("x-{n}").parse().unwrap();
        request.metadata_mut().insert(key, "x".repeat(16 << 10).parse().unwrap());
    }
    assert!(client.inner_mut().get_flight_info(request).await.is_err());
    // The connection may be gone; the server is not.
    let mut client = served.client().await;
    let status = client.inner_mut().get_flight_info(query_of(" ".repeat(80 << 20))).await.unwrap_err();
    assert!(
        matches!(
            status.code(),
            Code::OutOfRange | Code::ResourceExhausted | Code::Internal | Code::Unavailable
        ),
        "{status}"
    );
    let mut client = served.client().await;
    let error =
        query(&mut client, &format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000))).await.unwrap_err();
    assert!(error.contains("SQLSTATE"), "{error}");
    let error = query(&mut client, &format!("SELECT \"{}\"", "x".repeat(1 << 20))).await.unwrap_err();
    assert!(error.len() < 10_000, "{}", error.len());
    assert_eq!(number(&mut client, "SELECT 1").await, 1);
}
