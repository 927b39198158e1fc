//! The objects that a source delivers.

use std::fmt;

use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Resource as _;
use serde::Serialize;

use crate::api::{ClusterDomainRoute, Domain, DomainRoute, Gateway};
use crate::error::FieldErrors;
use crate::{cluster_route, domain, endpoints, route, service};

/// The kinds of objects that the mesh reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Kind {
    /// `kuscia.secretflow/v1alpha1` Domain.
    Domain,
    /// `kuscia.secretflow/v1alpha1` DomainRoute.
    DomainRoute,
    /// `kuscia.secretflow/v1alpha1` ClusterDomainRoute.
    ClusterDomainRoute,
    /// `kuscia.secretflow/v1alpha1` Gateway.
    Gateway,
    /// Kubernetes `v1` Service.
    Service,
    /// Kubernetes `v1` Endpoints.
    Endpoints,
    /// Kubernetes `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Domain,
        Self::DomainRoute,
        Self::ClusterDomainRoute,
        Self::Gateway,
        Self::Service,
        Self::Endpoints,
        Self::EndpointSlice,
    ];

    /// The kind of a manifest with these fields, if the mesh reads it.
    #[must_use]
    pub fn of_manifest(api_version: &str, kind: &str) -> Option<Self> {
        Some(match (api_version, kind) {
            ("kuscia.secretflow/v1alpha1", "Domain") => Self::Domain,
            ("kuscia.secretflow/v1alpha1", "DomainRoute") => Self::DomainRoute,
            ("kuscia.secretflow/v1alpha1", "ClusterDomainRoute") => Self::ClusterDomainRoute,
            ("kuscia.secretflow/v1alpha1", "Gateway") => Self::Gateway,
            ("v1", "Service") => Self::Service,
            ("v1", "Endpoints") => Self::Endpoints,
            ("discovery.k8s.io/v1", "EndpointSlice") => Self::EndpointSlice,
            _ => return None,
        })
    }

    /// True for kinds that stand in a namespace.
    #[must_use]
    pub fn is_namespaced(self) -> bool {
        !matches!(self, Self::Domain | Self::ClusterDomainRoute)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Which object is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for cluster-wide kinds.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            return write!(f, "{} {}", self.kind, self.name);
        }
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// An object as it was written, not yet parsed.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A domain.
    Domain(Box<Domain>),
    /// A route of one side.
    DomainRoute(Box<DomainRoute>),
    /// A route for both sides.
    ClusterDomainRoute(Box<ClusterDomainRoute>),
    /// A running gateway.
    Gateway(Box<Gateway>),
    /// A service.
    Service(Box<Service>),
    /// Addresses of a service.
    Endpoints(Box<Endpoints>),
    /// Addresses of a service.
    EndpointSlice(Box<EndpointSlice>),
}

impl Object {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Domain(_) => Kind::Domain,
            Self::DomainRoute(_) => Kind::DomainRoute,
            Self::ClusterDomainRoute(_) => Kind::ClusterDomainRoute,
            Self::Gateway(_) => Kind::Gateway,
            Self::Service(_) => Kind::Service,
            Self::Endpoints(_) => Kind::Endpoints,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
        }
    }

    /// Kind, namespace and name.
    #[must_use]
    pub fn reference(&self) -> ObjectRef {
        let metadata = match self {
            Self::Domain(object) => object.meta(),
            Self::DomainRoute(object) => object.meta(),
            Self::ClusterDomainRoute(object) => object.meta(),
            Self::Gateway(object) => object.meta(),
            Self::Service(object) => object.meta(),
            Self::Endpoints(object) => object.meta(),
            Self::EndpointSlice(object) => object.meta(),
        };
        let kind = self.kind();
        let namespace = metadata.namespace.as_ref().filter(|_| kind.is_namespaced());
        ObjectRef {
            kind,
            namespace: namespace.cloned().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
        }
    }

    /// Checks what can be checked of the object alone: without this domain's key and without other objects.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn check(&self) -> Result<(), FieldErrors> {
        match self {
            Self::Domain(object) => domain::parse(object).map(drop),
            Self::DomainRoute(object) => route::check(object),
            Self::ClusterDomainRoute(object) => {
                route::check_both_sides(&cluster_route::expand(object, &object.spec.route.source))
            }
            Self::Gateway(_) => Ok(()),
            Self::Service(object) => service::parse(object).map(drop),
            Self::Endpoints(object) => endpoints::parse_endpoints(object).map(drop),
            Self::EndpointSlice(object) => endpoints::parse_slice(object).map(drop),
        }
    }

    /// The object, in `namespace` if it needs one and has none.
    pub(crate) fn in_namespace(mut self, namespace: &str) -> Self {
        let metadata = match &mut self {
            Self::DomainRoute(object) => object.meta_mut(),
            Self::Gateway(object) => object.meta_mut(),
            Self::Service(object) => object.meta_mut(),
            Self::Endpoints(object) => object.meta_mut(),
            Self::EndpointSlice(object) => object.meta_mut(),
            Self::Domain(_) | Self::ClusterDomainRoute(_) => return self,
        };
        if metadata.namespace.as_deref().is_none_or(str::is_empty) {
            metadata.namespace = Some(namespace.to_owned());
        }
        self
    }
}
