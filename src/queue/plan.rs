//! What the configuration says about one site, looked up: its lanes with their shaping, and the pools they serve.

use std::rc::Rc;

use super::policy::{Member, Pool, PoolId, Shaping, SourceId};

/// Everything that a site has to know of the configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// For the site as a whole: `site_connections`.
    pub shaping: Rc<Shaping>,
    /// One for each source of the pools, each source once.
    pub lanes: Vec<LanePlan>,
    pub pools: Vec<Pool>,
}

/// How mail goes to a site from one source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LanePlan {
    pub source: SourceId,
    pub shaping: Rc<Shaping>,
}

impl Plan {
    /// One shaping for all sources of `pools`.
    pub fn uniform(shaping: Shaping, pools: Vec<Pool>) -> Self {
        let shaping = Rc::new(shaping);
        Self::new(Rc::clone(&shaping), pools, |_| Rc::clone(&shaping))
    }

    /// A lane for each source of `pools`, with the shaping that `of_source` gives it.
    pub fn new(shaping: Rc<Shaping>, pools: Vec<Pool>, of_source: impl Fn(SourceId) -> Rc<Shaping>) -> Self {
        let mut lanes: Vec<LanePlan> = Vec::new();
        for source in pools.iter().flat_map(|pool| &pool.members).map(|member| member.source) {
            if lanes.iter().all(|lane| lane.source != source) {
                lanes.push(LanePlan { source, shaping: of_source(source) });
            }
        }
        Self { shaping, lanes, pools }
    }

    pub fn members(&self, pool: PoolId) -> &[Member] {
        self.pools.iter().find(|known| known.id() == pool).map_or(&[], |pool| &pool.members)
    }
}
