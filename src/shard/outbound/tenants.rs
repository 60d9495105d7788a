//! What a tenant may send to all sites together: a shard's share of the rate, kept where its messages are given out.
//!
//! Invariant: a line that has to wait for a token is told of again when there is one, by one timer.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::io::clock;
use crate::io::executor::{sleep, spawn};
use crate::queue::limit::Bucket;
use crate::queue::policy::Part;
use crate::queue::schedule::Line;
use crate::shard::Shard;
use crate::store::LogId;

/// The rates of tenants on one shard.
#[derive(Default)]
pub struct TenantRates {
    buckets: RefCell<HashMap<String, Bucket>>,
    /// Lines with a timer.
    waiting: RefCell<HashSet<(LogId, Line)>>,
}

impl Shard {
    /// Takes a token for each of at most `count` messages of a tenant; says how many there were. With none the line is
    /// told of again when there is one.
    pub fn take_tenant_tokens(
        self: &Rc<Self>,
        tenant: Option<&str>,
        line: (LogId, Line),
        count: usize,
    ) -> usize {
        let config = self.config();
        let rate =
            tenant.and_then(|name| config.outbound.tenant(name)).and_then(|tenant| tenant.message_rate);
        let (Some(name), Some(rate)) = (tenant, rate) else {
            return count;
        };
        let part = |index: usize| u32::try_from(index).expect("shards are counted in cores");
        let rate = rate.share(Part { index: part(self.mesh.own()), of: part(self.mesh.shards()) });
        let now = clock::instant();
        let rates = self.outbound().tenant_rates();
        let mut buckets = rates.buckets.borrow_mut();
        let bucket = buckets.entry(name.to_owned()).or_insert_with(|| Bucket::new(rate));
        bucket.set_rate(rate, now);
        let taken = bucket.available(now).min(u32::try_from(count).unwrap_or(u32::MAX));
        bucket.take(taken, now);
        if taken == 0 && rates.waiting.borrow_mut().insert(line) {
            let (shard, span) = (Rc::clone(self), bucket.next(now) - now);
            drop(buckets);
            spawn("tenant", async move {
                sleep(span).await;
                shard.tell_again(line);
            });
        }
        taken as usize
    }

    /// Puts back tokens that no message was found for.
    pub fn put_back_tenant_tokens(&self, tenant: Option<&str>, count: usize) {
        let mut buckets = self.outbound().tenant_rates().buckets.borrow_mut();
        if let Some(bucket) = tenant.and_then(|name| buckets.get_mut(name)) {
            bucket.put_back(u32::try_from(count).unwrap_or(u32::MAX));
        }
    }

    fn tell_again(&self, line: (LogId, Line)) {
        self.outbound().tenant_rates().waiting.borrow_mut().remove(&line);
        if let Some(commit) = self.log(line.0) {
            commit.schedule_mut().refresh(line.1);
            self.outbound().alarm().ring();
        }
    }
}
