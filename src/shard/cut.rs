//! A moment that all logs agree upon, and files that stay as they are: what a backup is a copy of.
//!
//! A copy of several logs is sound if it has the message of every delivery that is in it, and the delivery of every
//! recipient that is settled in it. So a *cut* through all logs has a number, and letters about deliveries carry the
//! number of their sender's last one. A shard takes down how far its logs are durable when it is asked to, or before it
//! acts on a letter from behind the cut, whichever comes first. Nobody waits for anybody.
//!
//! Why that is enough. A delivery that is within the cut was asked for by a letter that came before its shard's cut;
//! that letter had an older number, was sent before its sender's cut, and what it names was durable by then. With the
//! answer, by which a recipient is settled, it is the same the other way round.
//!
//! Invariants: a cut is one step of its shard, for all logs of it; all segments of all logs are pinned before the first
//! shard is asked, so that nothing is freed that any log needs as of the cut; pins go with the [`Pins`] that stand for
//! them, however their holder ends. A log that is short of room lets go of its own before that, and says so: what has
//! to be written goes before a copy.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use super::Shard;
use super::clean::Pin;
use crate::io::disk::copy::{Extent, files_of_log};
use crate::io::inbox::Inbox;
use crate::store::LogId;
use crate::store::log::Position;

/// The last cut through a shard's logs.
#[derive(Default)]
pub struct Cuts {
    number: Cell<u32>,
    /// Logs that were never used have none.
    positions: RefCell<HashMap<LogId, Position>>,
}

/// Keeps the segments of all logs, and their large files, for as long as it lives, unless a log runs short of room.
pub struct Pins {
    release: Vec<Inbox<()>>,
    lost: Inbox<()>,
}

impl Pins {
    /// Of shards that each wait to be told by one of `release`, and tell `lost` when they cannot wait.
    pub fn new(release: Vec<Inbox<()>>, lost: Inbox<()>) -> Self {
        Self { release, lost }
    }

    /// Whether nothing was freed so far.
    pub fn are_kept(&self) -> bool {
        self.lost.is_empty()
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        self.release.iter().for_each(|release| release.post(()));
    }
}

impl Shard {
    /// The number of the last cut, for letters about deliveries.
    pub fn cut_number(&self) -> u32 {
        self.cuts.number.get()
    }

    /// Cuts the logs, unless that was done already. To be called before anything is done about a letter.
    pub fn cut(&self, number: u32) {
        if number <= self.cuts.number.get() {
            return;
        }
        self.cuts.number.set(number);
        let positions = self.logs().iter().filter_map(|commit| Some((commit.id(), commit.position()?)));
        *self.cuts.positions.borrow_mut() = positions.collect();
    }

    /// The files of this shard's logs as of a cut. All logs are pinned.
    pub async fn files_at(&self, number: u32) -> Result<Vec<Extent>, String> {
        self.cut(number);
        let mut files = Vec::new();
        for (commit, keeper) in self.logs().iter().zip(&self.keepers) {
            let position = self.cuts.positions.borrow().get(&commit.id()).copied();
            let Some(position) = position else {
                continue;
            };
            let through = position.through;
            let large: Vec<u64> = commit.files().with_places(|places| {
                let within = places.files().filter(|(message, _)| *message <= through);
                within.map(|(_, number)| number).collect()
            });
            let dir = commit.dir().clone();
            // Behind whatever the cleaner was freeing when it was pinned.
            let listed = keeper.indexer().run(move |_| files_of_log(&dir, position, &large)).await;
            let listed = listed.map_err(|_| "the thread of the index has ended".to_owned())?;
            files.extend(listed.map_err(|error| error.to_string())?);
        }
        Ok(files)
    }

    /// Pins all logs until it is told otherwise. `lost` is told if one of them lets go before.
    pub async fn pin(&self, pinned: Inbox<()>, release: Inbox<()>, lost: Inbox<()>) {
        let pins: Vec<Rc<Pin>> = self.cleaners.iter().map(|cleaner| cleaner.pin(lost.clone())).collect();
        pinned.post(());
        release.next().await;
        drop(pins);
    }
}
