//! What sources say.

use crate::{Kind, Object, ObjectRef};

/// What a source tells the [`Index`](crate::Index).
///
/// A source that (re)reads all objects of a kind says `Init`, then `InitApply` or `InitKeep` for each, then `InitDone`;
/// until then the old state of that kind stays. Objects that a finished reading did not name are gone. No other event of the kind
/// comes in between.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A reading of all objects of this kind begins.
    Init(Kind),
    /// An object of that reading.
    InitApply(Object),
    /// An object of that reading which cannot be read itself: the version before, if any, stays in force.
    InitKeep(ObjectRef),
    /// The reading of this kind is complete.
    InitDone(Kind),
    /// An object was added or changed.
    Apply(Object),
    /// An object is gone.
    Delete(ObjectRef),
}
