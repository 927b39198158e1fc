//! An API server of a scene's own, which it may stop, and on which it may fill the whole cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use certs::DomainAuthority;
use harness::api_server::ApiServer;
use harness::process::Child;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use networkmesh::harness::cluster::Cluster;
use networkmesh::harness::domain::{Domain, Home};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::world::{Folder, PROGRAM, Source, World, envoy, eventually, key_of};

/// The namespace of the controllers, as `deploy/rbac/controller.yaml` has it.
pub(super) const CONTROLLERS: &str = "networkmesh";

/// An API server with Kuscia's kinds.
pub(super) struct OwnServer {
    pub(super) server: ApiServer,
    pub(super) cluster: Cluster,
    // Dropped after the server, which writes into it.
    folder: TempDir,
}

/// A controller that runs.
pub(super) struct Controller {
    pub(super) process: Child,
    log: PathBuf,
}

impl Controller {
    /// Whether it is the candidate of this name.
    pub(super) fn leads(&self, leader: &str) -> bool {
        fs::read_to_string(&self.log).unwrap().contains(leader)
    }
}

impl OwnServer {
    pub(super) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = ApiServer::start(folder.path(), &|_| ()).await;
        let server = server.unwrap_or_else(|error| panic!("{error}"));
        let cluster = Cluster::connect(server.kubeconfig()).await.unwrap_or_else(|error| panic!("{error}"));
        cluster.define_kinds().await.unwrap_or_else(|error| panic!("{error}"));
        Self { server, cluster, folder }
    }

    /// Where the server keeps its data.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A domain with a namespace of its name, whose mesh has the rights of `deploy/rbac` and no others.
    async fn domain(&self, folder: &Folder, name: &str) -> Domain {
        let namespace = self.cluster.namespace(name).await.unwrap();
        for file in ["sidecar.yaml", "sidecar-domains.yaml"] {
            namespace.apply(file, &rights(file, name)).await.unwrap();
        }
        let kubeconfig = self.kubeconfig_of(name, "networkmesh").await;
        let config = json!({
            "source": {"kubernetes": {"kubeconfig": kubeconfig}},
            "listen": {"admin": "unix:admin.sock"},
        });
        Domain::lay_out(folder.path(), name, Home::Namespace(namespace), &config).unwrap()
    }

    /// Starts a controller with the rights of `deploy/rbac/controller.yaml` and no others.
    pub(super) async fn start_controller(&self, folder: &Path, name: &str) -> Controller {
        let namespace = self.cluster.namespace(CONTROLLERS).await.unwrap();
        let file = "controller.yaml";
        namespace.apply(file, &rights(file, name)).await.unwrap();
        let kubeconfig = self.kubeconfig_of(CONTROLLERS, "networkmesh-controller").await;
        let mut command = Command::new(PROGRAM);
        command.args(["controller", "--kubeconfig"]).arg(kubeconfig);
        let logs = folder.join(name).join("logs");
        fs::create_dir_all(&logs).unwrap();
        let log = logs.join("controller.log");
        Controller { process: Child::spawn(name, command, &log).unwrap(), log }
    }

    /// Who leads the controllers.
    pub(super) async fn leader(&self) -> Option<String> {
        let leases: Api<Lease> = Api::namespaced(self.cluster.client(), CONTROLLERS);
        let lease = leases.get_opt("networkmesh-controller").await.unwrap()?;
        lease.spec?.holder_identity.filter(|holder| !holder.is_empty())
    }

    async fn kubeconfig_of(&self, namespace: &str, account: &str) -> PathBuf {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.cluster.client(), namespace);
        let asked = TokenRequest { spec: Some(TokenRequestSpec::default()), ..TokenRequest::default() };
        let issued = accounts.create_token_request(account, &PostParams::default(), &asked).await.unwrap();
        let token = issued.status.unwrap().token.unwrap();
        self.server.kubeconfig_for(&format!("{namespace}-{account}"), &token).unwrap()
    }
}

/// Domains alice and bob, each on its API server; nothing runs, and there are no routes.
pub(super) async fn two_domains(alice: &OwnServer, bob: &OwnServer) -> World {
    let folder = Folder::new(Source::Kubernetes);
    World {
        alice: alice.domain(&folder, "alice").await,
        bob: bob.domain(&folder, "bob").await,
        envoy: envoy().await,
        folder,
        turn: None,
    }
}

/// The `Domain` of a domain of this cluster.
pub(super) fn domain_object(domain: &Domain) -> Value {
    let authority = DomainAuthority::new(&domain.name, &key_of(domain), SystemTime::now()).unwrap();
    json!({
        "apiVersion": "kuscia.secretflow/v1alpha1",
        "kind": "Domain",
        "metadata": {"name": domain.name},
        "spec": {"cert": authority.certificate_base64_pem()},
    })
}

/// The `ClusterDomainRoute` in place of a `DomainRoute`, without keys: those are in the domains.
pub(super) fn cluster_route(mut route: Value, rolling_update_period: u64) -> Value {
    route["kind"] = "ClusterDomainRoute".into();
    route["spec"]["tokenConfig"] =
        json!({"tokenGenMethod": "RSA-GEN", "rollingUpdatePeriod": rolling_update_period});
    route
}

/// A file of `deploy/rbac`, for the domain `name`, as it says how to.
fn rights(file: &str, name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/rbac").join(file);
    let text = fs::read_to_string(path).unwrap().replace("alice", name);
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    json!({"apiVersion": "v1", "kind": "List", "items": objects})
}

/// Waits until a controller leads, other than the one before.
pub(super) async fn new_leader(own: &OwnServer, before: Option<&str>) -> String {
    eventually("a controller leads", async || {
        let leader = own.leader().await;
        leader.filter(|leader| Some(leader.as_str()) != before).ok_or_else(|| "nobody new".to_owned())
    })
    .await
}
