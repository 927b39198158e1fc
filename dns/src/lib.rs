//! In-domain DNS.
