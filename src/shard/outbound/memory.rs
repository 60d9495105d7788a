//! What a shard knows of its sites, and what operators have suspended, kept through restarts.
//!
//! All parts are read before the shards start, and each takes what concerns it. Every few seconds a shard writes its
//! part, if it has changed; what an operator orders is on the disk before the answer. So a kill costs what sites have
//! shown in the last seconds, and no order. A site that is sent to for the first time since the start begins as it was.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use crate::io::clock;
use crate::io::disk::notes::{read_notes, remove_note, write_note};
use crate::io::executor::sleep;
use crate::io::workers::Workers;
use crate::limits::outbound::SITES_REMEMBERED_MAX;
use crate::queue::memory::{KeptSite, KeptSuspension, Memory, Moment};
use crate::shard::Shard;
use crate::shard::outbound::home::site_shard;

/// What sites have shown is written as often, if it changed.
const EVERY: Duration = Duration::from_secs(5);

/// What was kept, and where it is kept further.
pub struct Remembered {
    data: PathBuf,
    /// One thread, so that what is written later lies there later.
    writer: Workers,
    /// Sites that nothing was sent to since the start.
    sites: RefCell<BTreeMap<String, KeptSite>>,
    /// A checksum of what was written last.
    written: Cell<Option<u32>>,
}

impl Remembered {
    pub fn new(data: PathBuf, writer: Workers) -> Self {
        Self { data, writer, sites: RefCell::default(), written: Cell::new(None) }
    }

    /// A server for work on the store alone knows nothing, and must not write that down.
    pub fn is_kept(&self) -> bool {
        self.written.get().is_some()
    }

    pub fn take(&self, site: &str) -> Option<KeptSite> {
        self.sites.borrow_mut().remove(site)
    }
}

/// What all shards of the server before kept.
pub fn read_all(data: &std::path::Path) -> Memory {
    let mut whole = Memory::default();
    for (number, bytes) in read_notes(data) {
        match serde_json::from_slice(&bytes) {
            Ok(part) => whole.add(part),
            Err(error) => tracing::error!(number, %error, "what was known before the restart is lost"),
        }
    }
    whole
}

/// Removes the parts of shards that there are no more. Theirs are in those of the others by now.
pub fn forget_others(data: &std::path::Path, shards: usize) {
    for (number, _) in read_notes(data).into_iter().filter(|(number, _)| *number >= shards) {
        if let Err(error) = remove_note(data, number) {
            tracing::warn!(number, %error, "an old note cannot be removed");
        }
    }
}

/// Writes what has changed, for as long as the shard lives.
pub async fn run(shard: Rc<Shard>) {
    loop {
        sleep(EVERY).await;
        shard.remember().await;
    }
}

fn moment() -> Moment {
    Moment { instant: clock::instant(), unix_ms: clock::unix_ms() }
}

impl Shard {
    /// Takes over what concerns this shard of what was kept.
    pub fn recall(self: &Rc<Self>, kept: &Memory) {
        let now = moment();
        for suspension in kept.suspensions.iter().filter_map(|kept| kept.recall(now)) {
            self.add_suspension(suspension);
        }
        self.outbound().sites().sources.borrow_mut().recall(&kept.days, now);
        let (own, shards) = (self.mesh.own(), self.mesh.shards());
        let is_own = |name: &str| site_shard(name, shards) == own;
        let sites = kept.sites.iter().filter(|(name, site)| is_own(name) && !site.is_over(now.unix_ms));
        *self.outbound().remembered().sites.borrow_mut() =
            sites.map(|(name, site)| (name.clone(), site.clone())).collect();
    }

    /// Writes what is to be known again, if it is not what was written last.
    pub async fn remember(&self) {
        let remembered = self.outbound().remembered();
        let Ok(bytes) = serde_json::to_vec(&self.memory(moment())) else {
            return;
        };
        let sum = crc32fast::hash(&bytes);
        if remembered.written.get() == Some(sum) {
            return;
        }
        let (data, own) = (remembered.data.clone(), self.mesh.own());
        match remembered.writer.run(move || write_note(&data, own, &bytes)).await {
            Ok(Ok(())) => remembered.written.set(Some(sum)),
            Ok(Err(error)) => tracing::error!(%error, "suspensions may not be known after a restart"),
            Err(error) => tracing::error!(?error, "suspensions may not be known after a restart"),
        }
    }

    fn memory(&self, now: Moment) -> Memory {
        let suspensions = self.suspensions(now.instant);
        let mut sites = self.outbound().remembered().sites.borrow_mut();
        sites.retain(|_, site| !site.is_over(now.unix_ms));
        let mut all = sites.clone();
        for running in self.outbound().sites().all() {
            let site = running.machine().borrow().remember(now);
            if !site.is_empty() && all.len() < SITES_REMEMBERED_MAX {
                all.insert(running.name.to_string(), site);
            }
        }
        Memory {
            suspensions: suspensions.iter().map(|one| KeptSuspension::of(one, now)).collect(),
            days: self.outbound().sites().sources.borrow().remember(now),
            sites: all,
        }
    }

    /// Begins a site as it was before the restart.
    pub fn recall_site(&self, running: &super::sites::Running) {
        if let Some(kept) = self.outbound().remembered().take(&running.name) {
            running.machine().borrow_mut().recall(&kept, moment());
        }
    }
}
