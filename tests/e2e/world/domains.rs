//! The domains of a scene.

use std::path::{Path, PathBuf};

use networkmesh::harness::domain::Domain;
use serde_json::{Value, json};
use tokio::sync::MutexGuard;

use super::{Folder, PROGRAM, Source, apply_route, confirmed_revision, envoy};
use crate::cluster;

/// Two domains, each with a mesh, an Envoy and a service `echo`.
pub(crate) struct World {
    pub(crate) alice: Domain,
    pub(crate) bob: Domain,
    pub(crate) envoy: PathBuf,
    // Dropped after the domains, whose processes write into it.
    pub(crate) folder: Folder,
    /// The scene's turn to write objects of the whole cluster, if it does.
    pub(crate) turn: Option<MutexGuard<'static, ()>>,
}

impl World {
    /// Everything runs, and both ways have a token.
    pub(crate) async fn two_domains(on: Source) -> Self {
        Self::with_routes(on, |_| ()).await
    }

    /// The same, with routes as `change` makes them of the usual ones.
    pub(crate) async fn with_routes(on: Source, change: impl Fn(&mut Value)) -> Self {
        let mut world = Self::laid_out(on, &json!({}), &json!({})).await;
        for mut route in [world.alice.route_to(&world.bob), world.bob.route_to(&world.alice)] {
            change(&mut route);
            world.connect(&route).await;
        }
        world.start().await;
        world.agree().await;
        world
    }

    /// Nothing runs but the services, and there are no routes. The configurations are the usual ones with `alice` and
    /// `bob` merged over them.
    pub(crate) async fn laid_out(on: Source, alice: &Value, bob: &Value) -> Self {
        let folder = Folder::new(on);
        let mut world = Self {
            alice: folder.domain("alice", alice).await,
            bob: folder.domain("bob", bob).await,
            envoy: envoy().await,
            folder,
            turn: None,
        };
        for domain in [&mut world.alice, &mut world.bob] {
            domain.serve_echo("echo").await.unwrap_or_else(|error| panic!("{error}"));
        }
        world
    }

    /// Gives a route to both sides.
    pub(crate) async fn connect(&self, route: &Value) {
        apply_route(&self.alice, route).await;
        apply_route(&self.bob, route).await;
    }

    /// Waits for the scene's turn to write `Domain`s, which all domains of a cluster share.
    pub(crate) async fn take_turn(&mut self, on: Source) {
        if on == Source::Kubernetes {
            self.turn = Some(cluster::turn().await);
        }
    }

    pub(crate) async fn start(&mut self) {
        let program = Path::new(PROGRAM);
        let started = async {
            tokio::try_join!(self.alice.start_mesh(program), self.bob.start_mesh(program))?;
            tokio::try_join!(
                self.alice.start_envoy(program, &self.envoy),
                self.bob.start_envoy(program, &self.envoy)
            )
        };
        started.await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Waits for tokens both ways.
    pub(crate) async fn agree(&self) {
        confirmed_revision(&self.alice, &self.bob).await;
        confirmed_revision(&self.bob, &self.alice).await;
    }
}

/// Domain alice alone, without Envoy.
pub(crate) struct Alone {
    pub(crate) alice: Domain,
    pub(crate) folder: Folder,
}

impl Alone {
    /// Nothing runs yet.
    pub(crate) async fn laid_out(on: Source, config: &Value) -> Self {
        let folder = Folder::new(on);
        Self { alice: folder.domain("alice", config).await, folder }
    }

    pub(crate) async fn start_mesh(&mut self) {
        self.alice.start_mesh(Path::new(PROGRAM)).await.unwrap_or_else(|error| panic!("{error}"));
    }
}
