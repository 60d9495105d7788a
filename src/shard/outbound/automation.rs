//! The operator's rules, applied where a reply is read: what a host says may slow its site, suspend it, send its mail
//! by another pool, or count as another kind of reply.
//!
//! Invariant: each rule that acts leaves an event and a log line that say which, where, why and for how long.

use super::sites::Link;
use super::way::Way;
use crate::io::clock;
use crate::mail::reply::{EnhancedCode, Reply};
use crate::proto::smtp::client::Fate;
use crate::queue::event::{Event, EventKind, Response};
use crate::queue::policy::{PoolId, SourceId};
use crate::queue::rule::{Fired, Heard, RuleAction};
use crate::shard::Shard;

/// Where a reply was heard.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub link: &'a Link,
    pub way: &'a Way,
    pub source: SourceId,
    pub pool: PoolId,
    /// Of the recipient; empty where the reply is about none.
    pub domain: &'a str,
}

impl Shard {
    /// Lets the rules hear what became of a recipient; what they make of the reply is what counts.
    pub fn hear_fate(&self, place: &Place<'_>, fate: &mut Fate) {
        if let Fate::Failed(failure) = fate {
            self.hear(place, &mut failure.reply);
        }
    }

    /// Lets the rules hear a reply, and does what they say.
    pub fn hear(&self, place: &Place<'_>, reply: &mut Reply) {
        let config = self.config();
        if config.outbound.rules.is_empty() {
            return;
        }
        let hosts = place.way.host_names();
        let heard = Heard {
            reply,
            site: place.link.site(),
            hosts: &hosts,
            domain: place.domain,
            tenant: place.way.tenant(),
            source: place.source,
            pool: place.pool,
        };
        let now = clock::instant();
        let fired = self.outbound().triggers().borrow_mut().handle_reply(&config.outbound.rules, &heard, now);
        for fired in fired {
            self.audit(place, &fired, reply);
            let until = now + fired.duration;
            match fired.does {
                RuleAction::Slow(rate) => place.link.slow(place.source, rate, until),
                RuleAction::Suspend => place.link.suspend(place.source, until, &fired.rule),
                RuleAction::SwitchPool(to) => place.link.switch_pool(place.pool, PoolId::of(&to), until),
                RuleAction::Bounce => recode(reply, 5),
                RuleAction::Defer => recode(reply, 4),
            }
        }
    }

    fn audit(&self, place: &Place<'_>, fired: &Fired, reply: &Reply) {
        let config = self.config();
        let source = place.way.source_name(&config, fired.source);
        let pool = place.way.pool_name(&config, fired.pool);
        let what = format!("rule {}: {} for {} s", fired.rule, fired.does, fired.duration.as_secs());
        tracing::warn!(rule = fired.rule, site = fired.site, source, reply = fired.reply, "{}", fired.does);
        self.outbound().events().post(&Event {
            site: Some(&fired.site),
            response: Some(Response {
                content: &fired.reply,
                command: Some(&what),
                ..Response::of(reply, None)
            }),
            egress_pool: Some(&pool),
            egress_source: Some(&source),
            tenant: place.way.tenant(),
            node: Some(&config.hostname),
            ..Event::new(EventKind::Automation, clock::unix_ms())
        });
    }
}

/// Makes a reply one of another class, codes and all; its words stay.
fn recode(reply: &mut Reply, class: u8) {
    reply.code = u16::from(class) * 100 + reply.code % 100;
    reply.enhanced = reply.enhanced.map(|enhanced| EnhancedCode { class, ..enhanced });
}

#[cfg(test)]
mod tests {
    use super::recode;
    use crate::mail::reply::{EnhancedCode, Reply};

    #[test]
    fn a_reply_becomes_one_of_another_class() {
        let mut reply = Reply::new(421, EnhancedCode::new(4, 7, 28), "blocked");
        recode(&mut reply, 5);
        assert_eq!(reply.to_string(), "521 5.7.28 blocked");
        recode(&mut reply, 4);
        assert_eq!(reply.to_string(), "421 4.7.28 blocked");
    }
}
