//! Statuses that this version does not write: of an older one, cut off, or nonsense. The link that such a status is of
//! works again by itself, and no other one notices.

use std::fs;
use std::path::Path;

use certs::DomainKey;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use model::TOKEN_BYTES;
use model::api::{DomainRoute, DomainRouteTokenStatus};
use networkmesh::harness::domain::{Domain, Home};
use serde_json::{Map, Value, json};

use super::partner::{Partner, headers};
use super::stream::Traffic;
use super::world::{
    DEADLINE, PROGRAM, Source, World, answers, apply_route, confirmed_revision, echoed, eventually, key_of,
    route_status, set_source, token,
};

scenes!(
    a_status_of_an_older_version_keeps_its_token,
    a_source_gets_over_whatever_its_status_says,
    a_destination_gets_over_whatever_its_statuses_say,
);

/// What somebody does to the tokens of a status.
type Spoil = fn(&mut Value);

/// By names that are domain IDs, too.
const SPOILT: [(&str, Spoil); 11] = [
    ("no-base64", |tokens| {
        each(tokens, |token| token["token"] = "no base64!".into());
    }),
    ("cut-off", |tokens| {
        each(tokens, |token| token["token"] = half(token["token"].as_str().unwrap()).into());
    }),
    ("largest-revision", |tokens| each(tokens, |token| token["revision"] = i64::MAX.into())),
    ("negative-revision", |tokens| each(tokens, |token| token["revision"] = (-1).into())),
    ("year-9999", |tokens| set_times(tokens, "9999-12-31T23:59:59Z")),
    ("year-1970", |tokens| set_times(tokens, "1970-01-01T00:00:00Z")),
    ("last-request-ever", |tokens| each(tokens, |token| token["signedRequestTime"] = i64::MAX.into())),
    ("request-of-later", |tokens| each(tokens, |token| token["signedRequestTime"] = (i64::MAX / 2).into())),
    ("not-ready", |tokens| each(tokens, |token| token["isReady"] = false.into())),
    ("nobody", |tokens| tokens["revisionInitializer"] = "nobody's gateway".into()),
    ("ten-thousand-tokens", |tokens| {
        let tokens_of = |revision| json!({"isReady": true, "token": "AAAA", "revision": revision});
        tokens["tokens"] = (0..10_000).map(tokens_of).collect();
    }),
];

/// What somebody does to a file.
type SpoilFile = fn(&str) -> String;

/// What can only happen to a file.
const SPOILT_FILES: [(&str, SpoilFile); 6] = [
    ("empty", |_| String::new()),
    ("half", half),
    ("zeros", |text| "\0".repeat(text.len())),
    ("another type", |_| "[]".to_owned()),
    ("a number too large", |text| text.replacen("\"revision\": ", "\"revision\": 99999999999999999999", 1)),
    ("too long", |text| format!("{text}{}", " ".repeat(5 * 1024 * 1024))),
];

fn half(text: &str) -> String {
    text[..text.len() / 2].to_owned()
}

fn each(tokens: &mut Value, change: impl Fn(&mut Value)) {
    change(&mut tokens["revisionToken"]);
    tokens["tokens"].as_array_mut().into_iter().flatten().for_each(change);
}

fn set_times(tokens: &mut Value, time: &str) {
    each(tokens, |token| {
        for field in ["revisionTime", "expirationTime", "heartBeatTime"] {
            token[field] = time.into();
        }
    });
}

fn remove(tokens: &mut Value, fields: &[&str]) {
    each(tokens, |token| token.as_object_mut().unwrap().retain(|name, _| !fields.contains(&name.as_str())));
}

