//! Rules of the operator: when a host says this, do that for a while.
//!
//! A rule looks at every reply that is not positive, on one line as a log shows it, codes included: so `^421` and
//! `4\.7\.28` work as well as words. With a trigger it waits for the nth match within a span, counted for each site
//! and source by itself. What it does is told as [`Fired`], which is also the line for the audit.
//!
//! Invariants: the patterns run in linear time and within a bound of memory (the `regex` crate); the matches that are
//! remembered are bounded; a rule that has fired begins to count anew.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::Duration;

use regex::{Regex, RegexBuilder};

use super::pattern::Pattern;
use super::policy::{PoolId, Rate, SourceId};
use crate::limits::outbound::{RULE_BYTES_MAX, TRIGGERS_MAX};
use crate::mail::reply::Reply;
use crate::mail::time::Instant;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Each rule has its own.
    pub name: String,
    pub says: Words,
    pub trigger: Option<Trigger>,
    /// The domain of the recipient.
    pub domain: Pattern,
    /// All hosts of the site.
    pub mx: Pattern,
    pub tenant: Option<String>,
    pub does: RuleAction,
    /// How long it holds; of no meaning for `Bounce` and `Defer`.
    pub duration: Duration,
}

/// A regular expression, whatever the case of the letters; equal to another with the same text.
#[derive(Clone, Debug)]
pub struct Words {
    regex: Regex,
}

/// So many matches within this span.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trigger {
    /// At least one.
    pub count: usize,
    pub within: Duration,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RuleAction {
    /// The source keeps to this rate at the site.
    Slow(Rate),
    /// The source sends nothing to the site.
    Suspend,
    /// Mail of the message's pool leaves by the one with this name, at the site.
    SwitchPool(String),
    /// The reply counts as permanent.
    Bounce,
    /// The reply counts as transient.
    Defer,
}

/// A reply, and on what it came.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    pub reply: &'a Reply,
    pub site: &'a str,
    pub hosts: &'a [String],
    pub domain: &'a str,
    pub tenant: Option<&'a str>,
    pub source: SourceId,
    pub pool: PoolId,
}

/// A rule has spoken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fired {
    pub rule: String,
    pub does: RuleAction,
    pub duration: Duration,
    pub site: String,
    pub source: SourceId,
    pub pool: PoolId,
    /// What was said.
    pub reply: String,
}

/// The matches that wait for more of their kind; one of these for each shard.
#[derive(Default)]
pub struct Triggers {
    matches: HashMap<Place, VecDeque<Instant>>,
}

/// Rule, site and source.
type Place = (String, String, SourceId);

impl Words {
    pub fn new(text: &str) -> Result<Self, regex::Error> {
        let built = RegexBuilder::new(text)
            .case_insensitive(true)
            .size_limit(RULE_BYTES_MAX)
            .dfa_size_limit(RULE_BYTES_MAX)
            .build();
        built.map(|regex| Self { regex })
    }

    pub fn is_in(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    pub fn as_str(&self) -> &str {
        self.regex.as_str()
    }
}

impl PartialEq for Words {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Words {}

impl Triggers {
    /// The rules that this reply sets off, in their order.
    pub fn handle_reply(&mut self, rules: &[Rule], heard: &Heard<'_>, now: Instant) -> Vec<Fired> {
        let mut fired = Vec::new();
        if rules.is_empty() || heard.reply.is_positive() {
            return fired;
        }
        let line = heard.reply.to_string();
        for rule in rules.iter().filter(|rule| rule.covers(heard) && rule.says.is_in(&line)) {
            if rule.trigger.is_none_or(|trigger| self.is_enough(rule, trigger, heard, now)) {
                fired.push(rule.fire(heard, &line));
            }
        }
        fired
    }

    /// One more match; whether they are enough now.
    fn is_enough(&mut self, rule: &Rule, trigger: Trigger, heard: &Heard<'_>, now: Instant) -> bool {
        if trigger.count <= 1 {
            return true;
        }
        let place = (rule.name.clone(), heard.site.to_owned(), heard.source);
        if self.matches.len() >= TRIGGERS_MAX && !self.matches.contains_key(&place) {
            self.forget_half();
        }
        let times = self.matches.entry(place.clone()).or_default();
        times.push_back(now);
        while times.front().is_some_and(|at| now - *at >= trigger.within) {
            times.pop_front();
        }
        let is_enough = times.len() >= trigger.count;
        if is_enough {
            self.matches.remove(&place);
        }
        is_enough
    }

    /// Those that matched last are kept.
    fn forget_half(&mut self) {
        let mut last: Vec<Instant> =
            self.matches.values().filter_map(|times| times.back().copied()).collect();
        last.sort_unstable();
        let middle = last.get(last.len() / 2).copied().unwrap_or_default();
        self.matches.retain(|_, times| times.back().is_some_and(|at| *at > middle));
    }
}

impl Rule {
    /// The rule is for the place where this was heard.
    fn covers(&self, heard: &Heard<'_>) -> bool {
        let is_tenant = self.tenant.is_none() || self.tenant.as_deref() == heard.tenant;
        is_tenant && self.domain.matches(heard.domain) && self.mx.matches_all(heard.hosts)
    }

