//! What is to be sent, decided before anything is: when, how large, to whom.

mod bodies;
mod message;
pub mod random;
mod schedule;
mod sizes;
mod template;
mod zipf;

pub use bodies::{Bodies, Body};
pub use message::message;
pub use schedule::{Arrivals, Rate, Schedule, Share, time};
pub use sizes::{Sizes, bytes};
pub use template::Template;
pub use zipf::Zipf;
