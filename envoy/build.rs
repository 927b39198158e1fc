//! Compiles Envoy's .proto files with `protox` into the descriptors that `src/json.rs` reads and gives out.

use std::{
    env,
    error::Error,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use prost::Message;
use serde_json::Value;

/// Folders that the import paths of the .proto files start from.
const IMPORT_PATHS: [&str; 5] =
    ["cel-spec/proto", "data-plane-api", "googleapis", "protoc-gen-validate", "xds"];

/// Folders whose files, with everything they import, are compiled: what the translation emits, what Envoy's own dumps
/// hold, and the services by which Envoy is told.
const ROOTS: &[&str] = &[
    "data-plane-api/envoy/admin/v3",
    "data-plane-api/envoy/config/accesslog/v3",
    "data-plane-api/envoy/config/bootstrap/v3",
    "data-plane-api/envoy/config/cluster/v3",
    "data-plane-api/envoy/config/common/matcher/v3",
    "data-plane-api/envoy/config/core/v3",
    "data-plane-api/envoy/config/endpoint/v3",
    "data-plane-api/envoy/config/listener/v3",
    "data-plane-api/envoy/config/overload/v3",
    "data-plane-api/envoy/config/rbac/v3",
    "data-plane-api/envoy/config/route/v3",
    "data-plane-api/envoy/config/trace/v3",
    "data-plane-api/envoy/extensions/access_loggers/file/v3",
    "data-plane-api/envoy/extensions/access_loggers/filters/cel/v3",
    "data-plane-api/envoy/extensions/access_loggers/grpc/v3",
    "data-plane-api/envoy/extensions/access_loggers/stream/v3",
    "data-plane-api/envoy/extensions/bootstrap",
    "data-plane-api/envoy/extensions/clusters/aggregate/v3",
    "data-plane-api/envoy/extensions/clusters/composite/v3",
    "data-plane-api/envoy/extensions/clusters/dns/v3",
    "data-plane-api/envoy/extensions/clusters/original_dst/v3",
    "data-plane-api/envoy/extensions/clusters/reverse_connection/v3",
    "data-plane-api/envoy/extensions/common/matching/v3",
    "data-plane-api/envoy/extensions/filters/http/bandwidth_limit/v3",
    "data-plane-api/envoy/extensions/filters/http/bandwidth_share/v3",
    "data-plane-api/envoy/extensions/filters/http/composite/v3",
    "data-plane-api/envoy/extensions/filters/http/dynamic_modules/v3",
    "data-plane-api/envoy/extensions/filters/http/grpc_http1_bridge/v3",
    "data-plane-api/envoy/extensions/filters/http/grpc_http1_reverse_bridge/v3",
    "data-plane-api/envoy/extensions/filters/http/header_mutation/v3",
    "data-plane-api/envoy/extensions/filters/http/lua/v3",
    "data-plane-api/envoy/extensions/filters/http/rbac/v3",
    "data-plane-api/envoy/extensions/filters/http/router/v3",
    "data-plane-api/envoy/extensions/filters/http/set_filter_state/v3",
    "data-plane-api/envoy/extensions/filters/http/upstream_codec/v3",
    "data-plane-api/envoy/extensions/filters/listener/tls_inspector/v3",
    "data-plane-api/envoy/extensions/filters/network/http_connection_manager/v3",
    "data-plane-api/envoy/extensions/filters/network/reverse_tunnel/v3",
    "data-plane-api/envoy/extensions/filters/network/tcp_proxy/v3",
    "data-plane-api/envoy/extensions/formatter/cel/v3",
    "data-plane-api/envoy/extensions/http/early_header_mutation/header_mutation/v3",
    "data-plane-api/envoy/extensions/http/original_ip_detection/xff/v3",
    "data-plane-api/envoy/extensions/load_balancing_policies",
    "data-plane-api/envoy/extensions/matching",
    "data-plane-api/envoy/extensions/network/dns_resolver",
    "data-plane-api/envoy/extensions/request_id/uuid/v3",
    "data-plane-api/envoy/extensions/resource_monitors",
    "data-plane-api/envoy/extensions/retry/host/previous_hosts/v3",
    "data-plane-api/envoy/extensions/transport_sockets/internal_upstream/v3",
    "data-plane-api/envoy/extensions/transport_sockets/raw_buffer/v3",
    "data-plane-api/envoy/extensions/transport_sockets/tls/v3",
    "data-plane-api/envoy/extensions/upstreams/http",
    "data-plane-api/envoy/service/cluster/v3",
    "data-plane-api/envoy/service/discovery/v3",
    "data-plane-api/envoy/service/endpoint/v3",
    "data-plane-api/envoy/service/extension/v3",
    "data-plane-api/envoy/service/listener/v3",
    "data-plane-api/envoy/service/route/v3",
    "data-plane-api/envoy/service/secret/v3",
    "data-plane-api/envoy/service/status/v3",
    "data-plane-api/envoy/type/matcher/v3",
    "xds/xds/core/v3",
    "xds/xds/type",
];

/// Files a message may name through an `Any` although no root imports them.
const WELL_KNOWN: &[&str] = &[
    "google/protobuf/any.proto",
    "google/protobuf/duration.proto",
    "google/protobuf/empty.proto",
    "google/protobuf/field_mask.proto",
    "google/protobuf/struct.proto",
    "google/protobuf/timestamp.proto",
    "google/protobuf/wrappers.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let metadata = cargo_metadata()?;
    println!("cargo::rerun-if-changed=build.rs");
    // The lock file says which version of envoy-types is built: another version means other messages.
    println!("cargo::rerun-if-changed={}", lock_file(&metadata)?.display());

    let protos = proto_folder(&metadata)?;
    let includes = IMPORT_PATHS.map(|path| protos.join(path));
    let mut files = WELL_KNOWN.iter().map(PathBuf::from).collect::<Vec<_>>();
    for root in ROOTS {
        collect_protos(&protos.join(root), &mut files)?;
    }
    files.sort();
    // Without comments and, by way of the prost types, without the options that are extensions (validation rules,
    // API status), which no transcoding reads.
    let descriptors =
        protox::Compiler::new(includes)?.include_imports(true).open_files(files)?.file_descriptor_set();
    fs::write(Path::new(&env::var("OUT_DIR")?).join("descriptors.bin"), descriptors.encode_to_vec())?;
    Ok(())
}

/// The workspace as Cargo resolved it. Cargo is asked, so that registries, vendored sources and patches all work;
/// without `--offline`, because `cargo metadata` may need packages that this build does not.
fn cargo_metadata() -> Result<Value, Box<dyn Error>> {
    let output = Command::new(env::var("CARGO")?)
        .args(["metadata", "--format-version=1", "--locked", "--filter-platform"])
        .arg(env::var("TARGET")?)
        .output()?;
    if !output.status.success() {
        return Err(format!(
            "`cargo metadata` failed; run `cargo fetch` where the network is reachable, then build again\n{}",
            String::from_utf8_lossy(&output.stderr)
        )
        .into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn lock_file(metadata: &Value) -> Result<PathBuf, &'static str> {
    let root = metadata["workspace_root"].as_str().ok_or("`cargo metadata` names no workspace root")?;
    Ok(Path::new(root).join("Cargo.lock"))
}

/// The folder of .proto files inside the package `envoy-types`.
fn proto_folder(metadata: &Value) -> Result<PathBuf, String> {
    let manifest = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == "envoy-types")
        .and_then(|package| package["manifest_path"].as_str())
        .ok_or("`cargo metadata` lists no package envoy-types; keep it a dependency of this crate")?;
    let folder = Path::new(manifest).with_file_name("proto");
    if folder.is_dir() {
        Ok(folder)
    } else {
        Err(format!("{} is missing; use an envoy-types that ships its .proto files", folder.display()))
    }
}

/// Adds every .proto file below `folder` to `files`.
fn collect_protos(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", folder.display())))?
    {
        let path = entry?.path();
        if path.is_dir() {
            collect_protos(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
