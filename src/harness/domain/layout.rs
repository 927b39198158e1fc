//! The folder of a gateway, and where the gateway listens.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use certs::DomainKey;
use harness::free_address;
use serde_json::{Value, json};

use super::error::io_error;
use super::{Domain, Error, Home};
use crate::http::Target;

/// The addresses of a gateway, all on loopback.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Envoy, for other domains.
    pub external: SocketAddr,
    /// Envoy, for this domain's applications.
    pub internal: SocketAddr,
    /// Envoy's own admin interface.
    pub envoy_admin: SocketAddr,
    /// The mesh's handshake service.
    pub handshake: SocketAddr,
    /// The mesh's DNS.
    pub dns: SocketAddr,
}

impl Addresses {
    fn free() -> io::Result<Self> {
        Ok(Self {
            external: free_address()?,
            internal: free_address()?,
            envoy_admin: free_address()?,
            handshake: free_address()?,
            dns: free_address()?,
        })
    }
}

impl Domain {
    /// Makes the folder of domain `name` in `parent`, with a new key. Its objects live in `home`. `extra` is merged over
    /// the fields of `networkmesh.yaml`.
    ///
    /// # Errors
    /// The folder, an address or a key cannot be had.
    pub fn lay_out(parent: &Path, name: &str, home: Home, extra: &Value) -> Result<Self, Error> {
        Self::lay_out_gateway(parent.join(name), name, "gateway", &DomainKey::generate()?, home, extra)
    }

    /// Makes the folder of one more gateway of this domain, beside the folder of this one. Folder and instance are called
    /// as here with `-suffix` appended.
    ///
    /// # Errors
    /// The folder or an address cannot be had, or the configuration of this gateway cannot be read.
    pub fn lay_out_replica(&self, suffix: &str, extra: &Value) -> Result<Self, Error> {
        let config = fs::read(self.config()).map_err(io_error(&self.config().display().to_string()))?;
        let config: Value = serde_json::from_slice(&config)?;
        let key = DomainKey::from_domain_key_data(config["domainKeyData"].as_str().unwrap_or_default())?;
        let folder = self.folder.with_file_name(format!("{}-{suffix}", self.name));
        Self::lay_out_gateway(
            folder,
            &self.name,
            &format!("gateway-{suffix}"),
            &key,
            self.home.clone(),
            extra,
        )
    }

    fn lay_out_gateway(
        folder: PathBuf,
        name: &str,
        gateway: &str,
        key: &DomainKey,
        home: Home,
        extra: &Value,
    ) -> Result<Self, Error> {
        let addresses = Addresses::free().map_err(io_error("a free address"))?;
        let objects = matches!(home, Home::Folder).then(|| folder.join("manifests"));
        for folder in objects.into_iter().chain([folder.join("logs")]) {
            fs::create_dir_all(&folder).map_err(io_error(&folder.display().to_string()))?;
        }
        let mut config = json!({
            "domainID": name,
            "domainKeyData": *key.to_domain_key_data(),
            "instance": format!("{name}-{gateway}"),
            "source": home.source(),
            "listen": {
                "external": addresses.external,
                "internal": addresses.internal,
                "handshake": addresses.handshake,
                "xds": "unix:xds.sock",
                "dns": addresses.dns,
                "admin": free_address().map_err(io_error("a free address"))?,
            },
            "envoy": {"admin": addresses.envoy_admin, "accessLog": "logs"},
            "dns": {"upstreams": ["127.0.0.1:9"]},
        });
        merge(&mut config, extra);
        let admin = config["listen"]["admin"].as_str().unwrap_or_default();
        let admin = match (admin.strip_prefix("unix:"), admin.parse()) {
            (Some(path), _) => Target::Unix(folder.join(path)),
            (None, Ok(address)) => Target::Tcp(address),
            (None, Err(error)) => return Err(io_error("listen.admin")(io::Error::other(error))),
        };
        let domain = Self {
            name: name.to_owned(),
            folder,
            home,
            addresses,
            admin,
            public_key: key.public_key().clone(),
            mesh: None,
            envoy: None,
            services: Vec::new(),
        };
        // JSON is YAML too.
        domain.write("networkmesh.yaml", &config.to_string())?;
        Ok(domain)
    }
}

/// Objects are merged field by field, everything else is replaced.
fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (name, value) in over {
                merge(base.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (base, value) => *base = value.clone(),
    }
}
