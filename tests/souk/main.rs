//! The black-box suite: each test starts the real `souk` binary on a free port, with a folder and a database
//! of its own, and speaks HTTP and WebSocket to it as a stranger would. It knows the contract and nothing of
//! the inside.

mod accounts;
mod admin;
mod admin_import;
mod admin_orders;
mod admin_products;
mod api_documents;
mod audit;
mod bad_input;
mod cart;
mod catalogue;
mod cli;
mod conventions;
mod crashes;
mod database_faults;
#[path = "../../loadtest/src/dawdlers.rs"]
mod dawdlers;
mod documents;
mod faults;
mod filters;
mod freshness;
mod harness;
mod idempotency;
mod limits;
mod media;
mod media_attacks;
mod metrics;
mod nodes;
mod nodes_faults;
mod notifications;
mod orders;
mod paging;
mod postgres;
mod proxies;
mod races;
mod secrets;
mod siege;
mod stock;
mod stopping;
mod tls;
mod tokens;
mod tracing;
mod users;
mod websocket;
mod websocket_door;
