//! What the meshes have told their Envoys, as static configurations that can be edited.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::Failure;
use crate::gateways::Places;
use crate::load::HOST;

/// What alice's and bob's Envoys show of their configuration.
pub(crate) struct Dumps {
    /// Where they listen: alice for applications, bob for alice.
    pub(crate) at: Places,
    pub(crate) configs: [Value; 2],
}

/// A part of the configuration that can be left out. Later ones need some of those before.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    ProofLog,
    LocalReplies,
    ResponseExpression,
    ResponseHeaders,
    OtherFilters,
    TokenFilter,
    Scopes,
    RequestHeaders,
    PathRules,
    Retries,
}

impl Part {
    pub(crate) const ALL: [Self; 10] = [
        Self::ProofLog,
        Self::LocalReplies,
        Self::ResponseExpression,
        Self::ResponseHeaders,
        Self::OtherFilters,
        Self::TokenFilter,
        Self::Scopes,
        Self::RequestHeaders,
        Self::PathRules,
        Self::Retries,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ProofLog => "log of proofs",
            Self::LocalReplies => "local replies",
            Self::ResponseExpression => "CEL in response headers",
            Self::ResponseHeaders => "other response headers",
            Self::OtherFilters => "other filters",
            Self::TokenFilter => "token filter",
            Self::Scopes => "scopes, early headers, cluster by header",
            Self::RequestHeaders => "request headers and host",
            Self::PathRules => "rules for paths and addresses",
            Self::Retries => "retries",
        }
    }

    fn leave_out(self, resources: &mut Value) {
        match self {
            Self::ProofLog => remove(resources, &["access_log", "access_log_options"]),
            Self::LocalReplies => remove(resources, &["local_reply_config"]),
            Self::ResponseExpression => each(resources, "response_headers_to_add", &|headers| {
                retain(headers, &|header| !header["header"]["value"].to_string().contains("%CEL("));
            }),
            Self::ResponseHeaders => {
                remove(resources, &["response_headers_to_add", "response_headers_to_remove"]);
            }
            Self::OtherFilters => each(resources, "http_filters", &|filters| {
                let kept = ["token-auth", "envoy.filters.http.router", "envoy.filters.http.upstream_codec"];
                retain(filters, &|filter| kept.iter().any(|name| filter["name"] == *name));
            }),
            Self::TokenFilter => {
                remove(resources, &["typed_per_filter_config"]);
                each(resources, "http_filters", &|filters| {
                    retain(filters, &|filter| filter["name"] != "token-auth");
                });
            }
            Self::Scopes => find_routes_directly(resources),
            Self::RequestHeaders => remove(
                resources,
                &[
                    "request_headers_to_add",
                    "request_headers_to_remove",
                    "host_rewrite_literal",
                    "host_rewrite_header",
                ],
            ),
            Self::PathRules => remove(
                resources,
                &[
                    "normalize_path",
                    "merge_slashes",
                    "path_with_escaped_slashes_action",
                    "headers_with_underscores_action",
                    "strip_any_host_port",
                    "use_remote_address",
                    "skip_xff_append",
                    "preserve_external_request_id",
                    "server_header_transformation",
                ],
            ),
            Self::Retries => remove(resources, &["retry_policy"]),
        }
    }
}

/// Static resources of two Envoys that do the same as alice's and bob's, except for these parts.
pub(crate) fn frozen(dumps: &Dumps, at: &Places, without: &[Part]) -> Result<[Value; 2], Failure> {
    let [alice, bob] = &dumps.configs;
    let mut both = [resources(alice, "internal-listener")?, resources(bob, "external-listener")?];
    for resources in &mut both {
        each(resources, "socket_address", &|address| {
            let moved = [(dumps.at.entry, at.entry), (dumps.at.between, at.between)];
            let moved = moved.map(|(there, here)| (socket_address(there), socket_address(here)));
            if let Some((_, here)) = moved.into_iter().find(|(there, _)| there == address) {
                *address = here;
            }
        });
        for part in without {
            part.leave_out(resources);
        }
    }
    Ok(both)
}

