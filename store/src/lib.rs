//! Souk's types, rules, SQL and cache: everything that knows what a row looks like.
//!
//! The crate talks to SQLite (embedded, the default) and Postgres through one text of SQL, behind [`Db`]. Each file
//! holds the statements of one subject and the functions over them; a transaction begins and ends in one function.

#![warn(missing_docs)]

pub mod accounts;
pub mod audit;
mod bulk;
pub mod cache;
pub mod carts;
pub mod catalogue;
pub mod changes;
pub mod db;
pub mod events;
pub mod identity;
pub mod ledger;
pub mod media;
pub mod model;
pub mod orders;
pub mod redis;
pub mod reports;
pub mod sample;
pub mod search;
mod sql;
pub mod staff;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use cache::Cache;
pub use db::{Db, StoreError, chain};
pub use redis::{Redis, Try};

/// The target of spans that are made only while they are exported. Without an exporter they cost nothing, and a log that
/// asks for less than everything does not show them.
pub const TRACES: &str = "souk_traces";
