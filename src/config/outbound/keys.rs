//! The sections about outbound mail, as the text has them.

use serde::Deserialize;
use toml::Spanned;
use toml::de::DeTable;

use crate::config::document::{Problems, keys, take_list, take_section};
use crate::config::outbound::PrivateAddresses;
use crate::queue::classify::Code;
use crate::queue::policy::{EightBit, Tls, TlsBegins};
use crate::queue::route::Protocol;

/// All of them; empty where the text says nothing.
#[derive(Default)]
pub struct OutboundKeys {
    pub queue: Option<QueueKeys>,
    pub routes: Vec<RouteKeys>,
    pub sources: Vec<SourceKeys>,
    pub pools: Vec<PoolKeys>,
    pub shaping: Vec<ShapingKeys>,
    pub rules: Vec<RuleKeys>,
    pub tenants: Vec<TenantKeys>,
    pub headers: Option<TenantsKeys>,
    pub classes: Vec<BounceClassKeys>,
    pub events: Option<EventsKeys>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct QueueKeys {
    pub retry_first_s: Option<Spanned<i64>>,
    pub retry_max_s: Option<Spanned<i64>>,
    pub retry_jitter_percent: Option<Spanned<i64>>,
    pub warn_after_s: Option<Spanned<i64>>,
    pub expire_after_s: Option<Spanned<i64>>,
    pub dsn_return_bytes: Option<Spanned<i64>>,
    pub private_addresses: Option<PrivateAddresses>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteKeys {
    pub domain: Option<Spanned<String>>,
    pub to: Option<Spanned<Vec<Spanned<String>>>>,
    pub mx: Option<Spanned<String>>,
    pub sender_domain: Option<Spanned<String>>,
    pub tenant: Option<Spanned<String>>,
    pub weights: Option<Spanned<Vec<Spanned<i64>>>>,
    pub port: Option<Spanned<i64>>,
    pub protocol: Option<Spanned<Protocol>>,
    pub tls: Option<Spanned<Tls>>,
    pub tls_begins: Option<Spanned<TlsBegins>>,
    pub username: Option<Spanned<String>>,
    pub password_file: Option<Spanned<String>>,
    pub pool: Option<Spanned<String>>,
    pub retry_first_s: Option<Spanned<i64>>,
    pub retry_max_s: Option<Spanned<i64>>,
    pub warn_after_s: Option<Spanned<i64>>,
    pub expire_after_s: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceKeys {
    pub name: Spanned<String>,
    pub address: Option<Spanned<String>>,
    pub ehlo: Option<Spanned<String>>,
    pub connections: Option<Spanned<i64>>,
    pub message_rate: Option<Spanned<String>>,
    pub warm_up_start: Option<Spanned<String>>,
    pub warm_up: Option<Spanned<Vec<Spanned<i64>>>>,
    pub warm_up_percent: Option<Spanned<i64>>,
    pub warm_up_days: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolKeys {
    pub name: Spanned<String>,
    pub sources: Spanned<Vec<Spanned<String>>>,
    pub weights: Option<Spanned<Vec<Spanned<i64>>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShapingKeys {
    pub domain: Option<Spanned<String>>,
    pub mx: Option<Spanned<String>>,
    pub tenant: Option<Spanned<String>>,
    pub source: Option<Spanned<String>>,
    pub connections: Option<Spanned<i64>>,
    pub site_connections: Option<Spanned<i64>>,
    pub connection_rate: Option<Spanned<String>>,
    pub message_rate: Option<Spanned<String>>,
    pub messages_per_connection: Option<Spanned<i64>>,
    pub recipients_per_message: Option<Spanned<i64>>,
    pub idle_s: Option<Spanned<i64>>,
    pub failures_until_dead: Option<Spanned<i64>>,
    pub dead_first_s: Option<Spanned<i64>>,
    pub dead_max_s: Option<Spanned<i64>>,
    pub tls: Option<Spanned<Tls>>,
    pub eight_bit: Option<Spanned<EightBit>>,
    pub connect_s: Option<Spanned<i64>>,
    pub greeting_s: Option<Spanned<i64>>,
    pub command_s: Option<Spanned<i64>>,
    pub data_s: Option<Spanned<i64>>,
    pub block_s: Option<Spanned<i64>>,
    pub end_s: Option<Spanned<i64>>,
    pub transaction_s: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleKeys {
    pub name: Spanned<String>,
    pub says: Spanned<String>,
    pub action: Spanned<ActionKey>,
    pub domain: Option<Spanned<String>>,
    pub mx: Option<Spanned<String>>,
    pub tenant: Option<Spanned<String>>,
    pub count: Option<Spanned<i64>>,
    pub within_s: Option<Spanned<i64>>,
    pub rate: Option<Spanned<String>>,
    pub pool: Option<Spanned<String>>,
    pub duration_s: Option<Spanned<i64>>,
}

/// What a rule does, without what it needs for it.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ActionKey {
    Slow,
    Suspend,
    SwitchPool,
    Bounce,
    Defer,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantKeys {
    pub name: Spanned<String>,
    #[serde(default)]
    pub logins: Vec<Spanned<String>>,
    pub pool: Option<Spanned<String>>,
    pub message_rate: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct TenantsKeys {
    pub header: Option<Spanned<String>>,
    pub campaign_header: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BounceClassKeys {
    pub name: Spanned<String>,
    #[serde(default)]
    pub texts: Vec<Spanned<String>>,
    #[serde(default)]
    pub codes: Vec<Spanned<Code>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct EventsKeys {
    pub dir: Option<Spanned<String>>,
    pub rotate_bytes: Option<Spanned<i64>>,
    pub rotate_s: Option<Spanned<i64>>,
    pub keep_bytes: Option<Spanned<i64>>,
    pub keep_s: Option<Spanned<i64>>,
    pub local: Option<bool>,
}

impl OutboundKeys {
    /// The names of the sections and of their keys.
    pub fn sections() -> [(&'static str, Vec<&'static str>); 10] {
        [
            ("queue", keys::<QueueKeys>()),
            ("route", keys::<RouteKeys>()),
            ("source", keys::<SourceKeys>()),
            ("pool", keys::<PoolKeys>()),
            ("shaping", keys::<ShapingKeys>()),
            ("rule", keys::<RuleKeys>()),
            ("tenant", keys::<TenantKeys>()),
            ("tenants", keys::<TenantsKeys>()),
            ("bounce_class", keys::<BounceClassKeys>()),
            ("events", keys::<EventsKeys>()),
        ]
    }

    /// Takes its sections out of the text.
    pub fn take(root: &mut DeTable<'_>, problems: &mut Problems<'_>) -> Self {
        Self {
            queue: take_section(root, "queue", problems),
            routes: take_list(root, "route", problems),
            sources: take_list(root, "source", problems),
            pools: take_list(root, "pool", problems),
            shaping: take_list(root, "shaping", problems),
            rules: take_list(root, "rule", problems),
            tenants: take_list(root, "tenant", problems),
            headers: take_section(root, "tenants", problems),
            classes: take_list(root, "bounce_class", problems),
            events: take_section(root, "events", problems),
        }
    }
}
