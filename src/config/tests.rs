use std::fs;
use std::num::NonZeroU32;
use std::os::unix::fs::symlink;
use std::time::Duration;

use ::dns::Rebinding;
use tempfile::TempDir;
use xds::ListenAddress;

use super::*;

/// A folder with configuration files.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let file = self.0.path().join(name);
        fs::write(&file, content).expect("the folder is writable");
        file
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// `networkmesh.yaml` of alice with these further lines.
fn alice(folder: &Folder, lines: &str) -> PathBuf {
    let key = DomainKey::generate().expect("a key").to_domain_key_data();
    folder.write("networkmesh.yaml", &format!("domainID: alice\ndomainKeyData: {}\n{lines}", *key))
}

fn load(lines: &str) -> Result<Config, ConfigErrors> {
    Config::load(&alice(&Folder::new(), lines))
}

/// Path of the field and problem of each error.
fn complaints(loaded: Result<Config, ConfigErrors>) -> Vec<(String, String)> {
    let errors = loaded.expect_err("the configuration is refused");
    let of_field = |error: &ConfigError| match error {
        ConfigError::Field { error, .. } => {
            assert!(!error.remedy.is_empty(), "{error}");
            (error.path.clone(), format!("{}; {}", error.problem, error.remedy))
        }
        other => panic!("{other}"),
    };
    errors.iter().map(of_field).collect()
}

/// The only complaint.
fn complaint(lines: &str) -> (String, String) {
    let mut complaints = complaints(load(lines));
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    complaints.remove(0)
}

#[test]
fn a_domain_and_its_key_are_enough() {
    let folder = Folder::new();
    let config = Config::load(&alice(&folder, "")).expect("is good");

    assert_eq!(config.mode, Mode::Autonomy);
    assert_eq!(config.domain.as_str(), "alice");
    assert_eq!(config.protocol, Protocol::NoTls);
    assert_eq!(config.source, directory(folder.path("manifests"), folder.path("state")));
    assert!(!config.controller);
    let tcp = |text: &str| ListenAddress::Tcp(text.parse().expect("an address"));
    assert_eq!(ListenAddress::Tcp(config.listen.external), tcp("0.0.0.0:1080"));
    assert_eq!(ListenAddress::Tcp(config.listen.internal), tcp("127.0.0.1:80"));
    assert_eq!(ListenAddress::Tcp(config.listen.handshake), tcp("127.0.0.1:1054"));
    assert_eq!(ListenAddress::Tcp(config.listen.dns), tcp("127.0.0.1:53"));
    assert_eq!(config.listen.xds, ListenAddress::Unix(folder.path("run/xds.sock")));
    assert_eq!(config.listen.admin, tcp("127.0.0.1:9091"));
    assert_eq!(config.envoy.admin, tcp("127.0.0.1:9901"));
    assert_eq!(config.envoy.access_log, AccessLog::Stdout);
    assert!(config.envoy.trusted_proxies.is_empty() && config.envoy.tracing.is_none());
    assert!(config.dns.upstreams.is_empty() && config.dns.recursion.is_none());
    assert_eq!(config.dns.ttl, Duration::from_secs(5));
    assert_eq!(config.dns.gateway, ["127.0.0.1".parse::<std::net::IpAddr>().expect("an address")]);
    assert_eq!((config.dns.workers.get(), config.dns.responses_per_second), (1, NonZeroU32::new(200)));
    assert_eq!(config.dns.stale, Some(Duration::from_hours(24)));
    assert_eq!(config.dns.rebinding, Rebinding::Allowed);
    assert!(config.certificates.hosts.is_empty());
    assert_eq!(config.certificates.lifetime, certs::DEFAULT_LEAF_LIFETIME);
    assert!(!config.instance.is_empty());
}

fn directory(path: PathBuf, state: PathBuf) -> Source {
    Source::Directory(Directory { path, state })
}

#[test]
fn within_a_cluster_the_word_kubernetes_is_enough() {
    for lines in ["source: {kubernetes: {}}", "source:\n  kubernetes:"] {
        let folder = Folder::new();
        let config =
            Config::load(&alice(&folder, &format!("{lines}\ninstance: gateway-1"))).expect("is good");
        let expected = Kubernetes {
            kubeconfig: None,
            context: None,
            namespace: None,
            lease_namespace: "networkmesh".to_owned(),
            state: folder.path("state"),
        };
        assert_eq!(config.source, Source::Kubernetes(expected), "{lines}");
    }
}

