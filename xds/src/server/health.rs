//! The gRPC health protocol (`grpc.health.v1.Health`).

use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

use super::service::SERVICES;
use crate::cache::Cache;

/// Reports all services as serving from when all caches are loaded to the shutdown, at which it returns.
pub(super) async fn report(mut reporter: HealthReporter, caches: Vec<Cache>, shutdown: CancellationToken) {
    let loaded = async {
        for cache in caches {
            // Fails only if the cache is gone, and `cache` is it.
            cache.watch().wait_for(|state| state.is_loaded()).await.map(drop).ok();
        }
    };
    if shutdown.run_until_cancelled(loaded).await.is_some() {
        set(&reporter, ServingStatus::Serving).await;
        shutdown.cancelled().await;
    }
    set(&reporter, ServingStatus::NotServing).await;
    // Whoever watches hears of it, and then its stream ends, which the shutdown waits for.
    for name in names() {
        reporter.clear_service_status(name).await;
    }
}

/// Reports the status of all services, and of the server as a whole, which goes by an empty name.
pub(super) async fn set(reporter: &HealthReporter, status: ServingStatus) {
    for name in names() {
        reporter.set_service_status(name, status).await;
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    std::iter::once("").chain(SERVICES.into_iter().map(|(name, ..)| name))
}
