//! The watches: what the API server says, as [`Change`]s.

use std::fmt;

use futures_util::stream::{self, BoxStream, Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::DynamicObject;
use kube::core::{ApiResource, PartialObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use model::api::{ClusterDomainRoute, Domain, DomainRoute, Gateway};

use crate::world::Place;

/// The kinds that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Domain,
    Namespace,
    ClusterDomainRoute,
    DomainRoute,
    Gateway,
}

impl Kind {
    /// Every kind.
    pub(crate) const ALL: [Self; 5] =
        [Self::Domain, Self::Namespace, Self::ClusterDomainRoute, Self::DomainRoute, Self::Gateway];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An object as the API server has it.
#[derive(Clone, Debug)]
pub(crate) enum Object {
    Domain(Box<Domain>),
    Namespace(Box<PartialObjectMeta<Namespace>>),
    ClusterDomainRoute(Box<ClusterDomainRoute>),
    DomainRoute(Box<DomainRoute>),
    Gateway(Box<Gateway>),
}

impl Object {
    /// Its kind.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Domain(_) => Kind::Domain,
            Self::Namespace(_) => Kind::Namespace,
            Self::ClusterDomainRoute(_) => Kind::ClusterDomainRoute,
            Self::DomainRoute(_) => Kind::DomainRoute,
            Self::Gateway(_) => Kind::Gateway,
        }
    }

    /// Where it is.
    pub(crate) fn place(&self) -> Place {
        Place::of(match self {
            Self::Domain(object) => object.meta(),
            Self::Namespace(object) => object.meta(),
            Self::ClusterDomainRoute(object) => object.meta(),
            Self::DomainRoute(object) => object.meta(),
            Self::Gateway(object) => object.meta(),
        })
    }
}

/// What a watch says.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// All objects of a kind are listed from here on.
    Listing(Kind),
    /// One of them.
    Listed(Object),
    /// Those were all.
    AllListed(Kind),
    /// An object is new or has changed.
    Put(Object),
    /// An object is there that cannot be read; what was read of it before still holds.
    Unreadable { kind: Kind, place: Place, error: String },
    /// An object is gone.
    Gone(Kind, Place),
}

/// A change, or why the watch of a kind gives none; it goes on by itself.
pub(crate) type Seen = Result<Change, (Kind, watcher::Error)>;

/// Watches everything, for ever.
pub(crate) fn watch_all(client: &Client) -> impl Stream<Item = Seen> + Send + Unpin + use<> {
    let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(client.clone());
    let namespaces = anew(move || watcher(namespaces.clone(), watcher::Config::default()));
    let namespace = |namespace| Ok(Object::Namespace(Box::new(namespace)));
    stream::select_all([
        changes(Kind::Namespace, namespaces, namespace),
        changes(Kind::Domain, watch_raw::<Domain>(client), |raw| read(model::Kind::Domain, &raw)),
        changes(Kind::ClusterDomainRoute, watch_raw::<ClusterDomainRoute>(client), |raw| {
            read(model::Kind::ClusterDomainRoute, &raw)
        }),
        changes(Kind::DomainRoute, watch_raw::<DomainRoute>(client), |raw| {
            read(model::Kind::DomainRoute, &raw)
        }),
        changes(Kind::Gateway, watch_raw::<Gateway>(client), |raw| read(model::Kind::Gateway, &raw)),
    ])
}

/// Watches objects as they are: one that cannot be read must not hide the others.
fn watch_raw<K: Resource<DynamicType = ()>>(
    client: &Client,
) -> impl Stream<Item = watcher::Result<Event<DynamicObject>>> + Send + use<K> {
    let objects = Api::<DynamicObject>::all_with(client.clone(), &ApiResource::erase::<K>(&()));
    anew(move || watcher(objects.clone(), watcher::Config::default()))
}

