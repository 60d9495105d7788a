//! What is asked about the queue over the control socket, and what comes back.
//!
//! The replies are what `--json` prints, one object a line. Names are those that KumoMTA gave such things, where it
//! has them; they are a contract.

use serde::{Deserialize, Serialize};

use crate::queue::selection::{Order, Selection, State};
use crate::queue::suspension::Does;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueRequest {
    /// [`QueueRow`]s, the oldest first, of at most so many messages; 0 is all.
    List {
        selection: Selection,
        count: u64,
    },
    Show {
        id: String,
    },
    /// [`SummaryRow`]s, the longest queue first.
    Summary {
        selection: Selection,
    },
    /// [`SiteRow`]s.
    Sites,
    Order {
        selection: Selection,
        order: Order,
    },
    Suspend {
        selection: Selection,
        seconds: u64,
        reason: String,
        does: Does,
    },
    Suspensions,
    Resume {
        id: Option<u64>,
        selection: Selection,
    },
    Explain {
        recipient: String,
        sender: Option<String>,
        tenant: Option<String>,
    },
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueReply {
    Row(QueueRow),
    /// There are more than were asked for.
    More,
    Message(Box<MessageView>),
    Summary(SummaryRow),
    Site(SiteRow),
    Ordered(OrderedCounts),
    Suspension(SuspensionRow),
    /// For people.
    Line(String),
}

/// A recipient's copy of a message that waits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct QueueRow {
    pub id: String,
    /// Empty for the null sender.
    pub sender: String,
    pub recipient: String,
    /// `campaign:tenant@domain`, as far as there are such; empty for a mailbox of this server.
    pub queue: String,
    pub domain: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    pub size: u64,
    /// Unix seconds, as all times here.
    pub created: i64,
    pub state: State,
    pub num_attempts: u32,
    /// When it is tried next; of what is ready, since when it may be.
    pub due: i64,
    /// Why it is still here; may be empty.
    pub reason: String,
    pub meta: Meta,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Meta {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub campaign: Option<String>,
}

/// Everything about one message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MessageView {
    pub id: String,
    pub sender: String,
    pub size: u64,
    pub created: i64,
    pub meta: Meta,
    /// What the sender asked for, as SMTP parameters.
    pub parameters: Vec<String>,
    pub recipients: Vec<RecipientView>,
    /// `null` if the message cannot be read.
    pub header: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecipientView {
    #[serde(flatten)]
    pub row: QueueRow,
    /// What was answered last, by whom it was asked; may be empty.
    pub response: String,
}

/// The mail for one destination.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SummaryRow {
    pub domain: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// Recipients; the sum of the next four.
    pub count: u64,
    pub ready: u64,
    pub deferred: u64,
    pub active: u64,
    pub held: u64,
    /// When the oldest message came.
    pub oldest: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_due: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A site that is being sent to.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SiteRow {
    pub site: String,
    pub connections: u64,
    /// Connections that carry a message.
    pub busy: u64,
    /// Messages that the site has and that wait for a connection.
    pub ready: u64,
    /// Recipients, since the site is being sent to.
    pub delivered: u64,
    pub deferred: u64,
    pub failed: u64,
    /// What its mail waits for, and for how many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
}

/// How many recipients an order was for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct OrderedCounts {
    pub matched: u64,
    pub changed: u64,
    pub active: u64,
}

/// Mail that is kept back, or returned, for a time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SuspensionRow {
    pub id: u64,
    pub does: Does,
    /// In words.
    pub selection: String,
    pub reason: String,
    /// Seconds that are left.
    pub duration: u64,
}

#[cfg(test)]
mod tests {
    use super::{Meta, QueueRow};
    use crate::queue::selection::State;

    #[test]
    fn the_names_are_a_contract() {
        let row = QueueRow {
            id: "00000000002A".to_owned(),
            sender: "ann@example.org".to_owned(),
            recipient: "bob@relay.test".to_owned(),
            queue: "spring:acme@relay.test".to_owned(),
            domain: "relay.test".to_owned(),
            site: Some("mx.relay.test".to_owned()),
            size: 512,
            created: 1_767_262_830,
            state: State::Deferred,
            num_attempts: 2,
            due: 1_767_263_000,
            reason: "450 later".to_owned(),
            meta: Meta { tenant: Some("acme".to_owned()), campaign: None },
        };
        let expected = concat!(
            r#"{"id":"00000000002A","sender":"ann@example.org","recipient":"bob@relay.test","#,
            r#""queue":"spring:acme@relay.test","domain":"relay.test","site":"mx.relay.test","size":512,"#,
            r#""created":1767262830,"state":"deferred","num_attempts":2,"due":1767263000,"reason":"450 later","#,
            r#""meta":{"tenant":"acme"}}"#
        );
        assert_eq!(serde_json::to_string(&row).unwrap(), expected);
        assert_eq!(serde_json::from_str::<QueueRow>(expected).unwrap(), row);
    }
}