    fn fire(&self, heard: &Heard<'_>, line: &str) -> Fired {
        Fired {
            rule: self.name.clone(),
            does: self.does.clone(),
            duration: self.duration,
            site: heard.site.to_owned(),
            source: heard.source,
            pool: heard.pool,
            reply: line.to_owned(),
        }
    }
}

impl fmt::Display for RuleAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slow(rate) => write!(f, "slow to {rate}"),
            Self::Suspend => f.write_str("suspend"),
            Self::SwitchPool(to) => write!(f, "switch to pool {to}"),
            Self::Bounce => f.write_str("bounce"),
            Self::Defer => f.write_str("defer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Heard, Rule, RuleAction, Trigger, Triggers, Words};
    use crate::limits::outbound::TRIGGERS_MAX;
    use crate::mail::reply::Reply;
    use crate::mail::time::Instant;
    use crate::queue::pattern::Pattern;
    use crate::queue::policy::{PoolId, SourceId};

    fn rule(name: &str, says: &str) -> Rule {
        Rule {
            name: name.to_owned(),
            says: Words::new(says).unwrap(),
            trigger: None,
            domain: Pattern::Any,
            mx: Pattern::Any,
            tenant: None,
            does: RuleAction::Suspend,
            duration: Duration::from_secs(600),
        }
    }

    fn reply(code: u16, text: &str) -> Reply {
        Reply::of_lines(code, [text.as_bytes()])
    }

    fn heard<'a>(reply: &'a Reply, hosts: &'a [String]) -> Heard<'a> {
        Heard {
            reply,
            site: "mx.example",
            hosts,
            domain: "example.org",
            tenant: Some("acme"),
            source: SourceId::of("one"),
            pool: PoolId::default(),
        }
    }

    fn names(triggers: &mut Triggers, rules: &[Rule], reply: &Reply) -> Vec<String> {
        let hosts = ["mx.example".to_owned()];
        let fired = triggers.handle_reply(rules, &heard(reply, &hosts), Instant(0));
        fired.into_iter().map(|fired| fired.rule).collect()
    }

    #[test]
    fn a_rule_sees_codes_and_words() {
        let rules = [
            rule("code", r"^421 "),
            rule("enhanced", r"\b4\.7\.28\b"),
            rule("words", "unusual RATE of"),
            rule("lines", "one two"),
        ];
        let mut triggers = Triggers::default();
        let busy = reply(421, "4.7.28 Our system has detected an Unusual rate of mail");
        assert_eq!(names(&mut triggers, &rules, &busy), ["code", "enhanced", "words"]);
        let two = Reply::of_lines(451, [&b"one"[..], b"two"]);
        assert_eq!(names(&mut triggers, &rules, &two), ["lines"]);
        let taken = reply(250, "2.0.0 ok, at an unusual rate of one two");
        assert!(names(&mut triggers, &rules, &taken).is_empty(), "what went well sets nothing off");
    }

    #[test]
    fn a_rule_keeps_to_its_scope() {
        let here = [
            Rule { domain: Pattern::under("org"), ..rule("domain", "no") },
            Rule { mx: Pattern::Exactly("mx.example".to_owned()), ..rule("mx", "no") },
            Rule { tenant: Some("acme".to_owned()), ..rule("tenant", "no") },
        ];
        let elsewhere = [
            Rule { domain: Pattern::Exactly("example.com".to_owned()), ..rule("domain", "no") },
            Rule { mx: Pattern::under("mx.example"), ..rule("mx", "no") },
            Rule { tenant: Some("other".to_owned()), ..rule("tenant", "no") },
        ];
        let no = reply(550, "no");
        assert_eq!(names(&mut Triggers::default(), &here, &no), ["domain", "mx", "tenant"]);
        assert!(names(&mut Triggers::default(), &elsewhere, &no).is_empty());
    }

    #[test]
    fn a_trigger_counts_within_its_span_and_anew_after_it_fired() {
        let trigger = Some(Trigger { count: 3, within: Duration::from_secs(10) });
        let rules = [Rule { trigger, ..rule("third", "no") }];
        let no = reply(450, "no");
        let hosts = ["mx.example".to_owned()];
        let mut triggers = Triggers::default();
        let times = [0, 4, 10, 12, 13, 14, 19];
        let expected = [false, false, false, true, false, false, true];
        for (at, fires) in times.into_iter().zip(expected) {
            let fired = triggers.handle_reply(&rules, &heard(&no, &hosts), Instant(at * 1000));
            assert_eq!(!fired.is_empty(), fires, "at {at} s");
            // Another source does not count for this one.
            let other = Heard { source: SourceId::of("two"), ..heard(&no, &hosts) };
            if at == 4 {
                assert!(triggers.handle_reply(&rules, &other, Instant(4000)).is_empty());
            }
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let trigger = Some(Trigger { count: 2, within: Duration::from_secs(1000) });
        let rules = [Rule { trigger, ..rule("second", "no") }];
        let no = reply(450, "no");
        let mut triggers = Triggers::default();
        for number in 0..TRIGGERS_MAX as u64 + 10 {
            let site = format!("mx{number}.example");
            let heard = Heard { site: &site, ..heard(&no, &[]) };
            triggers.handle_reply(&rules, &heard, Instant(number));
        }
        assert!(triggers.matches.len() <= TRIGGERS_MAX);
        let last = format!("mx{}.example", TRIGGERS_MAX + 9);
        let again = Heard { site: &last, ..heard(&no, &[]) };
        assert_eq!(triggers.handle_reply(&rules, &again, Instant(70_000)).len(), 1, "the latest are kept");
    }

    #[test]
    fn patterns_are_bounded() {
        assert!(Words::new("(").is_err());
        assert!(Words::new(&format!("(?:{}){{1000}}", r"\w{100}")).is_err());
        assert_eq!(Words::new("a").unwrap(), Words::new("a").unwrap());
    }
}
