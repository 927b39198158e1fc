use networkmesh_model::Kind;
use networkmesh_model::api::custom_resource_definitions;
use serde_json::{Value, json};

fn definitions() -> Vec<Value> {
    custom_resource_definitions().iter().map(|definition| serde_json::to_value(definition).unwrap()).collect()
}

fn definition(kind: Kind) -> Value {
    definitions()
        .into_iter()
        .find(|definition| definition["spec"]["names"]["kind"] == kind.to_string())
        .unwrap()
}

#[test]
fn names_and_scopes_are_those_of_kuscia() {
    let facts: Vec<Value> = definitions()
        .iter()
        .map(|definition| {
            let (spec, version) = (&definition["spec"], &definition["spec"]["versions"][0]);
            json!([
                definition["metadata"]["name"],
                spec["scope"],
                spec["names"]["shortNames"],
                version["name"],
                version["served"],
                version["storage"],
                version["subresources"]["status"].is_object(),
            ])
        })
        .collect();
    assert_eq!(
        facts,
        [
            json!(["domains.kuscia.secretflow", "Cluster", null, "v1alpha1", true, true, false]),
            json!(["domainroutes.kuscia.secretflow", "Namespaced", ["dr"], "v1alpha1", true, true, true]),
            json!([
                "clusterdomainroutes.kuscia.secretflow",
                "Cluster",
                ["cdr"],
                "v1alpha1",
                true,
                true,
                true
            ]),
            json!(["gateways.kuscia.secretflow", "Namespaced", ["gw"], "v1alpha1", true, true, true]),
        ]
    );
}

#[test]
fn listings_show_what_an_operator_looks_for() {
    let columns = |kind| -> Vec<String> {
        let definition = definition(kind);
        let columns =
            definition["spec"]["versions"][0]["additionalPrinterColumns"].as_array().unwrap().clone();
        columns
            .iter()
            .map(|column| {
                format!("{}={}", column["name"].as_str().unwrap(), column["jsonPath"].as_str().unwrap())
            })
            .collect()
    };
    let route = [
        "Source=.spec.source",
        "Destination=.spec.destination",
        "Host=.spec.endpoint.host",
        "Authentication=.spec.authenticationType",
    ];
    let of = |last| [route.as_slice(), &[last]].concat();
    assert_eq!(columns(Kind::DomainRoute), of("Accepted=.status.conditions[?(@.type==\"Accepted\")].status"));
    assert_eq!(
        columns(Kind::ClusterDomainRoute),
        of("Ready=.status.conditions[?(@.type==\"Ready\")].status")
    );
    assert_eq!(columns(Kind::Gateway), ["Address=.status.address", "Heartbeat=.status.heartbeatTime"]);
}

#[test]
fn schemas_have_the_fields_of_a_route_and_what_they_need() {
    let spec_of = |kind| {
        let schema = definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
        schema["properties"]["spec"].clone()
    };
    let route = spec_of(Kind::DomainRoute);
    assert_eq!(route["required"], json!(["authenticationType", "destination", "source"]));
    assert_eq!(route["properties"]["mTLSConfig"]["properties"]["tlsCA"]["type"], "string");
    let port = &route["properties"]["endpoint"]["properties"]["ports"]["items"]["properties"]["port"];
    assert_eq!((&port["minimum"], &port["maximum"]), (&json!(1.0), &json!(65535.0)));
    let without_text = |mut spec: Value| {
        spec.as_object_mut().unwrap().remove("description");
        spec
    };
    assert_eq!(without_text(spec_of(Kind::ClusterDomainRoute)), without_text(route));
}

#[test]
fn a_gateway_needs_no_spec() {
    let definition = definition(Kind::Gateway);
    let required = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["required"];
    assert!(!required.to_string().contains("spec"), "{required}");
}