#[test]
fn every_field_of_a_kubernetes_source_can_be_set() {
    let folder = Folder::new();
    let lines = "controller: true\ninstance: gateway-1.alice\nsource: {kubernetes: {kubeconfig: kube/config, \
                 context: prod, namespace: alice-prod, leaseNamespace: mesh, state: /var/mesh}}";
    let config = Config::load(&alice(&folder, lines)).expect("is good");
    let expected = Kubernetes {
        kubeconfig: Some(folder.path("kube/config")),
        context: Some("prod".to_owned()),
        namespace: Some("alice-prod".to_owned()),
        lease_namespace: "mesh".to_owned(),
        state: PathBuf::from("/var/mesh"),
    };
    assert_eq!(config.source.state(), expected.state);
    assert_eq!(config.source, Source::Kubernetes(expected));
    assert!(config.controller);
}

#[test]
fn what_makes_no_sense_with_a_source_is_refused() {
    let instance = "instance: gateway-1\n";
    for (lines, field) in [
        (&*format!("{instance}source: {{kubernetes: {{namespace: Alice}}}}"), "source.kubernetes.namespace"),
        (&*format!("{instance}source: {{kubernetes: {{namespace: -a}}}}"), "source.kubernetes.namespace"),
        (&*format!("{instance}source: {{kubernetes: {{}}, directory: {{}}}}"), "source.directory"),
        (&*format!("{instance}source: {{kubernetes: {{path: a}}}}"), "source.kubernetes.path"),
        ("instance: Gateway_1\nsource: {kubernetes: {}}", "instance"),
        ("controller: true", "controller"),
        ("controller: yes", "controller"),
    ] {
        assert_eq!(complaint(lines).0, field, "{lines}");
    }
}

#[test]
fn every_field_can_be_set() {
    let folder = Folder::new();
    let config = Config::load(&alice(
        &folder,
        r#"
mode: Lite
protocol: mtls
source: {directory: {path: /etc/mesh, state: var/state}}
listen:
  external: "[::]:8443"
  internal: 10.0.0.7:8080
  handshake: 127.0.0.1:2054
  xds: 10.0.0.7:10001
  dns: 10.0.0.7:5353
  admin: unix:admin.sock
xds: {tls: {certificateFile: mesh.pem, keyFile: mesh.key, clientCAFile: /etc/ca.pem}}
envoy:
  admin: unix:/run/envoy.sock
  accessLog: off
  xdsTLS: {certificateFile: envoy.pem, keyFile: envoy.key, caFile: /etc/ca.pem, serverName: mesh.example.com}
dns: {upstreams: [192.0.2.1, "192.0.2.2:5300", "2001:db8::1"], recursion: [10.0.0.0/8, 192.0.2.9], ttl: 30, gateway: [10.0.0.8], workers: 4, responsesPerSecond: 0, staleSeconds: 0, rebinding: {protect: true, allow: [Corp.example.com, lan.]}}
certificates: {hosts: ["*.example.com", 192.0.2.7], lifetimeDays: 7}
instance: gateway-1
"#,
    ))
    .expect("is good");

    assert_eq!((config.mode, config.protocol), (Mode::Lite, Protocol::Mtls));
    assert_eq!(config.source, directory(PathBuf::from("/etc/mesh"), folder.path("var/state")));
    assert_eq!(config.listen.external.to_string(), "[::]:8443");
    assert_eq!(config.listen.xds.to_string(), "10.0.0.7:10001");
    let tls = config.xds.tls.expect("is given");
    assert_eq!((tls.certificate, tls.key), (folder.path("mesh.pem"), folder.path("mesh.key")));
    assert_eq!(tls.client_ca, Path::new("/etc/ca.pem"));
    let tls = config.envoy.xds_tls.expect("is given");
    assert_eq!((tls.certificate, tls.key), (folder.path("envoy.pem"), folder.path("envoy.key")));
    assert_eq!(
        (tls.ca.as_path(), tls.server_name.to_string()),
        (Path::new("/etc/ca.pem"), "mesh.example.com".to_owned())
    );
    assert_eq!(config.listen.admin, ListenAddress::Unix(folder.path("admin.sock")));
    assert_eq!(config.envoy.admin, ListenAddress::Unix("/run/envoy.sock".into()));
    assert_eq!(config.envoy.access_log, AccessLog::Off);
    let shown = |items: Vec<String>| items.join(" ");
    let upstreams = config.dns.upstreams.iter().map(ToString::to_string).collect();
    assert_eq!(shown(upstreams), "192.0.2.1:53 192.0.2.2:5300 [2001:db8::1]:53");
    let recursion = config.dns.recursion.expect("is given");
    assert_eq!(shown(recursion.iter().map(ToString::to_string).collect()), "10.0.0.0/8 192.0.2.9/32");
    assert_eq!((config.dns.ttl.as_secs(), config.dns.gateway[0].to_string()), (30, "10.0.0.8".to_owned()));
    assert_eq!((config.dns.workers.get(), config.dns.responses_per_second), (4, None));
    assert_eq!(config.dns.stale, None);
    let Rebinding::Refused { except } = config.dns.rebinding else { panic!("is protected") };
    assert_eq!(shown(except.iter().map(ToString::to_string).collect()), "corp.example.com. lan.");
    assert_eq!(config.certificates.hosts, ["*.example.com", "192.0.2.7"]);
    assert_eq!(config.certificates.lifetime.as_secs(), 7 * 86_400);
    assert_eq!(config.instance, "gateway-1");
}

