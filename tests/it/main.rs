//! One binary for all system tests.

mod docker_runtime;
