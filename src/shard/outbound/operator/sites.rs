//! The sending side for an operator: what each site does at this moment.

use std::rc::Rc;

use crate::mail::time::Instant;
use crate::shard::Shard;
use crate::shard::outbound::sites::Running;

/// A site as an operator sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SiteView {
    pub name: String,
    /// In whatever phase they are.
    pub connections: u64,
    /// Those that carry a message.
    pub busy: u64,
    /// Messages that were fetched and are on no connection yet.
    pub fetched: u64,
    /// Recipients, since the site was begun.
    pub delivered: u64,
    pub deferred: u64,
    pub failed: u64,
    /// What its mail waits for, and for how many seconds, if that is known.
    pub why: Option<String>,
    pub wait_s: Option<u64>,
}

impl Shard {
    pub fn view_sites(&self, now: Instant) -> Vec<SiteView> {
        let sites = self.outbound().sites();
        let sources = sites.sources.borrow();
        let view = |running: Rc<Running>| {
            let machine = running.machine().borrow();
            let counts = running.counts();
            let block = machine.plan().pools.iter().find_map(|pool| machine.block(pool.id()));
            let busy: u32 = machine.lanes(&sources, now).map(|lane| lane.busy).sum();
            SiteView {
                name: running.name.to_string(),
                connections: machine.connection_count() as u64,
                busy: u64::from(busy),
                fetched: machine.job_count() as u64,
                delivered: counts.delivered,
                deferred: counts.deferred,
                failed: counts.failed,
                why: block.map(|block| block.why.to_string()),
                wait_s: block.and_then(|block| block.until).map(|until| (until - now).as_secs()),
            }
        };
        sites.all().into_iter().map(view).collect()
    }
}
