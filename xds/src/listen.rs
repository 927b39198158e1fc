//! Where a server listens: a Unix socket or a TCP address.

use std::{
    fmt,
    fs::{self, File, Permissions},
    io,
    net::SocketAddr,
    os::{
        fd::AsFd,
        unix::{
            fs::{FileTypeExt, PermissionsExt},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
    str::FromStr,
};

use tokio::net::{TcpListener, UnixListener, UnixSocket};

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// An address to listen on, written `unix:PATH` or `HOST:PORT` with an IP address as host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A Unix socket at this path, for the user that runs the server only.
    Unix(PathBuf),
    /// A TCP port. Port 0 stands for any free port.
    Tcp(SocketAddr),
}

/// The text is neither `unix:PATH` nor an IP address and port.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address to listen on: write unix:PATH, or IP:PORT like 127.0.0.1:10001 or [::1]:10001")]
pub struct InvalidListenAddress(String);

impl FromStr for ListenAddress {
    type Err = InvalidListenAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix:") {
            Some("") => Err(InvalidListenAddress(text.to_owned())),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| InvalidListenAddress(text.to_owned())),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    /// The address, as it was asked for.
    pub address: ListenAddress,
    /// Why not.
    #[source]
    pub error: io::Error,
}

/// A bound address, for any server that is to listen as this one does.
#[derive(Debug)]
pub enum Listener {
    /// A Unix socket of mode 0600, and its file.
    Unix(UnixListener, SocketFile),
    /// A TCP port.
    Tcp(TcpListener),
}

impl Listener {
    /// Listens on an address. Replaces the socket file of a server that is gone. Call it within a Tokio runtime.
    pub fn bind(address: &ListenAddress) -> io::Result<Self> {
        match address {
            ListenAddress::Unix(path) => {
                remove_stale(path)?;
                let socket = UnixSocket::new_stream()?;
                // The socket file inherits the mode, so there is no moment at which others could connect.
                File::from(socket.as_fd().try_clone_to_owned()?)
                    .set_permissions(Permissions::from_mode(0o600))?;
                socket.bind(path)?;
                let file = SocketFile(path.clone());
                Ok(Self::Unix(socket.listen(BACKLOG)?, file))
            }
            ListenAddress::Tcp(address) => {
                let listener = std::net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener).map(Self::Tcp)
            }
        }
    }

    /// The address, with the port that was chosen if it was asked for as 0.
    pub fn address(&self) -> io::Result<ListenAddress> {
        match self {
            Self::Unix(_, file) => Ok(ListenAddress::Unix(file.0.clone())),
            Self::Tcp(listener) => listener.local_addr().map(ListenAddress::Tcp),
        }
    }
}

/// The file of a Unix socket, which is removed when this is dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::debug!(path = %self.0.display(), %error, "the socket file is gone already");
        }
    }
}

/// Removes a socket file on which nobody answers. Leaves all other files alone.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the file is not a socket"));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another server listens there")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(path: &Path) -> io::Result<Listener> {
        Listener::bind(&ListenAddress::Unix(path.to_owned()))
    }

    #[test]
    fn addresses_read_back_as_they_are_written() {
        for text in ["unix:run/xds.sock", "unix:/run/xds.sock", "127.0.0.1:10001", "[::1]:0"] {
            assert_eq!(text.parse::<ListenAddress>().expect(text).to_string(), text);
        }
        for text in ["", "unix:", "10001", "localhost", "127.0.0.1", "127.0.0.1:99999"] {
            assert_eq!(text.parse::<ListenAddress>(), Err(InvalidListenAddress(text.to_owned())));
        }
    }

    #[tokio::test]
    async fn only_the_owner_may_connect_to_the_socket() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("xds.sock");
        let listener = bind(&path).expect("the path is free");
        let mode = fs::metadata(&path).expect("the socket is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_file_is_replaced_only_if_nobody_answers() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("xds.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("the path is free"));
        assert!(path.exists(), "a dropped listener leaves its file");

        let _first = bind(&path).expect("nobody answers");
        assert_eq!(bind(&path).err().map(|error| error.kind()), Some(io::ErrorKind::AddrInUse));
        assert!(UnixStream::connect(&path).is_ok(), "the first server is still there");
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("precious");
        fs::write(&path, "data").expect("a file");
        assert_eq!(bind(&path).err().map(|error| error.kind()), Some(io::ErrorKind::AlreadyExists));
        assert_eq!(fs::read_to_string(&path).expect("a file"), "data");
    }
}
