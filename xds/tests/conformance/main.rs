//! The server with clients of other people's making: Envoy itself, and gRPC's own xDS client.
//!
//! Each test has a server, clients and upstreams of its own, so all run side by side. What the clients hold is read
//! from traffic through them and from what they say about themselves, and compared with what the server believes.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]
#![allow(clippy::print_stderr, reason = "whoever waits for a download is told so")]

/// Makes each scene a test in each way to ask.
macro_rules! in_every_dialect {
    ($($scene:ident)*) => {$(
        mod $scene {
            use crate::support::resources::Dialect;

            #[tokio::test]
            async fn by_delta() {
                super::$scene(Dialect::DELTA).await;
            }

            #[tokio::test]
            async fn by_delta_with_a_stream_per_type() {
                super::$scene(Dialect::DELTA_PER_TYPE).await;
            }

            #[tokio::test]
            async fn by_state_of_the_world() {
                super::$scene(Dialect::WORLD).await;
            }

            #[tokio::test]
            async fn by_state_of_the_world_with_a_stream_per_type() {
                super::$scene(Dialect::WORLD_PER_TYPE).await;
            }
        }
    )*};
}

mod grpc;
mod isolation;
mod on_demand;
mod restart;
mod support;
mod tools;
mod types;
mod views;
