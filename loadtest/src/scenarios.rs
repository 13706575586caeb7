//! The scenarios, one file each: its options, what it prepares, what it measures, what it claims.

pub(crate) mod catalogue;
pub(crate) mod checkout;
pub(crate) mod ledger;
