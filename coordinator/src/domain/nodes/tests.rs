//! Tests of nodes over the whole coordinator, on both stores.

mod upkeep;