/// Static resources like those of the dump: all clusters, and the listener with all its scopes.
fn resources(dump: &Value, listener: &str) -> Result<Value, Failure> {
    let endpoints = named(dump, "Endpoints", "dynamic_endpoint_configs", "/endpoint_config", "cluster_name");
    let mut clusters = named(dump, "Clusters", "static_clusters", "/cluster", "name");
    clusters.extend(named(dump, "Clusters", "dynamic_active_clusters", "/cluster", "name"));
    for (name, cluster) in &mut clusters {
        if cluster["type"] == "EDS" {
            cluster["type"] = "STATIC".into();
            cluster["eds_cluster_config"] = Value::Null;
            cluster["load_assignment"] = endpoints.get(name).cloned().ok_or("a cluster without endpoints")?;
            // Envoy shows a weight of 0 where there is none, and takes none.
            remove(&mut cluster["load_assignment"], &["load_balancing_weight"]);
        }
    }
    let routes = named(dump, "Routes", "dynamic_route_configs", "/route_config", "name");
    let of_listeners = items(dump, "ScopedRoutes", "dynamic_scoped_route_configs");
    let scopes =
        of_listeners.flat_map(|scopes| scopes["scoped_route_configs"].as_array().into_iter().flatten());
    // Both listeners have all scopes, so that each is there twice.
    let scopes = scopes.map(|scope| (scope["name"].to_string(), scope)).collect::<BTreeMap<_, _>>();
    let scopes = scopes.into_values().map(|scope| {
        let route = scope["route_configuration_name"].as_str().and_then(|name| routes.get(name));
        json!({"name": scope["name"], "key": scope["key"], "route_configuration": route})
    });
    let scopes = json!({"scoped_route_configurations": scopes.collect::<Vec<_>>()});
    let mut listeners = named(dump, "Listeners", "dynamic_listeners", "/active_state/listener", "name");
    let mut listener = listeners.remove(listener).ok_or("a gateway without its listener")?;
    each(&mut listener, "scoped_routes", &|found| {
        found["scoped_rds"] = Value::Null;
        found["rds_config_source"] = Value::Null;
        found["scoped_route_configurations_list"] = scopes.clone();
    });
    Ok(json!({"clusters": clusters.into_values().collect::<Vec<_>>(), "listeners": [listener]}))
}

/// The messages at `path` in the items of a list, by their names.
fn named(dump: &Value, section: &str, list: &str, path: &str, name: &str) -> BTreeMap<String, Value> {
    let messages = items(dump, section, list).filter_map(|item| item.pointer(path)?.as_object());
    let named = messages.map(|message| {
        // As a part of another message it has no type.
        let fields = message.iter().filter(|(field, _)| *field != "@type");
        let fields = fields.map(|(field, value)| (field.clone(), value.clone())).collect();
        (message[name].as_str().unwrap_or_default().to_owned(), Value::Object(fields))
    });
    named.collect()
}

/// The items of a list in a section of the dump.
fn items<'a>(dump: &'a Value, section: &str, list: &str) -> impl Iterator<Item = &'a Value> {
    let kind = format!("type.googleapis.com/envoy.admin.v3.{section}ConfigDump");
    let sections = dump["configs"].as_array().into_iter().flatten();
    let of_kind = sections.filter(move |section| section["@type"] == kind);
    of_kind.flat_map(move |section| section[list].as_array().into_iter().flatten())
}

/// The routes between alice and bob without a look at the request, straight to the cluster of the service.
fn find_routes_directly(resources: &mut Value) {
    each(resources, "typed_config", &|manager| {
        let scopes =
            manager["scoped_routes"]["scoped_route_configurations_list"]["scoped_route_configurations"]
                .as_array();
        let routes = scopes
            .into_iter()
            .flatten()
            .find(|scope| scope["name"] == "to|bob" || scope["name"] == "from|alice");
        let Some(routes) = routes else { return };
        manager["route_config"] = routes["route_configuration"].clone();
        manager["scoped_routes"] = Value::Null;
    });
    remove(resources, &["early_header_mutation_extensions"]);
    each(resources, "route", &|action| {
        if action["cluster_header"] == "x-nm-cluster" {
            action["cluster_header"] = Value::Null;
            action["cluster"] = format!("svc|{HOST}").into();
        }
    });
}

fn socket_address(address: SocketAddr) -> Value {
    json!({"address": address.ip(), "port_value": address.port()})
}

/// Calls `change` with every field of this name, outer ones first.
fn each(value: &mut Value, field: &str, change: &impl Fn(&mut Value)) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == field {
                    change(value);
                }
                each(value, field, change);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each(item, field, change)),
        _ => {}
    }
}

/// Takes every field of these names out.
fn remove(value: &mut Value, names: &[&str]) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !names.contains(&name.as_str()));
            fields.values_mut().for_each(|value| remove(value, names));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| remove(item, names)),
        _ => {}
    }
}

fn retain(list: &mut Value, is_kept: &impl Fn(&Value) -> bool) {
    if let Value::Array(items) = list {
        items.retain(is_kept);
    }
}
