//! Wire messages of the handshake and the BFIA transport.
