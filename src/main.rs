//! The `networkmesh` command.

fn main() {}
