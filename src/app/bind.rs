//! Addresses to listen on, and why they cannot be had.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;

use tracing::info;
use xds::ListenAddress;

use super::StartError;
use crate::config::Config;

/// The sockets of the DNS server: those that the service manager gave, else its address and port.
pub(super) fn bind_dns(config: &Config) -> Result<dns::Bound, StartError> {
    if let Some(given) = dns::Bound::from_environment()? {
        info!(address = %given.local_addr(), "DNS is served on the sockets that the service manager gave");
        return Ok(given);
    }
    dns::bind(config.listen.dns, config.dns.workers).map_err(|error| match error {
        dns::BindError::Socket { address, source, .. } => bind_error("listen.dns", &address, &source),
        other => other.into(),
    })
}

/// Names the setting, and what to do about it.
pub(super) fn bind_error(
    setting: &'static str,
    address: &dyn std::fmt::Display,
    cause: &io::Error,
) -> StartError {
    let remedy = match cause.kind() {
        io::ErrorKind::AddrInUse => "stop what listens there, or choose another address for this setting",
        io::ErrorKind::PermissionDenied => {
            "choose a port above 1023 or another folder, or give the program CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::AddrNotAvailable => "choose an address of this host",
        io::ErrorKind::NotFound => "create the folder of the socket",
        _ => "choose another address for this setting",
    };
    StartError::Bind { setting, address: address.to_string(), cause: cause.to_string(), remedy }
}

/// Makes the folder of a Unix socket where it is missing, for this user alone.
pub(super) fn create_socket_folder(setting: &'static str, address: &ListenAddress) -> Result<(), StartError> {
    let ListenAddress::Unix(socket) = address else { return Ok(()) };
    let Some(folder) = socket.parent() else { return Ok(()) };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| bind_error(setting, address, &error))
}
