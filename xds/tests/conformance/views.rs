//! Several Envoys, each with a view of its own.

use harness::free_address;
use networkmesh_xds::{Cache, Clients, ListenAddress, Node, Peer, ResourceType, bind};
use tokio_util::sync::CancellationToken;

use crate::support::{
    envoy::Envoy,
    eventually,
    resources::{Dialect, endpoints, routes, set},
    upstream::{get, is_from, upstream},
};

in_every_dialect! {
    each_envoy_is_served_what_is_for_its_node
}

async fn each_envoy_is_served_what_is_for_its_node(dialect: Dialect) {
    let folder = tempfile::tempdir().unwrap();
    let bound = bind(&ListenAddress::Unix(folder.path().join("xds.sock"))).unwrap();
    let address = bound.address().clone();
    let (one, two, clients) = (Cache::new(), Cache::new(), Clients::new());
    let caches = [("one", one.clone()), ("two", two.clone())];
    let views = move |node: &Node, _: &Peer| {
        caches.iter().find(|(id, _)| *id == node.id).map(|(_, cache)| cache.clone())
    };
    let shutdown = CancellationToken::new();
    let _guard = shutdown.clone().drop_guard();
    tokio::spawn(bound.serve(views, clients.clone(), shutdown));

    let (blue, green) = (upstream("blue").await, upstream("green").await);
    let fronts = [(); 2].map(|()| free_address().unwrap());
    for ((cache, to), front) in [(&one, blue), (&two, green)].into_iter().zip(fronts) {
        cache.apply([
            set("web", &dialect.cluster("web")),
            set("web", &endpoints("web", to)),
            set("routes", &routes("routes", "web")),
            set("front", &dialect.listener("front", front, "routes")),
        ]);
    }
    let (_first, second) = tokio::join!(
        Envoy::start(folder.path(), &address, "one", dialect),
        Envoy::start(folder.path(), &address, "two", dialect),
    );
    let [first_front, second_front] = fronts;
    eventually("one is led to blue", || get(first_front, "/", &[]), |it| is_from(it, "blue")).await;
    eventually("two is led to green", || get(second_front, "/", &[]), |it| is_from(it, "green")).await;

    let updates = second.stat("cluster.web.update_success").await;
    one.apply([set("web", &endpoints("web", green))]);
    eventually("one is led to green", || get(first_front, "/", &[]), |it| is_from(it, "green")).await;
    two.apply([set("web", &endpoints("web", blue))]);
    eventually("two is led to blue", || get(second_front, "/", &[]), |it| is_from(it, "blue")).await;
    assert_eq!(
        second.stat("cluster.web.update_success").await,
        updates + 1,
        "what is not for it is not sent to it"
    );

    let held = |node: &str, cache: &Cache| {
        let version = cache.state().resource(ResourceType::ClusterLoadAssignment, "web").unwrap().version();
        clients.snapshot().into_iter().filter(|client| client.node == node).any(|client| {
            let types = client.types.get(&ResourceType::ClusterLoadAssignment);
            types.and_then(|it| it.resources.get("web")).is_some_and(|it| it.acked == Some(version))
        })
    };
    eventually("each holds its own", async || held("one", &one) && held("two", &two), |it| *it).await;
}
