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
            json!(["domains.kuscia.secretflow", "Cluster", null, "v1alpha1", true, true, true]),
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
    let gateway = [
        "CreationTime=.metadata.creationTimestamp",
        "UpTime=.status.uptime",
        "HeartbeatTime=.status.heartbeatTime",
        "Address=.status.address",
        "Version=.status.version",
    ];
    assert_eq!(columns(Kind::Gateway), gateway);
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

/// Every schema in `schema`, itself included, with the path to it.
fn schemas(path: String, schema: &Value) -> Vec<(String, &Value)> {
    let fields = schema["properties"].as_object().into_iter().flatten();
    let mut within: Vec<_> =
        fields.flat_map(|(name, field)| schemas(format!("{path}.{name}"), field)).collect();
    for key in ["items", "additionalProperties"] {
        within.extend(schema.get(key).into_iter().flat_map(|inner| schemas(format!("{path}[]"), inner)));
    }
    within.push((path, schema));
    within
}

fn all_schemas(definitions: &[Value]) -> Vec<(String, &Value)> {
    definitions
        .iter()
        .flat_map(|definition| {
            let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            let kind = definition["spec"]["names"]["kind"].as_str().unwrap();
            schemas(kind.to_owned(), schema)
        })
        .collect()
}

#[test]
fn schemas_are_structural() {
    let definitions = definitions();
    let schemas = all_schemas(&definitions);
    assert!(schemas.len() > 100, "{}", schemas.len());
    for (path, schema) in schemas {
        let keywords = schema.as_object().unwrap();
        let type_ = schema["type"].as_str().unwrap_or_else(|| panic!("{path} has no type"));
        assert_eq!(type_ == "array", schema["items"].is_object(), "{path}");
        assert!(
            !(keywords.contains_key("properties") && keywords.contains_key("additionalProperties")),
            "{path}"
        );
        for forbidden in ["$ref", "anyOf", "oneOf", "allOf", "not", "definitions", "uniqueItems", "default"] {
            assert!(!keywords.contains_key(forbidden), "{path} has {forbidden}");
        }
        let fields: Vec<&String> =
            schema["properties"].as_object().into_iter().flat_map(|it| it.keys()).collect();
        for required in schema["required"].as_array().into_iter().flatten() {
            assert!(fields.iter().any(|field| *field == required), "{path} lacks {required}");
        }
        assert!(schema["description"].is_string() || path.ends_with("[]"), "{path} is not described");
    }
}

#[test]
fn fields_that_only_kuscia_knows_are_kept() {
    let definitions = definitions();
    let keeping: Vec<String> = all_schemas(&definitions)
        .into_iter()
        .filter(|(_, schema)| schema["x-kubernetes-preserve-unknown-fields"] == true)
        .map(|(path, _)| path)
        .collect();
    let expected = [
        "Domain.spec",
        "Domain.status",
        "DomainRoute.status.conditions[]",
        "DomainRoute.status",
        "ClusterDomainRoute.status.conditions[]",
        "ClusterDomainRoute.status",
        "Gateway.status",
    ];
    assert_eq!(keeping, expected);
}

#[test]
fn words_are_those_of_kuscia() {
    let definitions = definitions();
    let words: Vec<(String, String)> = all_schemas(&definitions)
        .into_iter()
        .filter(|(path, schema)| schema["enum"].is_array() && !path.starts_with("Cluster"))
        .map(|(path, schema)| (path, schema["enum"].to_string()))
        .collect();
    let expected = [
        ("Domain.spec.role", r#"["","partner"]"#),
        ("DomainRoute.spec.authenticationType", r#"["Token","MTLS","None"]"#),
        ("DomainRoute.spec.bodyEncryption.algorithm", r#"["AES","SM4"]"#),
        ("DomainRoute.spec.endpoint.ports[].protocol", r#"["HTTP","GRPC"]"#),
        ("DomainRoute.spec.interConnProtocol", r#"["","kuscia","bfia"]"#),
        ("DomainRoute.spec.tokenConfig.handshake", r#"["","signed","compatible"]"#),
        ("DomainRoute.spec.tokenConfig.tokenGenMethod", r#"["RSA-GEN","UID-RSA-GEN"]"#),
        ("DomainRoute.spec.transit.transitMethod", r#"["","THIRD-DOMAIN","REVERSE-TUNNEL"]"#),
        ("DomainRoute.status.conditions[].status", r#"["True","False","Unknown"]"#),
    ];
    assert_eq!(words, expected.map(|(path, words)| (path.to_owned(), words.to_owned())));
}

#[test]
fn conditions_are_merged_by_their_type() {
    for kind in [Kind::DomainRoute, Kind::ClusterDomainRoute] {
        let schema = definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
        let conditions = &schema["properties"]["status"]["properties"]["conditions"];
        assert_eq!(conditions["x-kubernetes-list-type"], "map");
        assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]));
        assert_eq!(conditions["items"]["required"], json!(["status", "type"]));
    }
}