#[test]
fn other_domains_are_reached_through_the_internal_listener() {
    let gateway =
        |internal: &str| load(&format!("listen: {{internal: {internal}}}")).expect("is good").dns.gateway;
    assert_eq!(gateway("10.0.0.7:80")[0].to_string(), "10.0.0.7");
    assert_eq!(gateway("0.0.0.0:80")[0].to_string(), "127.0.0.1");
}

#[test]
fn all_errors_are_reported_at_once_with_their_paths() {
    let folder = Folder::new();
    let file = folder.write(
        "networkmesh.yaml",
        r#"
mode: solo
domainID: Alice
domainKeyData: bm8ga2V5
protocol: SSL
source: {directory: {path: [a]}}
listen: {external: 1080, internal: localhost:80, handshake: "127.0.0.1:0", xds: "unix:", admin: []}
envoy: true
dns: {upstreams: [dns.example.com, 192.0.2.1, 8], recursion: 10.0.0.0/8, ttl: 3601, gateway: [0.0.0.0], workers: 0, responsesPerSecond: many, staleSeconds: 604801, rebinding: {protect: 1, allow: [10.0.0.0/8, "", ., "*.lan"]}}
certificates: {hosts: ["https://gw"], lifetimeDays: 0.5}
instance: "a b"
unheardOf: 1
"#,
    );
    let paths: Vec<String> = complaints(Config::load(&file)).into_iter().map(|(path, _)| path).collect();
    let expected = "mode domainID domainKeyData protocol source.directory.path listen.external \
        listen.internal listen.handshake listen.xds listen.admin envoy dns.upstreams[0] dns.upstreams[2] \
        dns.recursion dns.ttl dns.gateway[0] dns.workers dns.responsesPerSecond dns.staleSeconds \
        dns.rebinding.protect dns.rebinding.allow[0] dns.rebinding.allow[1] dns.rebinding.allow[2] \
        dns.rebinding.allow[3] certificates.hosts[0] certificates.lifetimeDays instance unheardOf";
    assert_eq!(paths.join(" "), expected);
}

#[test]
fn unknown_fields_are_errors_that_offer_the_likely_name() {
    let (path, complaint) = complaint("listen: {extrenal: 0.0.0.0:1080}");
    assert_eq!(
        (path.as_str(), complaint.as_str()),
        ("listen.extrenal", "is unknown; did you mean \"external\"?")
    );
}

#[test]
fn an_unknown_field_unlike_any_other_is_shown_the_known_ones() {
    let (path, complaint) = complaint("dns: {zzz: 1}");
    let expected = "is unknown; the fields here are upstreams, recursion, ttl, gateway, workers, \
                    responsesPerSecond, staleSeconds, rebinding";
    assert_eq!((path.as_str(), complaint.as_str()), ("dns.zzz", expected));
}

