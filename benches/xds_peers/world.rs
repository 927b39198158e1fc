//! A domain with as many services and partners as one likes, as the mesh translates it.

use std::{net::SocketAddr, sync::Arc};

use certs::DomainKey;
use envoy::{AccessLog, ExternalProtocol, KeyMaterial, Settings, Translator};
use jiff::Timestamp;
use model::{Event, Index, Object, Snapshot};
use serde_json::{Value, json};
use xds::ResourceType;

use crate::common::proofs::proofs;
use crate::{Failure, file::Resource};

/// What changes in one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A service moves to another port.
    Endpoint,
    /// The gateway of another domain moves to another port.
    Cluster,
    /// The token that is sent to another domain is rolled.
    Route,
    /// The token that is accepted from another domain is rolled.
    Token,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Endpoint, Self::Cluster, Self::Route, Self::Token];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint: a service moves",
            Self::Cluster => "cluster: a partner's gateway moves",
            Self::Route => "route: the token sent to a partner is rolled",
            Self::Token => "token: the token accepted from a partner is rolled",
        }
    }
}

/// A change of the whole way from the event to Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// A service is new.
    ServiceAdded,
    /// A service moves to another port.
    EndpointMoved,
    /// The token that is sent to another domain is rolled.
    TokenSent,
    /// The token that is accepted from another domain is rolled.
    TokenAccepted,
    /// Another domain is new, with a way to it and a way from it.
    DomainAdded,
}

impl Step {
    pub(crate) const ALL: [Self; 5] =
        [Self::ServiceAdded, Self::EndpointMoved, Self::TokenSent, Self::TokenAccepted, Self::DomainAdded];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::ServiceAdded => "service added",
            Self::EndpointMoved => "endpoint moved",
            Self::TokenSent => "token to send rolled",
            Self::TokenAccepted => "token to accept rolled",
            Self::DomainAdded => "domain added, both ways",
        }
    }
}

/// Number of the port of every service, before it moves.
pub(crate) const SERVICE_PORT: usize = 20_000;
/// Number of the port of every partner's gateway, before it moves.
pub(crate) const GATEWAY_PORT: usize = 1080;

const OUTBOUND_TOKEN: u8 = 1;
const INBOUND_TOKEN: u8 = 2;
const ROLLED_TOKEN: u8 = 3;

/// The domain `alice`.
pub(crate) struct World {
    services: usize,
    key: DomainKey,
    index: Index,
    snapshot: Arc<Snapshot>,
    translator: Translator,
    keys: KeyMaterial,
}

impl World {
    /// Services `service-0` and so on, each at one address, and a tenth as many domains with a way to and from each.
    pub(crate) fn new(services: usize, internal: SocketAddr, external: SocketAddr) -> Result<Self, Failure> {
        let key = DomainKey::generate()?;
        let domain: model::DomainId = "alice".parse()?;
        let (authority_pem, keys) = proofs(&domain, &key)?;
        let settings = Settings {
            instance: "gateway".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            internal,
            external,
            external_protocol: ExternalProtocol::NoTls,
            authority_pem,
            handshake: SocketAddr::from(([127, 0, 0, 1], 1054)),
            access_log: AccessLog::Off,
            trusted_proxies: Vec::new(),
            tracing: None,
        };
        let mut world = Self {
            services,
            index: Index::new(domain.clone(), key.clone(), []),
            key,
            translator: Translator::new(&domain, settings),
            keys,
            snapshot: Arc::new(Snapshot::empty(domain)),
        };
        let mut objects = Vec::new();
        for number in 0..services {
            objects.extend([service_object(number)?, endpoints(number, SERVICE_PORT)?]);
        }
        for number in 0..world.domains() {
            objects.extend([
                world.outbound(number, GATEWAY_PORT, OUTBOUND_TOKEN)?,
                world.inbound(number, INBOUND_TOKEN)?,
            ]);
        }
        world.apply(objects)?;
        Ok(world)
    }

    pub(crate) fn resources(&self) -> Result<Vec<Resource>, Failure> {
        encoded(self.translator.translate(&self.snapshot, &self.keys))
    }

    /// The resources that a change of one thing changes, after it and as they were before.
    pub(crate) fn change(&mut self, kind: Kind) -> Result<[Vec<Resource>; 2], Failure> {
        let (service, partner) = (self.services / 2, self.domains() / 2);
        let (there, back) = match kind {
            Kind::Endpoint => (endpoints(service, SERVICE_PORT + 1)?, endpoints(service, SERVICE_PORT)?),
            Kind::Cluster => (
                self.outbound(partner, GATEWAY_PORT + 1, OUTBOUND_TOKEN)?,
                self.outbound(partner, GATEWAY_PORT, OUTBOUND_TOKEN)?,
            ),
            Kind::Route => (
                self.outbound(partner, GATEWAY_PORT, ROLLED_TOKEN)?,
                self.outbound(partner, GATEWAY_PORT, OUTBOUND_TOKEN)?,
            ),
            Kind::Token => (self.inbound(partner, ROLLED_TOKEN)?, self.inbound(partner, INBOUND_TOKEN)?),
        };
        Ok([self.apply([there])?, self.apply([back])?])
    }

