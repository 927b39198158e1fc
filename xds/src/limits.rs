//! Bounds on what clients may cost.

use std::time::Duration;

/// Bounds on what clients may ask for and how long the server waits for them.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How many connections may be open at once. Default 1,024.
    ///
    /// One more waits in the queue of the operating system until another ends. It is not accepted and closed: its
    /// client would be back at once, and the longest waiting would not come first.
    pub connections: usize,
    /// How many streams a connection may have open at once. Default 1,024: without aggregation Envoy opens one for
    /// each cluster's endpoints and for each secret.
    pub streams_per_connection: u32,
    /// How many streams may be open at once, those that watch health or ask for the status of clients or by reflection
    /// too. Default 4,096.
    pub streams: usize,
    /// The largest request in bytes. Default 16 MiB: a reconnecting client lists all it holds.
    pub request_bytes: usize,
    /// The size in bytes after which a response is split where the protocol allows it, which it does not where a list
    /// means that there is nothing else: state-of-the-world clusters, listeners and scopes. Default 4 MiB, the largest
    /// message that gRPC clients accept unless told otherwise.
    pub response_bytes: usize,
    /// How many names a request may mention. Default 200,000.
    pub names_per_request: usize,
    /// How many names of one type a stream may subscribe to. Default 200,000.
    pub names_per_type: usize,
    /// How long a name may be, in bytes. Default 1,024.
    pub name_bytes: usize,
    /// How long the metadata of a client's node may be, encoded, in bytes. Longer metadata is left out. Default
    /// 64 KiB.
    pub metadata_bytes: usize,
    /// How much memory a report of clients' status (CSDS) may take, in bytes: about half a KiB for each resource of each
    /// client, and the contents that are shown. A larger one is refused. Default 128 MiB, which is 260,000 resources.
    pub report_bytes: usize,
    /// The largest message of an access log in bytes. Default 256 KiB: an entry holds the path of its request, and some
    /// headers.
    pub access_log_bytes: usize,
    /// How long a connection may take to bring its first byte or, with TLS, to end its handshake; and a stream, to
    /// bring its first request. Default 30 seconds.
    pub first_request: Duration,
    /// How long an answer is awaited before the next response of its type, and whatever depends on the answer, is
    /// sent without it. Default 5 seconds. Envoy answers at once, but for clusters only when they are warm.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            streams_per_connection: 1024,
            streams: 4096,
            request_bytes: 16 << 20,
            response_bytes: 4 << 20,
            names_per_request: 200_000,
            names_per_type: 200_000,
            name_bytes: 1024,
            metadata_bytes: 64 << 10,
            report_bytes: 128 << 20,
            access_log_bytes: 256 << 10,
            first_request: Duration::from_secs(30),
            patience: Duration::from_secs(5),
        }
    }
}