/// Watches, and begins anew with a listing where a watch could not be taken up again: the API server may have been
/// restored from a backup. It then counts its versions from an earlier one, and would say nothing to a watch that goes on
/// from a later one.
fn anew<K, S>(watch: impl FnMut() -> S) -> impl Stream<Item = watcher::Result<Event<K>>>
where
    S: Stream<Item = watcher::Result<Event<K>>>,
{
    stream::unfold((watch, None), async |(mut watch, events)| {
        let mut events = events.unwrap_or_else(|| Box::pin(watch()));
        let event = events.next().await?;
        let is_lost = matches!(event, Err(watcher::Error::WatchStartFailed(_)));
        Some((event, (watch, (!is_lost).then_some(events))))
    })
}

/// Reads an object of the mesh. The error does not show what stands there, which may be secret.
fn read(kind: model::Kind, raw: &DynamicObject) -> Result<Object, String> {
    let value = serde_json::to_value(raw).map_err(|error| error.to_string())?;
    match model::read_object(kind, &value).map_err(|errors| errors.to_string())? {
        model::Object::Domain(object) => Ok(Object::Domain(object)),
        model::Object::ClusterDomainRoute(object) => Ok(Object::ClusterDomainRoute(object)),
        model::Object::DomainRoute(object) => Ok(Object::DomainRoute(object)),
        model::Object::Gateway(object) => Ok(Object::Gateway(object)),
        other => Err(format!("{} is not watched", other.kind())),
    }
}

fn changes<K: ResourceExt + Send + 'static>(
    kind: Kind,
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    parse: fn(K) -> Result<Object, String>,
) -> BoxStream<'static, Seen> {
    let read = move |raw: K, read: fn(Object) -> Change| {
        let place = Place::of(raw.meta());
        parse(raw).map_or_else(|error| Change::Unreadable { kind, place, error }, read)
    };
    let change = move |event: Event<K>| match event.modify(|object| object.managed_fields_mut().clear()) {
        Event::Init => Change::Listing(kind),
        Event::InitApply(raw) => read(raw, Change::Listed),
        Event::InitDone => Change::AllListed(kind),
        Event::Apply(raw) => read(raw, Change::Put),
        Event::Delete(raw) => Change::Gone(kind, Place::of(raw.meta())),
    };
    events.default_backoff().map(move |event| event.map(change).map_err(|error| (kind, error))).boxed()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use kube::core::Status;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_watch_that_cannot_be_taken_up_again_begins_anew_before_anything_else_is_heard_of_it() {
        let fails = || kube::Error::Api(Status::failure("no etcd", "Reason").with_code(500).boxed());
        let mut begun = 0;
        let watches = anew(|| {
            begun += 1;
            let events: Vec<watcher::Result<Event<u8>>> = vec![
                Ok(Event::InitDone),
                Err(watcher::Error::WatchFailed(fails())),
                Ok(Event::Apply(begun)),
                Err(watcher::Error::WatchStartFailed(fails())),
            ];
            stream::iter(events).chain(stream::pending())
        });
        let heard: Vec<_> = watches
            .take(6)
            .map(|event| event.map_or_else(|error| error.to_string(), |event| format!("{event:?}")))
            .collect::<Vec<_>>()
            .now_or_never()
            .unwrap();
        assert_eq!((heard[0].as_str(), heard[2].as_str()), ("InitDone", "Apply(1)"), "{heard:?}");
        assert_eq!(heard[4], "InitDone", "{heard:?}");
    }

    #[test]
    fn what_cannot_be_read_is_told_by_field_without_what_stands_there() {
        let raw =
            |spec| serde_json::from_value(json!({"metadata": {"name": "alice"}, "spec": spec})).unwrap();
        assert!(read(model::Kind::Domain, &raw(json!({}))).is_ok());
        let error = read(model::Kind::Domain, &raw(json!({"cert": {"pem": "secret"}}))).unwrap_err();
        assert!(error.starts_with("spec.cert: ") && !error.contains("secret"), "{error}");
    }
}
