//! What the contestants are fed with: files, made before anything is measured.

use std::path::{Path, PathBuf};

use crate::{
    Failure,
    contestants::Layout,
    file::{self, Resource},
    kuscia,
    world::{Kind, World},
};

/// How many changes a burst has.
pub(crate) const BURST: usize = 10_000;

/// Both layouts of one world.
pub(crate) struct Materials {
    pub(crate) services: usize,
    pub(crate) folder: PathBuf,
    ours: Material,
    kuscia: Material,
}

/// The resources of a layout, and what is changed in them.
pub(crate) struct Material {
    pub(crate) file: PathBuf,
    pub(crate) resources: Vec<Resource>,
    changes: Vec<(Kind, Alternating)>,
    pub(crate) moves_file: PathBuf,
    pub(crate) moves: Vec<Resource>,
}

/// A change and the way back.
pub(crate) struct Alternating {
    /// The same types change on both ways.
    pub(crate) there: Vec<Resource>,
    pub(crate) files: [PathBuf; 2],
}

impl Materials {
    /// Everything at this many services.
    pub(crate) fn write(folder: &Path, services: usize) -> Result<Self, Failure> {
        let (internal, external) = (harness::free_address()?, harness::free_address()?);
        let mut world = World::new(services, internal, external)?;
        let domains = world.domains();
        let ours = world.resources()?;
        let mut changes = Vec::new();
        for kind in Kind::ALL {
            changes.push((kind, world.change(kind)?));
        }
        let ours = Material::write(&folder.join("ours"), ours, changes, world.moves(BURST)?)?;
        let changes = Kind::ALL.map(|kind| Some((kind, kuscia::change(services, domains, kind)?)));
        let kuscia = Material::write(
            &folder.join("kuscia"),
            kuscia::resources(services, domains, internal, external),
            changes.into_iter().flatten().collect(),
            kuscia::moves(services, BURST),
        )?;
        Ok(Self { services, folder: folder.to_owned(), ours, kuscia })
    }

    /// Only the resources, for any number of services.
    pub(crate) fn write_resources(folder: &Path, services: usize) -> Result<Self, Failure> {
        let (internal, external) = (harness::free_address()?, harness::free_address()?);
        let world = World::new(services, internal, external)?;
        let kuscia = kuscia::resources(services, world.domains(), internal, external);
        Ok(Self {
            services,
            folder: folder.to_owned(),
            ours: Material::write(&folder.join("ours"), world.resources()?, Vec::new(), Vec::new())?,
            kuscia: Material::write(&folder.join("kuscia"), kuscia, Vec::new(), Vec::new())?,
        })
    }

    pub(crate) fn of(&self, layout: Layout) -> &Material {
        match layout {
            Layout::Ours => &self.ours,
            Layout::Kuscia => &self.kuscia,
        }
    }
}

impl Material {
    fn write(
        folder: &Path,
        resources: Vec<Resource>,
        changes: Vec<(Kind, [Vec<Resource>; 2])>,
        moves: Vec<Resource>,
    ) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder)?;
        let file = folder.join("resources");
        file::write(&file, &resources)?;
        let moves_file = folder.join("moves");
        file::write(&moves_file, &moves)?;
        let mut alternating = Vec::new();
        for (kind, [there, back]) in changes {
            let files = ["there", "back"].map(|way| folder.join(format!("{kind:?}-{way}")));
            file::write(&files[0], &there)?;
            file::write(&files[1], &back)?;
            alternating.push((kind, Alternating { there, files }));
        }
        Ok(Self { file, resources, changes: alternating, moves_file, moves })
    }

    /// `None` where the layout has no such thing.
    pub(crate) fn change(&self, kind: Kind) -> Option<&Alternating> {
        self.changes.iter().find(|(known, _)| *known == kind).map(|(_, change)| change)
    }
}
