//! The `networkmesh` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    networkmesh::cli::main()
}
