//! Tests of accounts and sessions through the router.
