//! Tests of the whole coordinator: what meets on one rental, the plans of its statements, the document of its API.

mod choice;
mod gpus;
mod lost_container;
mod matrix;
mod matrix_money;
mod networks;
mod openapi;
mod query_plans;
mod races;
mod retention;
mod stall;
mod untrusted;
