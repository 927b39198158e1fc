//! Tells whether something is still what it was, without keeping it.

use std::hash::{DefaultHasher, Hasher as _};
use std::io;
use std::num::NonZeroU64;

use model::Object;
use serde::Serialize;

/// A hash of 64 bits: of 10^19 changes, one goes unnoticed. It means nothing to another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint(NonZeroU64);

impl Fingerprint {
    /// The fingerprint of `bytes`.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(bytes);
        Self::end(&hasher)
    }

    /// The fingerprint of all that an object says; `None` if that cannot be told.
    pub(super) fn of_object(object: &Object) -> Option<Self> {
        match object {
            Object::Domain(object) => Self::of_json(object),
            Object::DomainRoute(object) => Self::of_json(object),
            Object::ClusterDomainRoute(object) => Self::of_json(object),
            Object::Gateway(object) => Self::of_json(object),
            Object::Service(object) => Self::of_json(object),
            Object::Endpoints(object) => Self::of_json(object),
            Object::EndpointSlice(object) => Self::of_json(object),
        }
    }

    fn of_json(object: &impl Serialize) -> Option<Self> {
        let mut hashing = Hashing(DefaultHasher::new());
        serde_json::to_writer(&mut hashing, object).ok()?;
        Some(Self::end(&hashing.0))
    }

    fn end(hasher: &DefaultHasher) -> Self {
        Self(NonZeroU64::new(hasher.finish()).unwrap_or(NonZeroU64::MIN))
    }
}

/// Hashes what is written to it.
struct Hashing(DefaultHasher);

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