#[test]
fn names_are_let_through_only_where_others_are_not() {
    let (path, told) = complaint("dns: {rebinding: {allow: [lan]}}");
    assert_eq!(path, "dns.rebinding.allow");
    assert!(told.contains("dns.rebinding.protect"), "{told}");
    assert_eq!(complaint("dns: {rebinding: {protect: true, allow: lan}}").0, "dns.rebinding.allow");
    load("dns: {rebinding: {protect: false}}").expect("is good");
}

#[test]
fn names_of_the_system_are_no_domains() {
    for name in ["default", "kube-system", "master", "cross-domain"] {
        let folder = Folder::new();
        let key = DomainKey::generate().expect("a key").to_domain_key_data();
        let file = folder.write("networkmesh.yaml", &format!("domainID: {name}\ndomainKeyData: {}", *key));
        let complaints = complaints(Config::load(&file));
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        assert!(complaints[0].1.contains("is reserved"), "{complaints:?}");
    }
}

/// Sections with all that TLS between Envoy and the mesh needs.
const TLS: &str = "\
xds: {tls: {certificateFile: a, keyFile: a, clientCAFile: a}}
envoy: {xdsTLS: {certificateFile: a, keyFile: a, caFile: a, serverName: 10.0.0.7}}
";

#[test]
fn an_xds_server_that_other_machines_reach_has_tls() {
    for address in ["10.0.0.7:18000", "0.0.0.0:18000", "'[::]:18000'"] {
        let listen = format!("listen: {{xds: {address}}}\n");
        let (path, told) = complaint(&listen);
        assert_eq!(path, "listen.xds");
        assert!(told.contains("tokens and keys; give xds.tls"), "{told}");
        load(&format!("{listen}{TLS}")).expect("is good");
    }
    for address in ["127.0.0.1:18000", "'[::1]:18000'", "unix:xds.sock"] {
        load(&format!("listen: {{xds: {address}}}")).expect("is good");
    }
}

#[test]
fn a_unix_socket_has_no_tls() {
    for listen in ["", "listen: {xds: unix:a.sock}\n"] {
        let (path, told) = complaint(&format!("{listen}{TLS}"));
        assert_eq!(path, "listen.xds");
        assert!(told.contains("a Unix socket, where xds.tls has no use; remove xds.tls"), "{told}");
    }
}

#[test]
fn tls_needs_all_its_files_on_both_sides() {
    let paths = |lines: &str| {
        let complaints = complaints(load(&format!("listen: {{xds: 127.0.0.1:18000}}\n{lines}")));
        complaints.into_iter().map(|(path, _)| path).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        paths("xds: {tls: {}}"),
        "xds.tls.certificateFile xds.tls.keyFile xds.tls.clientCAFile envoy.xdsTLS.certificateFile \
         envoy.xdsTLS.keyFile envoy.xdsTLS.caFile envoy.xdsTLS.serverName"
    );
    let (server, envoy) = TLS.split_once('\n').expect("two lines");
    assert_eq!(paths(envoy), "envoy.xdsTLS");
    assert!(paths(server).starts_with("envoy.xdsTLS.certificateFile "));
    assert_eq!(paths(&TLS.replace("10.0.0.7", "https://mesh")), "envoy.xdsTLS.serverName");
    assert_eq!(paths(&TLS.replace("clientCAFile: a", "caFile: a")), "xds.tls.clientCAFile xds.tls.caFile");
}

#[test]
fn proxies_that_are_trusted_are_networks_or_addresses() {
    let config = load("envoy: {trustedProxies: [10.0.0.0/8, 192.0.2.7, '2001:db8::/32']}").expect("is good");
    let proxies: Vec<String> = config.envoy.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"]);
    let (path, told) = complaint("envoy: {trustedProxies: [10.0.0.0/8, proxy.example.com]}");
    assert_eq!(path, "envoy.trustedProxies[1]");
    assert!(told.contains("10.0.0.0/8"), "{told}");
}

