//! The REST interface as a client sees it: the real app on a real socket, over accounts and tables in memory.

mod access;
mod answers;
mod auth;
mod operations;
mod reads;
mod resources;
mod support;
