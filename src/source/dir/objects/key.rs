//! References of objects in little memory.

use std::sync::Arc;

use model::{Kind, Object, ObjectRef};

/// An [`ObjectRef`] in a third of its memory: there are as many as objects, and each is kept twice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct Key {
    kind: Kind,
    /// `namespace/name`, or the name alone where there is no namespace. Names have no slash in them.
    path: Arc<str>,
}

impl Key {
    pub(super) fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        let path = if namespace.is_empty() { name.into() } else { format!("{namespace}/{name}").into() };
        Self { kind, path }
    }

    pub(super) fn of(object: &Object) -> Self {
        let ObjectRef { kind, namespace, name } = object.reference();
        Self::new(kind, &namespace, &name)
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn name(&self) -> &str {
        self.path.rsplit_once('/').map_or(&self.path, |(_, name)| name)
    }

    pub(super) fn reference(&self) -> ObjectRef {
        let namespace = self.path.rsplit_once('/').map_or("", |(namespace, _)| namespace);
        ObjectRef { kind: self.kind, namespace: namespace.to_owned(), name: self.name().to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_reference_that_it_was_made_of() {
        for (namespace, name) in [("", "bob"), ("alice", "a.b"), ("odd/space", "a")] {
            let kind = if namespace.is_empty() { Kind::Domain } else { Kind::Service };
            let key = Key::new(kind, namespace, name);
            let reference = ObjectRef { kind, namespace: namespace.to_owned(), name: name.to_owned() };
            assert_eq!((key.name(), key.reference()), (name, reference));
        }
    }
}