#[test]
fn tracing_goes_to_a_collector_without_tls_at_a_port() {
    let tracing = |lines: &str| load(&format!("envoy: {{tracing: {lines}}}")).expect("is good").envoy.tracing;
    for (collector, place) in [
        ("http://otel.example.com:4317", "otel.example.com:4317"),
        ("http://127.0.0.1:4317/", "127.0.0.1:4317"),
        ("http://[2001:db8::1]:4317", "[2001:db8::1]:4317"),
    ] {
        let tracing = tracing(&format!("{{collector: '{collector}'}}")).expect("is given");
        assert_eq!((tracing.collector.to_string().as_str(), tracing.sampling), (place, 1.0));
    }
    let all = tracing("{collector: 'http://a:1', samplingPercent: 100}").expect("is given");
    let few = tracing("{collector: 'http://a:1', samplingPercent: 0.01}").expect("is given");
    assert_eq!((all.sampling, few.sampling), (100.0, 0.01));

    for collector in [
        "https://a:4317",
        "http://a",
        "http://a:0",
        "http://a:4317/v1/traces",
        "http://a:1?b",
        "http://u@a:1",
        "a:1",
        "",
    ] {
        let (path, told) = complaint(&format!("envoy: {{tracing: {{collector: '{collector}'}}}}"));
        assert_eq!(path, "envoy.tracing.collector", "{collector}");
        assert!(told.contains("http://HOST:PORT"), "{told}");
    }
    for percent in ["-1", "100.1", "all", "'5'"] {
        let lines = format!("envoy: {{tracing: {{collector: 'http://a:1', samplingPercent: {percent}}}}}");
        assert_eq!(complaint(&lines).0, "envoy.tracing.samplingPercent", "{percent}");
    }
    assert_eq!(complaint("envoy: {tracing: {samplingPercent: 5}}").0, "envoy.tracing.collector");
}

#[test]
fn a_key_is_given_once() {
    let folder = Folder::new();
    folder.write("alice.key", &DomainKey::generate().expect("a key").to_pkcs1_pem());
    let twice = complaints(Config::load(&alice(&folder, "domainKeyFile: alice.key")));
    assert_eq!(twice.len(), 1, "{twice:?}");
    assert!(twice[0].0 == "domainKeyData" && twice[0].1.contains("domainKeyFile too"), "{twice:?}");

    let missing = complaints(Config::load(&folder.write("networkmesh.yaml", "domainID: alice")));
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert!(missing[0].1.contains("is missing"), "{missing:?}");
}

#[test]
fn a_key_file_is_named_relative_to_the_configuration() {
    let folder = Folder::new();
    let key = DomainKey::generate().expect("a key");
    folder.write("alice.key", &key.to_pkcs1_pem());
    let file = folder.write("networkmesh.yaml", "domainID: alice\ndomainKeyFile: alice.key");
    assert_eq!(Config::load(&file).expect("is good").key.public_key(), key.public_key());

    let file = folder.write("networkmesh.yaml", "domainID: alice\ndomainKeyFile: none.key");
    assert!(complaints(Config::load(&file))[0].1.contains("none.key"));
}

#[test]
fn a_linked_configuration_is_relative_to_where_the_link_stands() {
    let (folder, elsewhere) = (Folder::new(), Folder::new());
    symlink(alice(&elsewhere, ""), folder.path("networkmesh.yaml")).expect("a link");
    let config = Config::load(&folder.path("networkmesh.yaml")).expect("is good");
    assert_eq!(config.source, directory(folder.path("manifests"), folder.path("state")));
}

#[test]
fn clashing_addresses_are_named_with_both_fields() {
    let (path, told) = complaint("listen: {handshake: 127.0.0.1:1080}");
    assert_eq!(path, "listen.handshake");
    assert!(told.contains("listen.external (0.0.0.0:1080)"), "{told}");

    let (path, told) = complaint("envoy: {admin: 127.0.0.1:9091}");
    assert_eq!(path, "envoy.admin");
    assert!(told.contains("listen.admin"), "{told}");

    let (path, _) = complaint("listen: {xds: unix:a.sock, admin: unix:a.sock}");
    assert_eq!(path, "listen.admin");
}

#[test]
fn one_port_on_two_addresses_is_no_clash() {
    load("listen: {internal: 127.0.0.1:80, external: 192.0.2.1:80}").expect("is good");
}

