//! Wire messages of the handshake and the BFIA transport.

pub mod handshake;

/// The gRPC echo service `networkmesh.echo.v1.Echo`, which the demo and the tests call through two gateways.
#[allow(missing_docs, unused_qualifications, clippy::all, reason = "generated code")]
pub mod echo {
    tonic::include_proto!("networkmesh.echo.v1");
}
