//! Money out: asked for, sent once whatever happens on the way, gone or back, and never more than allowed.

mod asking;
mod deciding;
mod desk;
mod rounds;
mod sending;
mod steps;