#[test]
fn a_socket_path_longer_than_the_system_takes_is_refused() {
    let (path, told) = complaint(&format!("listen: {{xds: 'unix:{}'}}", "a".repeat(108)));
    assert_eq!(path, "listen.xds");
    assert!(told.contains("107 bytes"), "{told}");
}

#[test]
fn neither_debug_nor_errors_show_the_key() {
    let key = DomainKey::generate().expect("a key").to_domain_key_data();
    let shown = format!("{:?}", load("").expect("is good"));
    assert!(!shown.contains("LS0tLS1CRUdJTi") && !shown.contains("PRIVATE"), "{shown}");

    let folder = Folder::new();
    for spoiled in [
        format!("domainID: alice\ndomainKeyData: {}!", *key),
        format!("domainID: alice\ndomainKeyData: [{}]", *key),
        format!("domainID: alice\ndomainKeyData: {}\n  : broken: [", *key),
        format!("domainID: alice\n domainKeyData: \"{}\n", *key),
        format!("domainID: alice\ndomainKeyData: {0}\ndomainKeyData: {0}", *key),
        format!("domainKeyData {}", *key),
    ] {
        let errors = Config::load(&folder.write("networkmesh.yaml", &spoiled)).expect_err("is spoiled");
        let shown = format!("{errors} {errors:?}");
        assert!(!shown.contains(&key[40..60]), "{shown}");
    }
}

#[test]
fn a_file_that_is_no_mapping_is_refused() {
    let folder = Folder::new();
    for text in ["- a\n- b", "just words", "a: ["] {
        let errors = Config::load(&folder.write("networkmesh.yaml", text)).expect_err("is no mapping");
        assert!(matches!(errors.iter().next(), Some(ConfigError::Syntax { .. })), "{errors}");
    }
    let errors = Config::load(&folder.path("none.yaml")).expect_err("is not there");
    assert!(errors.to_string().contains("--config FILE"), "{errors}");
}

/// A `kuscia.yaml` as Kuscia's own templates have it.
fn kuscia(folder: &Folder, key: &str) -> PathBuf {
    folder.write(
        "kuscia.yaml",
        &format!(
            "mode: Autonomy\ndomainID: bob\ndomainKeyData: {key}\nlogLevel: INFO\nprotocol: TLS\nruntime: runc\n\
             runk:\n  namespace: \"\"\n  dnsServers:\n  kubeconfigFile:\ncapacity:\n  cpu: # 4\n\
             image:\n  registries:\n    - name: \"\"\ndatastoreEndpoint: \"\"\n"
        ),
    )
}

#[test]
fn a_kuscia_yaml_gives_the_identity_and_its_other_sections_are_ignored() {
    let folder = Folder::new();
    let key = DomainKey::generate().expect("a key");
    let file = kuscia(&folder, &key.to_domain_key_data());
    let config = Config::load_with_kuscia(&file, None).expect("is good");
    assert_eq!(
        (config.domain.as_str(), config.mode, config.protocol),
        ("bob", Mode::Autonomy, Protocol::Tls)
    );
    assert_eq!(config.key.public_key(), key.public_key());
    assert_eq!(config.source, directory(folder.path("manifests"), folder.path("state")));
}

#[test]
fn with_both_files_networkmesh_yaml_gives_everything_but_the_identity() {
    let folder = Folder::new();
    let key = DomainKey::generate().expect("a key").to_domain_key_data();
    let kuscia = kuscia(&folder, &key);
    let own = folder.write("networkmesh.yaml", "instance: one\ndns: {ttl: 9}");
    let config = Config::load_with_kuscia(&kuscia, Some(&own)).expect("is good");
    assert_eq!(
        (config.domain.as_str(), config.instance.as_str(), config.dns.ttl.as_secs()),
        ("bob", "one", 9)
    );
}

#[test]
fn with_both_files_errors_of_both_are_reported() {
    let folder = Folder::new();
    let kuscia = kuscia(&folder, "bm8ga2V5");
    let own = folder.write("networkmesh.yaml", "domainID: alice\nlisten: {dns: here}\nextra: 1");
    let paths: Vec<String> =
        complaints(Config::load_with_kuscia(&kuscia, Some(&own))).into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["domainKeyData", "domainID", "listen.dns", "extra"]);
}