async fn a_status_of_an_older_version_keeps_its_token(on: Source) {
    let mut world = World::two_domains(on).await;
    let traffic = Traffic::start(&world.alice, "echo.bob.svc").await;
    let before = (token(&world.alice, "bob").await, confirmed_revision(&world.alice, &world.bob).await);
    let older: [(&str, Spoil); 2] = [
        ("without signatures", |tokens| remove(tokens, &["signedRequestTime"])),
        ("without proof and list", |tokens| {
            remove(tokens, &["signedRequestTime", "heartBeatTime", "effectiveInstances"]);
        }),
    ];
    for (what, spoil) in older {
        for domain in [&mut world.alice, &mut world.bob] {
            spoil_statuses(domain, &["alice-bob", "bob-alice"], |_| spoil).await;
        }
        let signed_before = async |domain: &Domain| {
            let status = domain.stored_status("alice-bob").await.unwrap().token_status;
            status.revision_token.signed_request_time
        };
        assert_eq!(
            [signed_before(&world.alice).await, signed_before(&world.bob).await],
            [None, None],
            "{what}"
        );
        // Both notice again what they had forgotten.
        eventually("both ends know that the token is used", async || {
            for domain in [&world.alice, &world.bob] {
                let newest = domain.stored_status("alice-bob").await.unwrap().token_status.revision_token;
                if newest.heart_beat_time.is_none() {
                    return Err(format!("{}: {newest:?}", domain.name));
                }
            }
            Ok(())
        })
        .await;
        world.agree().await;
        let after = (token(&world.alice, "bob").await, confirmed_revision(&world.alice, &world.bob).await);
        assert_eq!(after, before, "{what}");
    }
    traffic.more(10).await;
    assert_eq!(traffic.failures().await, Vec::<String>::new());
}

async fn a_source_gets_over_whatever_its_status_says(on: Source) {
    let mut world = World::two_domains(on).await;
    let others = Traffic::start(&world.bob, "echo.alice.svc").await;
    for (what, spoil) in SPOILT {
        spoil_statuses(&mut world.alice, &["alice-bob"], |_| spoil).await;
        expect_link(&world, what).await;
    }
    if on == Source::Directory {
        for (what, spoil) in SPOILT_FILES {
            let spoil_file = |domain: &Domain| {
                let file = domain.folder.join("state/domainroutes/alice-bob.json");
                let text = fs::read_to_string(&file).unwrap();
                let spoilt = spoil(&text);
                assert_ne!(spoilt, text, "{what}");
                fs::write(&file, spoilt).unwrap();
            };
            restart(&mut world.alice, spoil_file).await;
            expect_link(&world, what).await;
        }
    }
    others.more(10).await;
    assert_eq!(others.failures().await, Vec::<String>::new());
}

/// Waits until alice sends bob a token that both have under one number, and her applications get through.
async fn expect_link(world: &World, what: &str) {
    let keys = [key_of(&world.alice), key_of(&world.bob)];
    eventually(&format!("{what}: one token at both ends"), async || {
        let route = route_status(&world.alice, "alice-bob").await?;
        if !route.holds("Authenticated") {
            return Err(format!("{route:?}"));
        }
        let at = async |domain: &Domain| {
            let status = domain.stored_status("alice-bob").await;
            Ok::<_, String>(status.map_err(|error| error.to_string())?.token_status)
        };
        let (at_alice, at_bob) = (at(&world.alice).await?, at(&world.bob).await?);
        let sent = opened(&keys[0], &at_alice).pop().ok_or("alice has none")?;
        let is_sane = at_alice.revision_token.revision == sent.0;
        if is_sane && opened(&keys[1], &at_bob).contains(&sent) {
            Ok(())
        } else {
            Err(format!("{:?} and {:?}", at_alice.revision_token, at_bob.revision_token))
        }
    })
    .await;
    assert_eq!(echoed(&answers(&world.alice, "echo.bob.svc", 200).await).service, "echo.bob", "{what}");
}

/// The tokens that can be opened with `key`, with their numbers; the newest one last.
fn opened(key: &DomainKey, status: &DomainRouteTokenStatus) -> Vec<(i64, Vec<u8>)> {
    let all = status.tokens.iter().chain([&status.revision_token]);
    all.filter_map(|token| Some((token.revision, key.open(&token.token, TOKEN_BYTES).ok()?.to_vec())))
        .collect()
}

