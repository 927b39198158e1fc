//! Manifests in the form that Kuscia documents and writes.

use networkmesh_model::{Document, Object, read_manifests};

use crate::support::{listed, object};

fn read(text: &str) -> (Vec<Object>, Vec<String>) {
    let mut objects = Vec::new();
    let mut unknown = Vec::new();
    for document in read_manifests(text, "alice").unwrap() {
        let Document::Read { object, unknown_fields } = document else { panic!("{document:?}") };
        objects.push(object);
        unknown.extend(unknown_fields);
    }
    (objects, unknown)
}

#[test]
fn a_domain_with_settings_of_other_parts_is_read() {
    let (objects, unknown) = read(
        "
apiVersion: kuscia.secretflow/v1alpha1
kind: Domain
metadata:
  name: bob
  annotations: {kuscia.secretflow/note: x}
spec:
  role: partner
  master: bob
  interConnProtocols: [kuscia, bfia]
  authCenter:
    authenticationType: Token
    tokenGenMethod: UID-RSA-GEN
  resourceQuota:
    podMaxCount: 100
status:
  nodeStatuses:
  - {name: node, status: Ready, version: v0.1.0}
  deployTokenStatuses:
  - {state: unused, token: abc}
",
    );
    assert_eq!(objects[0].reference().to_string(), "Domain bob");
    assert_eq!(objects[0].check(), Ok(()));
    let of_status = ["status.deployTokenStatuses", "status.nodeStatuses"];
    assert_eq!(unknown, [&["spec.authCenter", "spec.master", "spec.resourceQuota"], &of_status[..]].concat());
}

