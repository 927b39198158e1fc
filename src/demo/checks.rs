//! What the demo tries, each returning one line to show.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr as _;
use std::time::Duration;

use ::http::{HeaderMap, HeaderValue, Response, StatusCode};
use bytes::Bytes;
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use proto::echo::EchoRequest;
use proto::echo::echo_client::EchoClient;
use tokio::net::UdpSocket;
use tokio::time::timeout;
use tonic::transport::Endpoint;

use super::DemoError;
use crate::harness::domain::Domain;
use crate::harness::echo::Echoed;

const DNS_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks the domain's DNS for `host`.
pub(super) async fn resolve(domain: &Domain, host: &str) -> Result<IpAddr, DemoError> {
    let unexpected =
        |what: &dyn std::fmt::Display| DemoError::Unexpected(format!("{}'s DNS: {what}", domain.name));
    let name = Name::from_str(&format!("{host}.")).map_err(|error| unexpected(&error))?;
    let mut query = Message::query();
    query.add_query(Query::query(name, RecordType::A));
    let query = query.to_vec().map_err(|error| unexpected(&error))?;
    let socket = UdpSocket::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    socket.connect(domain.addresses.dns).await?;
    socket.send(&query).await?;
    let mut buffer = [0; 512];
    let size =
        timeout(DNS_TIMEOUT, socket.recv(&mut buffer)).await.map_err(|_| unexpected(&"no answer"))??;
    let answer = Message::from_vec(&buffer[..size]).map_err(|error| unexpected(&error))?;
    let addresses = answer.answers.iter().filter_map(|record| match &record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        _ => None,
    });
    let gateway = domain.addresses.internal.ip();
    match addresses.collect::<Vec<_>>().as_slice() {
        [address] if *address == gateway => Ok(*address),
        other => Err(unexpected(&format!("{host} is {other:?}, not the gateway {gateway}"))),
    }
}

/// Calls the echo service of `destination` as an application of `source`.
pub(super) async fn call_http(source: &Domain, destination: &Domain) -> Result<String, DemoError> {
    let url = format!("http://echo.{}.svc/hello?from={}", destination.name, source.name);
    let response = source.call(&url).await?;
    expect_status(&response, StatusCode::OK)?;
    let echoed: Echoed =
        serde_json::from_slice(response.body()).map_err(crate::harness::domain::Error::Json)?;
    let expected = format!("echo.{}", destination.name);
    let seen_source = echoed.headers.get("kuscia-source").map(String::as_str);
    if echoed.service != expected || seen_source != Some(source.name.as_str()) {
        return Err(DemoError::Unexpected(format!("{url} answered {echoed:?}")));
    }
    if echoed.headers.contains_key("kuscia-token") {
        return Err(DemoError::Unexpected("the service was shown the token".to_owned()));
    }
    Ok(format!("{} saw {} {} from {}", echoed.service, echoed.method, echoed.path, source.name))
}

/// The same over gRPC.
pub(super) async fn call_grpc(source: &Domain, destination: &Domain) -> Result<String, DemoError> {
    let failed = |error: &dyn std::fmt::Display| {
        DemoError::Unexpected(format!("gRPC from {} to {}: {error}", source.name, destination.name))
    };
    let origin = format!("http://echo.{}.svc", destination.name).parse().map_err(|error| failed(&error))?;
    let gateway = Endpoint::try_from(format!("http://{}", source.addresses.internal));
    let channel = gateway.map_err(|error| failed(&error))?.origin(origin).connect().await;
    let mut client = EchoClient::new(channel.map_err(|error| failed(&error))?);
    let request = EchoRequest { message: format!("hello from {}", source.name) };
    let response = client.say(request).await.map_err(|status| failed(&status))?.into_inner();
    Ok(format!("{} says {:?}", response.service, response.message))
}

/// Calls `destination` with alice's name and a token of zeros.
pub(super) async fn forge(destination: &Domain) -> Result<String, DemoError> {
    let mut headers = HeaderMap::new();
    let host = format!("echo.{}.svc", destination.name);
    headers.insert(
        "host",
        HeaderValue::try_from(&host).map_err(|error| DemoError::Unexpected(error.to_string()))?,
    );
    headers.insert("kuscia-host", headers["host"].clone());
    headers.insert("kuscia-source", HeaderValue::from_static("alice"));
    headers.insert("kuscia-token", HeaderValue::from_static("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="));
    let response = destination.call_from_outside("/hello", headers).await?;
    expect_status(&response, StatusCode::UNAUTHORIZED)?;
    Ok(shown(&response))
}

/// Calls a service that `destination` does not have.
pub(super) async fn call_unknown(source: &Domain, destination: &Domain) -> Result<String, DemoError> {
    let response = source.call(&format!("http://nobody.{}.svc/", destination.name)).await?;
    expect_status(&response, StatusCode::NOT_FOUND)?;
    let message = response.headers().get("kuscia-error-message").and_then(|value| value.to_str().ok());
    let message = message
        .ok_or_else(|| DemoError::Unexpected("the error does not say where it happened".to_owned()))?;
    Ok(format!("{} {message}", response.status().as_u16()))
}

fn expect_status(response: &Response<Bytes>, expected: StatusCode) -> Result<(), DemoError> {
    if response.status() == expected {
        return Ok(());
    }
    let headers = response.headers();
    Err(DemoError::Unexpected(format!("expected {expected}, got {}; headers: {headers:?}", shown(response))))
}

fn shown(response: &Response<Bytes>) -> String {
    format!("{} {}", response.status().as_u16(), String::from_utf8_lossy(response.body()).trim())
}
