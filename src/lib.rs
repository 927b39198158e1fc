//! networkmesh: the network mesh of a privacy-computing domain.
