//! Taking secrets out of what people get to see.

use serde_json::{Map, Value};

use crate::headers;

const REDACTED: &str = "<redacted>";

/// Fields of Envoy's secrets whose texts are secret, however deep they stand.
const SECRET_FIELDS: [&str; 4] = ["private_key", "password", "generic_secret", "session_ticket_keys"];

/// Headers that gateways add to requests by themselves. What else is added, routes name: that may be a credential.
const OWN_HEADERS: [&str; 6] = [
    headers::SOURCE,
    headers::ORIGIN_SOURCE,
    headers::HOST,
    headers::INTERCONN_PROTOCOL,
    headers::VIA,
    headers::FORWARDED_FOR,
];

/// Replaces what must stay secret in the JSON form of Envoy resources or of Envoy's own dumps: private keys, the
/// tokens that are sent, the tokens that are accepted, and what routes add to requests. How many there are stays
/// visible.
///
/// Fields may be named as in Envoy's .proto files or in lowerCamelCase.
pub fn redact(json: &mut Value) {
    match json {
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Object(object) => redact_object(object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn redact_object(object: &mut Map<String, Value>) {
    let sets_token = object.get("key").is_some_and(is_token_header);
    if looks_up_tokens(object) {
        object.values_mut().filter_map(|tree| tree.get_mut("map")).for_each(redact_keys);
    }
    for (name, value) in object.iter_mut() {
        let name = snake_case(name);
        if name == "request_headers_to_add" {
            redact_added_headers(value);
        }
        let is_secret = SECRET_FIELDS.contains(&name.as_str());
        if is_secret || (sets_token && matches!(name.as_str(), "value" | "raw_value")) {
            redact_texts(value);
        } else {
            redact(value);
        }
    }
}

fn redact_added_headers(options: &mut Value) {
    let headers = options.as_array_mut().into_iter().flatten().filter_map(|option| option.get_mut("header"));
    for header in headers.filter_map(Value::as_object_mut) {
        let name = header.get("key").and_then(Value::as_str).unwrap_or_default();
        if OWN_HEADERS.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            continue;
        }
        let values = header.iter_mut().filter(|(field, _)| *field != "key");
        values.for_each(|(_, value)| redact_texts(value));
    }
}

/// True for a matcher tree whose input is the header `Kuscia-Token`.
fn looks_up_tokens(tree: &Map<String, Value>) -> bool {
    let Some(input) = tree.get("input") else { return false };
    let config = input.get("typed_config").or_else(|| input.get("typedConfig"));
    let header = config.and_then(|config| config.get("header_name").or_else(|| config.get("headerName")));
    header.is_some_and(is_token_header)
}

fn is_token_header(name: &Value) -> bool {
    name.as_str().is_some_and(|name| name.eq_ignore_ascii_case(headers::TOKEN))
}

fn redact_keys(map: &mut Value) {
    let Value::Object(map) = map else { return };
    let values = std::mem::take(map).into_iter().enumerate();
    *map = values.map(|(position, (_, value))| (format!("<redacted {}>", position + 1), value)).collect();
}

fn redact_texts(value: &mut Value) {
    match value {
        Value::String(text) => REDACTED.clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(redact_texts),
        Value::Object(object) => object.values_mut().for_each(redact_texts),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn redacted(mut json: Value) -> Value {
        redact(&mut json);
        json
    }

    #[test]
    fn a_private_key_is_hidden_and_its_certificate_is_not() {
        for (chain, key, text) in [
            ("certificate_chain", "private_key", "inline_string"),
            ("certificateChain", "privateKey", "inlineBytes"),
        ] {
            assert_eq!(
                redacted(json!({"tls_certificate": {chain: {text: "CERT"}, key: {text: "KEY"}}})),
                json!({"tls_certificate": {chain: {text: "CERT"}, key: {text: REDACTED}}}),
            );
        }
    }

    #[test]
    fn only_the_token_of_the_headers_is_hidden() {
        let headers = |token: &str| {
            json!({"request_headers_to_add": [
                {"header": {"key": "kuscia-source", "value": "alice"}, "append_action": "ADD_IF_ABSENT"},
                {"header": {"key": "Kuscia-Token", "value": token}},
            ]})
        };
        assert_eq!(redacted(headers("secret")), headers(REDACTED));
    }

    #[test]
    fn what_a_route_adds_to_requests_is_hidden() {
        let headers = |field: &str, value: &str| {
            json!({field: [
                {"header": {"key": "kuscia-source", "value": "alice"}},
                {"header": {"key": "authorization", "value": value}},
                {"header": {"key": "x-any", "rawValue": value}},
            ]})
        };
        for field in ["request_headers_to_add", "requestHeadersToAdd"] {
            assert_eq!(redacted(headers(field, "secret")), headers(field, REDACTED));
        }
        let others = headers("response_headers_to_add", "open");
        assert_eq!(redacted(others.clone()), others);
    }

    #[test]
    fn accepted_tokens_are_hidden_and_counted_and_their_sources_stay() {
        let tree = |tokens: [&str; 2]| {
            let tokens: Map<String, Value> =
                tokens.into_iter().map(|token| (token.to_owned(), json!({"action": {}}))).collect();
            json!({"matcher": {"matcher_tree": {
                "input": {"typed_config": {"header_name": "kuscia-source"}},
                "exact_match_map": {"map": {"alice": {"matcher": {"matcher_tree": {
                    "input": {"typed_config": {"header_name": "kuscia-token"}},
                    "exact_match_map": {"map": tokens},
                }}}}},
            }}})
        };
        assert_eq!(redacted(tree(["one", "two"])), tree(["<redacted 1>", "<redacted 2>"]));
    }
}
