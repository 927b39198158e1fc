//! What parts of the mesh complain of that show nowhere else.

use tokio::sync::watch;

/// The parts that may complain, each of one thing at a time.
#[derive(Clone, Default)]
pub(crate) struct Complaints {
    parts: Vec<watch::Receiver<Option<String>>>,
    /// The controller, if this mesh is a candidate for it.
    pub(crate) controller: Option<watch::Receiver<controller::State>>,
}

impl Complaints {
    /// A place for a part to say what is wrong.
    pub(crate) fn add(&mut self) -> watch::Sender<Option<String>> {
        let (part_in, part) = watch::channel(None);
        self.parts.push(part);
        part_in
    }

    /// What is wrong at this moment.
    pub(crate) fn all(&self) -> Vec<String> {
        let parts = self.parts.iter().filter_map(|part| part.borrow().clone());
        let controller = self.controller.iter().flat_map(|state| state.borrow().problems.clone());
        parts.chain(controller.map(|problem| format!("controller: {problem}"))).collect()
    }
}
