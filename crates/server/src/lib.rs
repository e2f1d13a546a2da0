//! The shell of a node: sockets, clocks, configuration, metrics, and the command line.
//!
//! Invariant: no other crate of the product opens a socket, reads a clock or starts a thread on
//! its own (the disk engine's excepted).

#![allow(
    clippy::disallowed_methods,
    reason = "this crate owns the real clocks, sockets, threads and tasks"
)]

pub mod cert;
pub mod cli;
pub mod cluster;
mod cluster_actions;
mod cluster_views;
pub mod config;
pub mod demo;
pub mod discovery;
pub mod env;
pub mod event_feed;
pub mod http;
pub mod listener;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod node_list;
pub mod operate;
pub mod phase;
pub mod proxy;
pub mod rpc;
pub mod shell;
pub mod start;
pub mod tls;
pub mod wire;
