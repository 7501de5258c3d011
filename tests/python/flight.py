"""pyarrow's Flight client: no SQL of its own, plain messages."""
import sys

import pyarrow as pa
import pyarrow.flight as flight

client = flight.FlightClient("grpc://" + sys.argv[1])


def field(number, data):
    assert len(data) < 128
    return bytes([number << 3 | 2, len(data)]) + data


def command(name, body=b""):
    return field(1, b"type.googleapis.com/arrow.flight.protocol.sql." + name) + (field(2, body) if body else b"")


def query(sql, options=None):
    descriptor = flight.FlightDescriptor.for_command(command(b"CommandStatementQuery", field(1, sql.encode())))
    info = client.get_flight_info(descriptor, options)
    return client.do_get(info.endpoints[0].ticket, options).read_all()


assert query("SELECT 1 AS a, [1, 2] AS l").to_pylist() == [{"a": 1, "l": [1, 2]}]
token = client.authenticate_basic_token("", "")
options = flight.FlightCallOptions(headers=[token])
query("CREATE TEMP TABLE mine AS SELECT 5 AS x", options)
assert query("SELECT x FROM mine", options).to_pylist() == [{"x": 5}]
try:
    query("SELECT x FROM mine")
except pa.ArrowException as error:
    assert "mine" in str(error), error
else:
    raise AssertionError("somebody else's table")

descriptor = flight.FlightDescriptor.for_command(command(b"CommandGetTables"))
info = client.get_flight_info(descriptor)
names = client.do_get(info.endpoints[0].ticket).read_all().schema.names
assert names == ["catalog_name", "db_schema_name", "table_name", "table_type"], names
descriptor = flight.FlightDescriptor.for_command(command(b"CommandStatementQuery", field(1, b"SELECT 1 AS a, 'x' AS b")))
assert client.get_schema(descriptor).schema.names == ["a", "b"]
assert any(a.type == "BeginTransaction" for a in client.list_actions())
assert list(client.list_flights()) == []

limited = flight.FlightCallOptions(timeout=0.3)
try:
    query("SELECT count(*) FROM range(10000000) AS a(x), range(10000000) AS b(y) WHERE x * y % 7 = 3", limited)
except flight.FlightTimedOutError:
    pass
else:
    raise AssertionError("no end was expected")
rows = sum(chunk.data.num_rows for chunk in client.do_get(client.get_flight_info(flight.FlightDescriptor.for_command(
    command(b"CommandStatementQuery", field(1, b"SELECT x FROM range(300000) AS t(x)")))).endpoints[0].ticket))
assert rows == 300000, rows
print("ok")
