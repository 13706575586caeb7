//! Souk's frame: the settings, and the one place that knows the order of start and stop.

pub mod config;
mod secret_key;