async fn a_destination_gets_over_whatever_its_statuses_say(on: Source) {
    let mut world = World::two_domains(on).await;
    let sources: Vec<Partner> = SPOILT.iter().map(|(name, _)| Partner::new(name)).collect();
    for source in &sources {
        let mut route = world.alice.route_to(&world.bob);
        set_source(&mut route, source.name, &source.public_key());
        apply_route(&world.bob, &route).await;
    }
    for source in &sources {
        expect_token(&world.bob, source).await;
    }
    let before = token(&world.alice, "bob").await;
    let others = Traffic::start(&world.alice, "echo.bob.svc").await;
    let routes: Vec<String> = sources.iter().map(|source| format!("{}-bob", source.name)).collect();
    let routes: Vec<&str> = routes.iter().map(String::as_str).collect();
    spoil_statuses(&mut world.bob, &routes, |number| SPOILT[number].1).await;
    for source in &sources {
        expect_token(&world.bob, source).await;
        let status = world.bob.stored_status(&format!("{}-bob", source.name)).await.unwrap().token_status;
        let sane = 1..=i64::from(i32::MAX);
        assert!(sane.contains(&status.revision_token.revision), "{}: {status:?}", source.name);
        assert!(status.tokens.len() <= 8, "{}: {}", source.name, status.tokens.len());
    }
    others.more(10).await;
    assert_eq!(others.failures().await, Vec::<String>::new());
    assert_eq!(token(&world.alice, "bob").await, before);
}

/// Waits until `source` is given a token with which it gets through.
async fn expect_token(bob: &Domain, source: &Partner) {
    eventually(&format!("a token for {}", source.name), async || {
        let (token, _) = source.signed_handshake(bob).await?;
        let called = bob.call_from_outside("/", headers(source.name, "echo.bob.svc", Some(&token))).await;
        let called = called.map_err(|error| error.to_string())?;
        if called.status() == 200 { Ok(()) } else { Err(format!("{called:?}")) }
    })
    .await;
}

/// Changes the tokens in the stored status of each of the routes, by its place among them: in files, while the mesh does
/// not run; in an API server, under its hands.
async fn spoil_statuses(domain: &mut Domain, routes: &[&str], spoil: impl Fn(usize) -> Spoil) {
    let spoilt = |number: usize, status: &Value| {
        let mut spoilt = status.clone();
        spoil(number)(&mut spoilt["tokenStatus"]);
        assert_ne!(spoilt, *status, "{}", routes[number]);
        spoilt
    };
    let Home::Namespace(namespace) = &domain.home else {
        let spoil_files = |domain: &Domain| {
            for (number, route) in routes.iter().enumerate() {
                let file = domain.folder.join(format!("state/domainroutes/{route}.json"));
                let status: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
                fs::write(&file, serde_json::to_vec_pretty(&spoilt(number, &status)).unwrap()).unwrap();
            }
        };
        return restart(domain, spoil_files).await;
    };
    // What is written here, no type of this version can hold.
    let resource = ApiResource::erase::<DomainRoute>(&());
    let client = namespace.routes().into_client();
    let objects: Api<DynamicObject> = Api::namespaced_with(client, namespace.name(), &resource);
    for (number, route) in routes.iter().enumerate() {
        let object = objects.get_status(route).await.unwrap();
        let status = &object.data["status"];
        let after = spoilt(number, status);
        let patch = Patch::Merge(json!({"status": merge_patch(status, &after)}));
        objects.patch_status(route, &PatchParams::default(), &patch).await.unwrap();
    }
}

/// What makes `after` of `before`, by RFC 7396.
fn merge_patch(before: &Value, after: &Value) -> Value {
    let (Value::Object(before), Value::Object(after)) = (before, after) else { return after.clone() };
    let gone =
        before.keys().filter(|name| !after.contains_key(*name)).map(|name| (name.clone(), Value::Null));
    let parts = after.iter().map(|(name, part)| {
        (name.clone(), merge_patch(&before.get(name).cloned().unwrap_or_default(), part))
    });
    Value::Object(gone.chain(parts).collect::<Map<_, _>>())
}

async fn restart(domain: &mut Domain, meanwhile: impl FnOnce(&Domain)) {
    domain.mesh.take().unwrap().stop(DEADLINE).await.unwrap();
    meanwhile(domain);
    domain.start_mesh(Path::new(PROGRAM)).await.unwrap();
}
