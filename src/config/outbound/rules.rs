//! What the `[[rule]]` sections mean.

use toml::Spanned;

use super::check::{self, Names, check_name, check_reference, pattern, tenant_name};
use super::keys::{ActionKey, RuleKeys};
use crate::config::document::Problems;
use crate::limits::outbound::{RULE_DURATION, RULES_MAX, TRIGGER_MOST};
use crate::queue::rule::{Rule, RuleAction, Trigger};

/// What is to last longer belongs into the configuration.
const DURATION_S_MAX: i64 = 31 * 86_400;

/// In the order of the text.
pub fn rules(all: &[RuleKeys], names: &Names, problems: &mut Problems<'_>) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for keys in all {
        check_name(&keys.name, rules.iter().any(|rule| rule.name == *keys.name.get_ref()), problems);
        if rules.len() == RULES_MAX {
            problems.add(keys.name.span(), format!("expected at most {RULES_MAX} rules"));
        }
        let duration = check::span(&keys.duration_s, "duration_s", 1..=DURATION_S_MAX, problems);
        let says = check::words(&keys.says, "says", problems);
        let trigger = trigger(keys, problems);
        let does = action(keys, names, problems);
        let (domain, mx) = (pattern(&keys.domain, "domain", problems), pattern(&keys.mx, "mx", problems));
        let tenant = tenant_name(&keys.tenant, names, problems);
        if let (Some(says), Some(does)) = (says, does) {
            rules.push(Rule {
                name: keys.name.get_ref().clone(),
                says,
                trigger,
                domain,
                mx,
                tenant,
                does,
                duration: duration.unwrap_or(RULE_DURATION),
            });
        }
    }
    rules
}

fn trigger(keys: &RuleKeys, problems: &mut Problems<'_>) -> Option<Trigger> {
    let most = usize::try_from(TRIGGER_MOST).unwrap_or(usize::MAX);
    let count = check::count(&keys.count, "count", most, problems);
    let within = check::span(&keys.within_s, "within_s", 1..=DURATION_S_MAX, problems);
    match (count, within) {
        (Some(count), Some(within)) => {
            Some(Trigger { count: usize::try_from(count.get()).unwrap_or(usize::MAX), within })
        }
        (None, None) => None,
        _ => {
            let beside =
                keys.count.as_ref().or(keys.within_s.as_ref()).map(Spanned::span).unwrap_or_default();
            problems.add(beside, "a trigger needs both `count` and `within_s`");
            None
        }
    }
}

fn action(keys: &RuleKeys, names: &Names, problems: &mut Problems<'_>) -> Option<RuleAction> {
    let action = *keys.action.get_ref();
    if let Some(rate) = keys.rate.as_ref().filter(|_| action != ActionKey::Slow) {
        problems.add(rate.span(), "`rate`: only the action \"slow\" has one");
    }
    if let Some(pool) = keys.pool.as_ref().filter(|_| action != ActionKey::SwitchPool) {
        problems.add(pool.span(), "`pool`: only the action \"switch-pool\" has one");
    }
    match (action, &keys.rate, &keys.pool) {
        (ActionKey::Slow, Some(rate), _) => check::rate(rate, "rate", problems).map(RuleAction::Slow),
        (ActionKey::SwitchPool, _, Some(pool)) => {
            check_reference(pool, "pool", "pool", &names.pools, problems);
            Some(RuleAction::SwitchPool(pool.get_ref().clone()))
        }
        (ActionKey::Slow, None, _) => {
            problems.add(keys.action.span(), "`action`: \"slow\" needs a `rate` beside it");
            None
        }
        (ActionKey::SwitchPool, _, None) => {
            problems.add(keys.action.span(), "`action`: \"switch-pool\" needs a `pool` beside it");
            None
        }
        (ActionKey::Suspend, ..) => Some(RuleAction::Suspend),
        (ActionKey::Bounce, ..) => Some(RuleAction::Bounce),
        (ActionKey::Defer, ..) => Some(RuleAction::Defer),
    }
}
