//! The `Gateway` object of this gateway.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use model::HEARTBEAT_PERIOD;
use model::api::{Gateway, GatewayStatus, Time};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{FIELD_MANAGER, tell, words};
use crate::app::Identity;
use crate::program::Gateways;

/// When a heartbeat that could not be written is tried again. Two of these fit into one period, so that a short outage
/// costs none.
const RETRY: Duration = Duration::from_secs(5);

/// How long a heartbeat may take to be written. One that hangs must not cost those that come after it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which gateway says that it is alive, and where.
pub(crate) struct Heart {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) identity: Identity,
    /// The address at which partners reach this gateway's Envoy, unless that listens on all.
    pub(crate) address: IpAddr,
}

/// Writes the heartbeat of this gateway every 15 seconds while an Envoy is connected, until `shutdown`. Tells
/// `problem` why it cannot.
///
/// A gateway without an Envoy serves nothing: nobody has to wait until it accepts a token. The object stays when the
/// mesh ends, for its Envoy goes on; whoever misses the heartbeats knows when it is gone.
pub(crate) async fn beat(
    heart: Heart,
    gateways: Gateways,
    problem: watch::Sender<Option<String>>,
    shutdown: CancellationToken,
) {
    let api: Api<Gateway> = Api::namespaced(heart.client.clone(), &heart.namespace);
    let started = Time(Timestamp::now());
    let mut clients = gateways.clients.changes();
    let mut ticks = interval(RETRY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut written: Option<Instant> = None;
    loop {
        clients.borrow_and_update();
        let is_connected = !gateways.clients.is_empty();
        let is_due = written.is_none_or(|written| written.elapsed() >= HEARTBEAT_PERIOD - RETRY / 2);
        if is_connected && is_due {
            let beaten = tokio::select! {
                () = shutdown.cancelled() => return,
                beaten = heart.write(&api, &started) => beaten,
            };
            written = beaten.is_ok().then(Instant::now);
            let cannot = |words| format!("the heartbeat of this gateway cannot be written: {words}");
            tell(&problem, beaten.err().map(cannot));
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            // The first heartbeat comes before Envoy takes requests.
            _ = clients.changed(), if !is_connected => {}
            _ = ticks.tick() => {}
        }
    }
}

impl Heart {
    /// Writes a heartbeat, or answers why it cannot.
    async fn write(&self, api: &Api<Gateway>, started: &Time) -> Result<(), String> {
        match timeout(PATIENCE, self.apply(api, started)).await {
            Ok(applied) => applied.map_err(|error| words(&error, "write gateways")),
            Err(_elapsed) => Err("the API server does not answer in time".to_owned()),
        }
    }

    async fn apply(&self, api: &Api<Gateway>, started: &Time) -> Result<(), kube::Error> {
        let name = &self.identity.instance;
        let status = GatewayStatus {
            address: address(self.address).to_string(),
            uptime: Some(started.clone()),
            heartbeat_time: Some(Time(Timestamp::now())),
            public_key: self.identity.key.public_key().to_base64_pem(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            network_status: Vec::new(),
        };
        let object = json!({
            "apiVersion": "kuscia.secretflow/v1alpha1",
            "kind": "Gateway",
            "metadata": {"name": name},
        });
        let mut with_status = object.clone();
        with_status["status"] = json!(status);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        match api.patch_status(name, &params, &Patch::Apply(&with_status)).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                api.patch(name, &params, &Patch::Apply(&object)).await?;
                api.patch_status(name, &params, &Patch::Apply(&with_status)).await?;
                info!(name, namespace = self.namespace, "this gateway is registered");
                Ok(())
            }
            written => written.map(drop),
        }
    }
}

/// The address `configured`, or where that is none, the one from which this machine would call others.
fn address(configured: IpAddr) -> IpAddr {
    if !configured.is_unspecified() {
        return configured;
    }
    // An address for documentation; nothing is sent.
    let route = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    route.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}

#[cfg(test)]
mod tests {
    use certs::DomainKey;
    use kube::client::Body;
    use tower::service_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_answer_holds_up_one_heartbeat_and_not_the_next() {
        let hangs = service_fn(|_: http::Request<Body>| {
            std::future::pending::<Result<http::Response<Body>, std::io::Error>>()
        });
        let client = Client::new(hangs, "alice");
        let identity = Identity {
            domain: "alice".parse().expect("an ID"),
            instance: "alice-0".to_owned(),
            key: DomainKey::generate().expect("a key"),
        };
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let heart = Heart { client: client.clone(), namespace: "alice".to_owned(), identity, address };
        let began = Instant::now();
        let written = heart.write(&Api::namespaced(client, "alice"), &Time(Timestamp::now())).await;
        assert!(written.is_err_and(|words| words.contains("does not answer in time")));
        assert!(began.elapsed() < HEARTBEAT_PERIOD);
    }
}