    /// What changes when services move one after the other, round and round, `count` times in all.
    pub(crate) fn moves(&mut self, count: usize) -> Result<Vec<Resource>, Failure> {
        let mut moves = Vec::new();
        for round in 1.. {
            let moved: Result<Vec<_>, _> =
                (0..self.services).map(|number| endpoints(number, SERVICE_PORT + round)).collect();
            moves.extend(self.apply(moved?)?);
            if moves.len() >= count {
                break;
            }
        }
        moves.truncate(count);
        Ok(moves)
    }

    pub(crate) fn domains(&self) -> usize {
        self.services / 10
    }

    /// What has to be taken in for the change of this number. Other numbers give other objects.
    pub(crate) fn objects(&self, step: Step, number: usize) -> Result<Vec<Object>, Failure> {
        let (service, partner) = (self.services / 2, self.domains() / 2);
        let (new_service, new_partner) = (self.services + number, self.domains() + number);
        let token = ROLLED_TOKEN.wrapping_add(u8::try_from(number % 200)?);
        Ok(match step {
            Step::ServiceAdded => vec![service_object(new_service)?, endpoints(new_service, SERVICE_PORT)?],
            Step::EndpointMoved => vec![endpoints(service, SERVICE_PORT + 1 + number)?],
            Step::TokenSent => vec![self.outbound(partner, GATEWAY_PORT, token)?],
            Step::TokenAccepted => vec![self.inbound(partner, token)?],
            Step::DomainAdded => vec![
                self.outbound(new_partner, GATEWAY_PORT, OUTBOUND_TOKEN)?,
                self.inbound(new_partner, INBOUND_TOKEN)?,
            ],
        })
    }

    /// Takes objects in, and answers the resources that this changes.
    pub(crate) fn apply(
        &mut self,
        objects: impl IntoIterator<Item = Object>,
    ) -> Result<Vec<Resource>, Failure> {
        for object in objects {
            self.index.apply(Event::Apply(object));
        }
        let (Some(snapshot), _) = self.index.commit(Timestamp::UNIX_EPOCH) else { return Ok(Vec::new()) };
        if let Some((object, errors)) = snapshot.rejected.iter().next() {
            return Err(format!("{object}: {errors:?}").into());
        }
        let changes = self.translator.changes(&self.snapshot, &snapshot);
        self.snapshot = snapshot;
        encoded(changes.set)
    }

    fn outbound(&self, number: usize, port: usize, token: u8) -> Result<Object, Failure> {
        self.route("alice", &format!("domain-{number}"), port, token)
    }

    fn inbound(&self, number: usize, token: u8) -> Result<Object, Failure> {
        self.route(&format!("domain-{number}"), "alice", GATEWAY_PORT, token)
    }

    fn route(&self, source: &str, destination: &str, port: usize, token: u8) -> Result<Object, Failure> {
        let key = self.key.public_key();
        let route = object(
            "kuscia.secretflow/v1alpha1",
            "DomainRoute",
            &format!("{source}-{destination}"),
            json!({
                "spec": {
                    "source": source,
                    "destination": destination,
                    "endpoint": {
                        "host": "127.0.0.1",
                        "ports": [{"name": "http", "port": port, "protocol": "HTTP"}],
                    },
                    "authenticationType": "Token",
                    "tokenConfig": {
                        "tokenGenMethod": "RSA-GEN",
                        "sourcePublicKey": key.to_base64_pem(),
                        "destinationPublicKey": key.to_base64_pem(),
                    },
                },
                "status": {"tokenStatus": {
                    "revisionToken": {"revision": 1, "isReady": true, "token": key.seal(&[token; 32])?},
                }},
            }),
        );
        Ok(Object::DomainRoute(serde_json::from_value(route)?))
    }
}

fn service_object(number: usize) -> Result<Object, Failure> {
    let rest = json!({"spec": {"ports": [{"port": 80}]}});
    Ok(Object::Service(serde_json::from_value(object("v1", "Service", &service_name(number), rest))?))
}

fn endpoints(number: usize, port: usize) -> Result<Object, Failure> {
    let rest = json!({"subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": port}]}]});
    Ok(Object::Endpoints(serde_json::from_value(object("v1", "Endpoints", &service_name(number), rest))?))
}

pub(crate) fn service_name(number: usize) -> String {
    format!("service-{number}")
}

fn object(api_version: &str, kind: &str, name: &str, mut rest: Value) -> Value {
    rest["apiVersion"] = api_version.into();
    rest["kind"] = kind.into();
    rest["metadata"] = json!({"name": name, "namespace": "alice"});
    rest
}

fn encoded(resources: Vec<envoy::Resource>) -> Result<Vec<Resource>, Failure> {
    let encoded = |resource: envoy::Resource| {
        let ty = ResourceType::from_type_url(resource.type_url).ok_or(resource.type_url)?;
        Ok(Resource { ty, name: resource.name, body: resource.body.into() })
    };
    resources.into_iter().map(encoded).collect()
}
