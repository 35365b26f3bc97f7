//! One binary for all system tests; each module says what it proves.

mod tidy;
