//! The `CustomResourceDefinition`s.
//!
//! Their schemas refuse what is nonsense in any version: wrong types, unknown words, impossible ports. They are never
//! stricter than Kuscia's: what is well-formed but wrong, or not supported, is stored and gets a condition that says
//! so. Where Kuscia has fields that nothing here knows, they are kept.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt as _;

use super::{ClusterDomainRoute, Domain, DomainRoute, Gateway};

/// ID of a domain, as Kuscia checks it. That it must be a label is left to the parser, whose message says more.
pub(super) const DOMAIN_ID: &str = "^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$";

/// A DNS name, an IPv4 address or nothing; or an IPv6 address. Neither scheme, port nor path pass.
pub(super) const HOST: &str = r"^[0-9A-Za-z._-]*$|^\[?[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*\]?$";

/// The CustomResourceDefinitions of every kind of this group, in the order to apply them.
#[must_use]
pub fn custom_resource_definitions() -> Vec<CustomResourceDefinition> {
    let mut definitions = vec![Domain::crd(), DomainRoute::crd(), ClusterDomainRoute::crd(), Gateway::crd()];
    let versions = definitions.iter_mut().flat_map(|definition| &mut definition.spec.versions);
    for schema in versions.filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut()) {
        drop_defaults(schema);
    }
    definitions
}

/// Derived schemas have a default for every field that may be left out. The API server would write them into each
/// object, where their author did not.
fn drop_defaults(schema: &mut JSONSchemaProps) {
    schema.default = None;
    schema.properties.iter_mut().flat_map(|fields| fields.values_mut()).for_each(drop_defaults);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        drop_defaults(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        drop_defaults(values);
    }
}
