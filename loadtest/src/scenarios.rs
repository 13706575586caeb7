//! The scenarios, one file each: its options, what it prepares, what it measures, what it claims.

pub(crate) mod browse;
pub(crate) mod catalogue;
pub(crate) mod checkout;
pub(crate) mod checkouts;
pub(crate) mod crash;
pub(crate) mod double_click;
pub(crate) mod flash_sale;
pub(crate) mod idle_sockets;
pub(crate) mod ledger;
pub(crate) mod mixed;
pub(crate) mod notifications;
pub(crate) mod overload;
pub(crate) mod search;
pub(crate) mod siege;
pub(crate) mod start;
