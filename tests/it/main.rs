//! The `networkmesh` program, run as its users run it.

mod check;
mod cli;
mod command;
mod crds;
mod keys;
