//! Who the domain is: the fields that `networkmesh.yaml` and `kuscia.yaml` share.

use std::path::Path;
use std::str::FromStr;

use certs::{DomainKey, KeyError};
use envoy::ExternalProtocol;
use model::{DomainId, Problem};

use super::Fields;
use super::pem_file::{read_pem_file, warn_of_exposed_key};

/// How a domain is organised, in Kuscia's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A domain on its own, which reads its own resources.
    Autonomy,
    /// A domain under a master, which gives it its resources.
    Lite,
    /// The master of other domains.
    Master,
}

impl FromStr for Mode {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        match text.to_ascii_lowercase().as_str() {
            "autonomy" => Ok(Self::Autonomy),
            "lite" => Ok(Self::Lite),
            "master" => Ok(Self::Master),
            _ => Err(Problem::new(format!("{text:?} is unknown"), "use autonomy, lite or master")),
        }
    }
}

/// Who the domain is.
pub(super) struct Identity {
    pub(super) mode: Mode,
    pub(super) domain: DomainId,
    pub(super) key: DomainKey,
    pub(super) protocol: ExternalProtocol,
}

impl Identity {
    /// The fields that it is read from.
    pub(super) const FIELDS: [&str; 5] = ["mode", "domainID", "domainKeyData", "domainKeyFile", "protocol"];

    pub(super) fn read(fields: &mut Fields, folder: &Path) -> Option<Self> {
        let mode = fields.parse("mode", str::parse).unwrap_or(Mode::Autonomy);
        let domain = read_domain(fields);
        let key = read_key(fields, folder);
        let protocol = fields.parse("protocol", parse_protocol).unwrap_or(ExternalProtocol::NoTls);
        Some(Self { mode, domain: domain?, key: key?, protocol })
    }
}

fn parse_protocol(text: &str) -> Result<ExternalProtocol, Problem> {
    match text.to_ascii_uppercase().as_str() {
        "NOTLS" => Ok(ExternalProtocol::NoTls),
        "TLS" => Ok(ExternalProtocol::Tls),
        "MTLS" => Ok(ExternalProtocol::Mtls),
        _ => Err(Problem::new(format!("{text:?} is unknown"), "use NOTLS, TLS or MTLS")),
    }
}

fn read_domain(fields: &mut Fields) -> Option<DomainId> {
    fields.require("domainID", "name this domain: `domainID: alice`");
    fields.parse("domainID", |text| {
        let domain: DomainId = text.parse()?;
        if domain.is_reserved() {
            let remedy = "choose another name; default, kube-*, master and cross-domain belong to the system";
            return Err(Problem::new(format!("{text:?} is reserved"), remedy));
        }
        Ok(domain)
    })
}

fn read_key(fields: &mut Fields, folder: &Path) -> Option<DomainKey> {
    match (fields.has("domainKeyData"), fields.has("domainKeyFile")) {
        (false, false) => {
            let remedy = "put the output of `networkmesh keygen` there, or name a PEM file in domainKeyFile";
            fields.note("domainKeyData", Problem::new("is missing", remedy));
        }
        (true, true) => {
            let problem = Problem::new("is given, and domainKeyFile too", "keep one of the two");
            fields.note("domainKeyData", problem);
        }
        _ => {}
    }
    let of_data = fields.parse("domainKeyData", |data| {
        DomainKey::from_domain_key_data(data).map_err(|error| problem(&error))
    });
    let of_file = fields.parse("domainKeyFile", |file| read_key_file(&folder.join(file)));
    of_data.or(of_file)
}

/// Reads a domain's key from a file of PEM, or of the base64 of PEM that `domainKeyData` takes. Warns of a file that
/// others than its owner and group can read.
///
/// # Errors
/// The file cannot be read, or holds no usable key.
pub fn read_key_file(file: &Path) -> Result<DomainKey, Problem> {
    let text = read_pem_file(file)?;
    warn_of_exposed_key(file);
    let key = if text.contains("-----BEGIN") {
        DomainKey::from_pem(&text)
    } else {
        DomainKey::from_domain_key_data(&text)
    };
    key.map_err(|error| problem(&error))
}

fn problem(error: &KeyError) -> Problem {
    Problem::new(error.to_string(), "a domain needs an RSA key of 2048 bits or more")
}
