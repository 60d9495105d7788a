//! How mail for an address goes, and what holds it up: the configuration, the name servers and the shard's knowledge.

use std::rc::Rc;
use std::sync::Arc;

use crate::auth::Resolution;
use crate::mail::address::Address;
use crate::mail::time::Instant;
use crate::queue::route::Ask;
use crate::shard::Shard;
use crate::shard::outbound::way::{self, Choice, Unroutable};

/// Of whose mail to whom is asked.
#[derive(Clone, Debug)]
pub struct Question {
    pub recipient: Address,
    pub sender: Option<Address>,
    pub tenant: Option<String>,
}

/// The answer.
#[derive(Clone, Debug, Default)]
pub struct Explained {
    pub lines: Vec<String>,
    /// Of mail that goes elsewhere.
    pub destination: Option<String>,
    pub site: Option<String>,
}

impl Explained {
    fn says(line: String) -> Self {
        Self { lines: vec![line], ..Self::default() }
    }
}

impl Shard {
    /// For an operator; asked for live.
    pub async fn explain(self: &Rc<Self>, question: &Question) -> Explained {
        let Question { recipient, sender, tenant } = question;
        match self.directory().resolve(recipient) {
            Resolution::Local(targets) => {
                let count = targets.len();
                let targets = if count == 1 { "one target".to_owned() } else { format!("{count} targets") };
                return Explained::says(format!("{recipient} is an address of this server, with {targets}"));
            }
            Resolution::UnknownUser => {
                let line = format!("the domain of {recipient} is local, and there is no such address in it");
                return Explained::says(line);
            }
            Resolution::NotLocal => {}
        }
        let config = self.config();
        let domain = recipient.ascii_domain().unwrap_or_else(|| recipient.domain.clone());
        let sender_domain = sender.as_ref().and_then(Address::ascii_domain).unwrap_or_default();
        let mut lines = vec![format!("destination: {domain}")];
        let mut names = None;
        match self.outbound().resolver().mail_hosts(&domain).await {
            Ok(found) => {
                let words = |host: &crate::io::dns::MailHost| format!("{} ({})", host.name, host.preference);
                lines.push(format!("MX: {}", found.hosts.iter().map(words).collect::<Vec<_>>().join(", ")));
                names = Some(found.hosts.into_iter().map(|host| host.name).collect::<Vec<_>>());
            }
            Err(failure) => lines.push(format!("MX: {failure}")),
        }
        let tenant = tenant.as_deref();
        let ask = Ask { domain: &domain, sender_domain: &sender_domain, tenant, mx: names.as_deref() };
        lines.extend(config.outbound.explain(&ask));
        let choice = Choice::of(&config, &sender_domain, tenant);
        let mut site = None;
        match way::find(self, &domain, &choice).await {
            Ok(way) => {
                site = Some(way.site.to_string());
                lines.push(format!("site: {}", way.site));
                for host in way.hosts_in_order(0) {
                    lines.push(format!(
                        "host {}:{}: {}",
                        host.name,
                        host.port,
                        self.addresses(&host.name).await
                    ));
                }
            }
            Err(Unroutable::Later(why, _)) => lines.push(format!("no way is known at the moment: {why}")),
            Err(Unroutable::Never(failure)) => {
                lines.push(format!("such mail is returned: {}", failure.reply));
            }
        }
        Explained { lines, destination: Some(domain), site }
    }

    async fn addresses(&self, host: &str) -> String {
        if host.parse::<std::net::IpAddr>().is_ok() {
            return "the address itself".to_owned();
        }
        match self.outbound().resolver().addresses(host).await {
            Ok(found) => found.ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            Err(failure) => failure.to_string(),
        }
    }

    /// What this shard knows of that keeps mail for a destination back.
    pub fn hindrances(&self, destination: &str, site: Option<&str>, now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        lines.extend(self.suspended_as_a_whole(destination, site.map(Arc::from).as_slice()));
        lines.extend(self.outbound().destinations().why_waiting(destination));
        let views = self.view_sites(now).into_iter();
        lines.extend(views.filter(|view| Some(&*view.name) == site).filter_map(|view| view.why));
        lines
    }
}