#[test]
fn a_route_with_its_status_is_read() {
    let (objects, unknown) = read("
apiVersion: kuscia.secretflow/v1alpha1
kind: DomainRoute
metadata:
  creationTimestamp: '2023-03-30T12:02:30Z'
  generation: 3
  labels:
    kuscia.secretflow/clusterdomainroute-destination: bob
    kuscia.secretflow/clusterdomainroute-source: alice
  name: alice-bob
  namespace: alice
  ownerReferences:
  - {apiVersion: kuscia.secretflow/v1alpha1, blockOwnerDeletion: true, controller: true, kind: ClusterDomainRoute, name: alice-bob, uid: 46ba5d19}
  resourceVersion: '1077'
  uid: 7eecf4f7
spec:
  authenticationType: Token
  source: alice
  destination: bob
  interConnProtocol: kuscia
  endpoint:
    host: 172.18.0.3
    ports:
    - {name: http, port: 1080, protocol: HTTP, isTLS: true, pathPrefix: /gateway}
  tokenConfig:
    rollingUpdatePeriod: 86400
    tokenGenMethod: RSA-GEN
status:
  isDestinationAuthorized: true
  isDestinationUnreachable: false
  tokenStatus:
    revisionInitializer: 4c07d28fe469
    revisionToken:
      expirationTime: null
      heartBeatTime: '2023-03-30T12:05:32Z'
      isReady: true
      revision: 2
      revisionTime: '2023-03-30T12:02:32Z'
      token: c2VhbGVk
    tokens:
    - effectiveInstances: [4c07d28fe469]
      expirationTime: '2023-04-30T12:02:32Z'
      heartBeatTime: null
      isReady: true
      revision: 1
      revisionTime: '2023-03-29T12:02:32Z'
      token: c2VhbGVk
");
    assert_eq!((objects[0].check(), unknown), (Ok(()), vec![]));
    let Object::DomainRoute(route) = &objects[0] else { panic!("{objects:?}") };
    let status = route.status.as_ref().unwrap();
    assert!(status.is_destination_authorized);
    assert_eq!(status.token_status.revision_token.revision, 2);
    assert_eq!(status.token_status.tokens[0].effective_instances, ["4c07d28fe469"]);
}

#[test]
fn a_cluster_route_with_its_status_is_read() {
    let (objects, unknown) = read("
apiVersion: kuscia.secretflow/v1alpha1
kind: ClusterDomainRoute
metadata:
  name: alice-bob
spec:
  authenticationType: Token
  source: alice
  destination: bob
  endpoint:
    host: 172.2.0.2
    ports:
    - {name: http, port: 1080, protocol: HTTP, isTLS: false}
    - {name: grpc, port: 1081, protocol: GRPC, isTLS: true}
  tokenConfig:
    rollingUpdatePeriod: 0
    tokenGenMethod: RSA-GEN
status:
  conditions:
  - {type: Ready, status: 'True', reason: PostRollingUpdate, message: finished, lastTransitionTime: '2023-03-30T12:02:33Z', lastUpdateTime: '2023-03-30T12:02:33Z'}
  endpointStatuses:
    root-kuscia-autonomy-alice: {endpointHealthy: true}
  tokenStatus:
    revision: 1
    revisionTime: '2023-03-30T12:02:32Z'
    sourceTokens: [{isReady: true, revision: 1, token: c2VhbGVk}]
    destinationTokens: [{isReady: true, revision: 1, token: c2VhbGVk}]
");
    assert_eq!(objects[0].check(), Ok(()));
    assert_eq!(unknown, ["status.conditions[0].lastUpdateTime"]);
    let Object::ClusterDomainRoute(route) = &objects[0] else { panic!("{objects:?}") };
    assert_eq!(route.spec.route.endpoint.ports.len(), 2);
    assert!(route.status.as_ref().unwrap().endpoint_statuses["root-kuscia-autonomy-alice"].endpoint_healthy);

    let expanded = networkmesh_model::expand_cluster_route(route, "bob");
    assert_eq!(expanded.spec, route.spec.route);
    assert_eq!(expanded.metadata.namespace.as_deref(), Some("bob"));
    let labels = expanded.metadata.labels.unwrap();
    assert_eq!(labels["kuscia.secretflow/clusterdomainroute-source"], "alice");
    assert_eq!(labels["kuscia.secretflow/clusterdomainroute-destination"], "bob");
}

#[test]
fn a_gateway_without_a_spec_is_read() {
    let (objects, unknown) = read(
        "
apiVersion: kuscia.secretflow/v1alpha1
kind: Gateway
metadata: {name: host-1, namespace: alice}
status:
  address: 172.18.0.2
  heartbeatTime: '2023-03-30T12:02:33Z'
  networkStatus:
  - {healthyEndpointsCount: 1, name: alice-to-bob-HTTP, totalEndpointsCount: 1, type: DomainRoute}
  publicKey: abc
  uptime: '2023-03-30T11:00:00Z'
  version: v0.13.0
",
    );
    assert_eq!(unknown, [""; 0]);
    let Object::Gateway(gateway) = &objects[0] else { panic!("{objects:?}") };
    assert_eq!(gateway.status.as_ref().unwrap().network_status[0].type_, "DomainRoute");
}

#[test]
fn a_route_that_wants_everything_is_refused_for_each_thing_that_cannot_be() {
    let route = object(
        "
apiVersion: kuscia.secretflow/v1alpha1
kind: DomainRoute
metadata: {name: alice-bob, namespace: bob}
spec:
  authenticationType: MTLS
  source: alice
  destination: bob
  interConnProtocol: bfia
  endpoint:
    host: 172.2.0.2
    ports: [{name: http, port: 1080, protocol: HTTP, isTLS: true}]
  mTLSConfig: {sourceClientCert: a, sourceClientPrivateKey: S3CRET, tlsCA: c}
  transit: {transitMethod: THIRD-DOMAIN, domain: {domainID: joke}}
  bodyEncryption: {algorithm: AES}
  sourceWhiteIPList: [10.0.0.0/8]
  requestHeadersToAdd: {Authorization: Bearer S3CRET}
",
    );
    let errors = route.check().unwrap_err();
    assert_eq!(
        listed(&errors),
        [
            ("spec.bodyEncryption", "body encryption is not supported"),
            ("spec.interConnProtocol", "\"bfia\" is not supported"),
            ("spec.authenticationType", "\"MTLS\" proves nothing through a domain in between"),
        ]
    );
    assert!(!format!("{errors} {errors:?} {route:?}").contains("S3CRET"));
}
