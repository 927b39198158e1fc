//! `networkmesh.yaml` and `kuscia.yaml` → [`Config`].
//!
//! Everything is parsed before anything is refused, so that one run names all errors: each with its file, the path
//! of its field and a remedy. Paths are relative to the folder of the file that they stand in.

mod dns;
mod error;
mod fields;
mod identity;
mod listen;
mod pem_file;
mod sections;
mod source;

use std::path::{Path, PathBuf, absolute};

use certs::DomainKey;
use model::{DomainId, Problem};
use serde_json::Value;
use serde_saphyr::UserMessageFormatter;
use zeroize::Zeroizing;

pub use self::dns::Dns;
pub use envoy::{AccessLog, ExternalProtocol as Protocol};
pub use error::{ConfigError, ConfigErrors};
pub use identity::{Mode, read_key_file};
pub use listen::{Listen, reachable};
pub use sections::{Certificates, Envoy, ServerTls, Xds};
pub use source::{Directory, Kubernetes, Source};

pub(crate) use pem_file::{read_pem_file, warn_of_exposed_key};

use fields::Fields;
use identity::Identity;

/// How the mesh of one domain is to run.
#[derive(Clone, Debug)]
pub struct Config {
    /// How the domain is organised. Only [`Mode::Autonomy`] can be run.
    pub mode: Mode,
    /// The domain; not one of the reserved names.
    pub domain: DomainId,
    /// Its private key.
    pub key: DomainKey,
    /// What the external listener speaks.
    pub protocol: Protocol,
    /// Where the domain's objects come from.
    pub source: Source,
    /// Whether to compete for the controller's part; only with a Kubernetes source.
    pub controller: bool,
    /// How the mesh serves Envoy's configuration.
    pub xds: Xds,
    /// Where the mesh and its Envoy listen.
    pub listen: Listen,
    /// What Envoy is told at its start.
    pub envoy: Envoy,
    /// Name resolution for the domain's applications.
    pub dns: Dns,
    /// The leaf certificates of the listeners.
    pub certificates: Certificates,
    /// Name of this gateway among those of the domain: 1 to 253 visible ASCII characters. The host's name unless
    /// configured.
    pub instance: String,
}

impl Config {
    /// Reads `networkmesh.yaml`.
    ///
    /// # Errors
    /// Everything that is wrong with the file.
    pub fn load(file: &Path) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let config = read_file(file, &mut errors, |fields, folder| {
            let identity = Identity::read(fields, folder);
            Self::read(identity, fields, folder)
        });
        errors.or(config)
    }

    /// Reads the identity (mode, domain ID, key and protocol) from a `kuscia.yaml`, whose other sections are ignored,
    /// and everything else from a `networkmesh.yaml`, or leaves it at its defaults.
    ///
    /// # Errors
    /// Everything that is wrong with the files.
    pub fn load_with_kuscia(kuscia: &Path, networkmesh: Option<&Path>) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let identity = read_file(kuscia, &mut errors, Identity::read);
        let config = match networkmesh {
            Some(file) => read_file(file, &mut errors, |fields, folder| {
                let problem = Problem::new("is taken from the kuscia.yaml", "remove it from this file");
                fields.refuse(&Identity::FIELDS, &problem);
                Self::read(identity, fields, folder)
            }),
            None => {
                let mut defaults = Fields::default();
                let config = Self::read(identity, &mut defaults, &folder_of(kuscia));
                errors.add_fields(kuscia, defaults);
                config
            }
        };
        errors.or(config)
    }

    fn read(identity: Option<Identity>, fields: &mut Fields, folder: &Path) -> Option<Self> {
        let source = fields.section("source", |source| Source::read(source, folder));
        let controller = read_controller(fields, &source);
        let xds = fields.section("xds", |xds| Xds::read(xds, folder));
        let listen = fields.section("listen", |listen| Listen::read(listen, &xds, folder));
        let envoy = fields.section("envoy", |envoy| Envoy::read(envoy, &xds, folder));
        let dns = fields.section("dns", |dns| Dns::read(dns, &listen));
        let certificates = fields.section("certificates", Certificates::read);
        let instance = read_instance(fields, &source);
        listen.refuse_clashes(&envoy.admin, fields);
        fields.refuse_unknown();
        let Identity { mode, domain, key, protocol } = identity?;
        Some(Self {
            mode,
            domain,
            key,
            protocol,
            source,
            controller,
            xds,
            listen,
            envoy,
            dns,
            certificates,
            instance,
        })
    }
}

/// Reads the fields of `file` with `read`, and adds what is wrong with them to `errors`.
fn read_file<T>(
    file: &Path,
    errors: &mut ConfigErrors,
    read: impl FnOnce(&mut Fields, &Path) -> Option<T>,
) -> Option<T> {
    let mut fields = match parse_file(file) {
        Ok(fields) => fields,
        Err(error) => {
            errors.add(error);
            return None;
        }
    };
    let value = read(&mut fields, &folder_of(file));
    errors.add_fields(file, fields);
    value
}

fn parse_file(file: &Path) -> Result<Fields, ConfigError> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| ConfigError::Unreadable { file: file.to_owned(), error })?;
    let text = Zeroizing::new(text);
    // Snippets would show keys. Strict booleans leave `off` and `no` what they look like: words.
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    let syntax = |error: String| ConfigError::Syntax { file: file.to_owned(), error };
    let parsed = serde_saphyr::from_str_with_options(&text, options)
        .map_err(|error| syntax(error.render_with_formatter(&UserMessageFormatter)))?;
    match parsed {
        Value::Object(values) => Ok(Fields::new(values)),
        Value::Null => Ok(Fields::default()),
        _ => Err(syntax("this is no mapping of names to values".to_owned())),
    }
}

/// The folder that paths in `file` are relative to, itself absolute where the system tells the current folder.
fn folder_of(file: &Path) -> PathBuf {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    absolute(folder).unwrap_or_else(|_| folder.to_owned())
}

fn read_controller(fields: &mut Fields, source: &Source) -> bool {
    let wanted = fields.flag("controller").unwrap_or_default();
    if wanted && matches!(source, Source::Directory(_)) {
        let remedy = "remove it; a folder of manifests needs no controller";
        fields.note("controller", Problem::new("has no use without source.kubernetes", remedy));
    }
    wanted
}

fn read_instance(fields: &mut Fields, source: &Source) -> String {
    let given = fields.parse("instance", parse_instance);
    let Source::Kubernetes(_) = source else { return given.unwrap_or_else(host_name) };
    let instance = given.unwrap_or_else(|| host_name().to_ascii_lowercase());
    if !source::is_object_name(&instance) {
        let problem = format!("{instance:?} cannot be the name of a Gateway object");
        let remedy = "give lower-case letters, digits, \"-\" and \".\", as in a host name";
        fields.note("instance", Problem::new(problem, remedy));
    }
    instance
}

fn parse_instance(text: &str) -> Result<String, Problem> {
    if text.is_empty() || text.len() > 253 || !text.bytes().all(|c| c.is_ascii_graphic()) {
        let problem = "is not a name of 1 to 253 visible ASCII characters";
        return Err(Problem::new(problem, "use letters, digits, \"-\" and \".\", as in a host name"));
    }
    Ok(text.to_owned())
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
