//! Counting while a run goes on: each thread keeps a [`Tally`], tells the main thread once a second, and the main
//! thread
//! shows it and keeps the series.

mod live;
mod tally;

pub use live::{Live, Seen};
pub use tally::{Beat, Tally};
