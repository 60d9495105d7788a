//! The queue in columns, for people.

use super::words::{MessageView, OrderedCounts, QueueRow, SiteRow, SummaryRow, SuspensionRow};
use crate::admin::span::words;
use crate::mail::date::Rfc3339Millis;
use crate::queue::selection::{Order, State};
use crate::queue::suspension::Does;

pub const LIST_HEAD: &str = "ID               AGE    SIZE  STATE     TRIES  NEXT  SENDER -> RECIPIENT  WHY";

/// Times are in Unix seconds, as in the rows.
pub fn list_line(row: &QueueRow, now: i64) -> String {
    let next = match row.state {
        State::Deferred => words(row.due - now),
        State::Ready => "now".to_owned(),
        State::Active | State::Held => "-".to_owned(),
    };
    let why = if row.reason.is_empty() { String::new() } else { format!("  {}", row.reason) };
    clean(&format!(
        "{:<14}  {:>4}  {:>6}  {:<8}  {:>5}  {:>4}  <{}> -> {}{why}",
        row.id,
        words(now - row.created),
        size(row.size),
        row.state.name(),
        row.num_attempts,
        next,
        row.sender,
        row.recipient
    ))
}

pub fn message(message: &MessageView, now: i64) -> String {
    let mut lines = vec![
        format!("message      {}", message.id),
        format!("sender       <{}>", message.sender),
        format!("size         {} bytes", message.size),
        format!("came         {}, {} ago", time(message.created), words(now - message.created)),
    ];
    lines.extend(message.meta.tenant.iter().map(|tenant| format!("tenant       {tenant}")));
    lines.extend(message.meta.campaign.iter().map(|campaign| format!("campaign     {campaign}")));
    if !message.parameters.is_empty() {
        lines.push(format!("parameters   {}", message.parameters.join(" ")));
    }
    for recipient in &message.recipients {
        let row = &recipient.row;
        let next = match row.state {
            State::Deferred => format!(", next {}, in {}", time(row.due), words(row.due - now)),
            _ => String::new(),
        };
        lines.push(String::new());
        lines.push(format!("recipient    {}", row.recipient));
        lines.push(format!("state        {}, tried {}{next}", row.state.name(), times(row.num_attempts)));
        let details = [
            ("destination", row.domain.as_str()),
            ("site", row.site.as_deref().unwrap_or_default()),
            ("waits for", &row.reason),
            ("last answer", &recipient.response),
        ];
        let details = details.into_iter().filter(|(_, text)| !text.is_empty());
        lines.extend(details.map(|(name, text)| format!("{name:<11}  {text}")));
    }
    lines.push(String::new());
    let header = message.header.as_deref().unwrap_or("the message cannot be read");
    lines.extend(header.lines().map(str::to_owned));
    lines.iter().map(|line| clean(line) + "\n").collect()
}

pub fn summary(rows: &[SummaryRow], now: i64) -> Vec<String> {
    let head =
        ["DESTINATION", "RECIPIENTS", "READY", "DEFERRED", "ACTIVE", "HELD", "OLDEST", "NEXT", "SITE", "WHY"];
    let line = |row: &SummaryRow| {
        [
            row.domain.clone(),
            row.count.to_string(),
            row.ready.to_string(),
            row.deferred.to_string(),
            row.active.to_string(),
            row.held.to_string(),
            words(now - row.oldest),
            row.next_due.map_or_else(|| "-".to_owned(), |due| words(due - now)),
            row.site.clone().unwrap_or_else(|| "-".to_owned()),
            row.reason.clone().unwrap_or_default(),
        ]
    };
    columns(head, rows.iter().map(line))
}

/// With what was counted in the time since `before`, or since the beginning.
pub fn sites(rows: &[SiteRow], before: &[SiteRow]) -> Vec<String> {
    let head = ["SITE", "CONNECTIONS", "BUSY", "READY", "DELIVERED", "DEFERRED", "FAILED", "WAITS FOR"];
    let line = |row: &SiteRow| {
        let zero = SiteRow::default();
        let before = before.iter().find(|old| old.site == row.site).unwrap_or(&zero);
        let until = row.seconds.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
        let until = until.map_or_else(String::new, |seconds| format!(", {} more", words(seconds)));
        [
            row.site.clone(),
            row.connections.to_string(),
            row.busy.to_string(),
            row.ready.to_string(),
            row.delivered.saturating_sub(before.delivered).to_string(),
            row.deferred.saturating_sub(before.deferred).to_string(),
            row.failed.saturating_sub(before.failed).to_string(),
            row.reason.as_ref().map_or_else(String::new, |reason| format!("{reason}{until}")),
        ]
    };
    columns(head, rows.iter().map(line))
}

pub fn suspension(row: &SuspensionRow) -> String {
    let does = match row.does {
        Does::Suspend => "suspended",
        Does::Bounce => "returned",
    };
    let left = words(i64::try_from(row.duration).unwrap_or(i64::MAX));
    clean(&format!("{}  {does}, {left} more  {}  {}", row.id, row.selection, row.reason))
}

/// What an order did, in a sentence.
pub fn ordered(order: &Order, counts: OrderedCounts) -> String {
    let OrderedCounts { changed, active, .. } = counts;
    let changed = match order {
        Order::Retry => format!("{} tried now", recipients(changed)),
        Order::Hold { .. } => format!("{} held", recipients(changed)),
        Order::Release => format!("{} released", recipients(changed)),
        Order::Bounce { .. } => format!("{} returned to the sender", recipients(changed)),
        Order::Rebind { destination } => format!("{} sent by way of {destination}", recipients(changed)),
    };
    match active {
        0 => changed,
        active => format!("{changed}; {} being sent and left alone", recipients(active)),
    }
}

fn recipients(count: u64) -> String {
    if count == 1 { "1 recipient is".to_owned() } else { format!("{count} recipients are") }
}

fn times(count: u32) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

fn time(seconds: i64) -> String {
    Rfc3339Millis(seconds.saturating_mul(1000)).to_string()
}

/// `900`, `12K`, `3M`.
fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => bytes.to_string(),
        10_000..10_000_000 => format!("{}K", bytes / 1000),
        _ => format!("{}M", bytes / 1_000_000),
    }
}

/// Numbers to the right, words to the left; what all have in the last column is as long as it is.
fn columns<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> Vec<String> {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let is_right = |column: usize| rows.iter().skip(1).all(|row| is_number(&row[column]));
    let right: [bool; N] = std::array::from_fn(|column| is_right(column) && rows.len() > 1);
    let line = |row: &[String; N]| {
        let cell = |column: usize| match right[column] {
            true => format!("{:>1$}", row[column], widths[column]),
            false => format!("{:<1$}", row[column], widths[column]),
        };
        let cells: Vec<String> = (0..N).map(cell).collect();
        clean(cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// `12`, `5m`, or the dash that stands for none.
fn is_number(cell: &str) -> bool {
    let digits = cell.trim_end_matches(char::is_alphabetic);
    cell == "-" || (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What others wrote must not steer the terminal.
pub fn clean(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::{LIST_HEAD, list_line, message, ordered, sites, summary};
    use crate::admin::queue::words::{
        MessageView, Meta, OrderedCounts, QueueRow, RecipientView, SiteRow, SummaryRow,
    };
    use crate::queue::selection::{Order, State};

    fn row(state: State) -> QueueRow {
        QueueRow {
            id: "00010000002A".to_owned(),
            sender: String::new(),
            recipient: "bob@relay.test".to_owned(),
            queue: "relay.test".to_owned(),
            domain: "relay.test".to_owned(),
            site: None,
            size: 12_345,
            created: 1000,
            state,
            num_attempts: 2,
            due: 4700,
            reason: "450 not\u{1b}[2J now".to_owned(),
            meta: Meta::default(),
        }
    }

    #[test]
    fn the_list() {
        let expected = [
            LIST_HEAD,
            "00010000002A     50m     12K  deferred      2   11m  <> -> bob@relay.test  450 not [2J now",
            "00010000002A     50m     12K  ready         2   now  <> -> bob@relay.test  450 not [2J now",
            "00010000002A     50m     12K  held          2     -  <> -> bob@relay.test  450 not [2J now",
        ];
        let lines = [State::Deferred, State::Ready, State::Held].map(|state| list_line(&row(state), 4000));
        assert_eq!(lines, expected[1..]);
        assert_eq!(expected[0].find("STATE"), expected[1].find("deferred"));
    }

    #[test]
    fn a_message() {
        let recipient = RecipientView { row: row(State::Deferred), response: "450 not now".to_owned() };
        let view = MessageView {
            id: "00010000002A".to_owned(),
            sender: "ann@example.org".to_owned(),
            size: 5,
            created: 1000,
            meta: Meta { tenant: Some("acme".to_owned()), campaign: None },
            parameters: vec!["RET=HDRS".to_owned()],
            recipients: vec![recipient],
            header: Some("Subject: hello\r\n".to_owned()),
        };
        let expected = "\
message      00010000002A
sender       <ann@example.org>
size         5 bytes
came         1970-01-01T00:16:40.000Z, 50m ago
tenant       acme
parameters   RET=HDRS

recipient    bob@relay.test
state        deferred, tried 2 times, next 1970-01-01T01:18:20.000Z, in 11m
destination  relay.test
waits for    450 not [2J now
last answer  450 not now

Subject: hello
";
        assert_eq!(message(&view, 4000), expected);
    }

    #[test]
    fn columns_line_up() {
        let row = |domain: &str, count| SummaryRow {
            domain: domain.to_owned(),
            site: None,
            count,
            ready: count,
            deferred: 0,
            active: 0,
            held: 0,
            oldest: 0,
            next_due: None,
            reason: Some("a reason".to_owned()),
        };
        let lines = summary(&[row("a.test", 12_345), row("longer.name.test", 1)], 60);
        let column = lines[0].find("WHY").unwrap();
        assert!(lines[1..].iter().all(|line| line[column..] == *"a reason"), "{lines:?}");
        assert!(lines[1].starts_with("a.test                 12345  "), "{lines:?}");
    }

    #[test]
    fn sites_show_what_was_done_since() {
        let site = |delivered| SiteRow {
            site: "mx.test".to_owned(),
            delivered,
            seconds: Some(90),
            ..SiteRow::default()
        };
        assert!(sites(&[site(7)], &[])[1].contains(" 7 "), "{:?}", sites(&[site(7)], &[]));
        assert!(sites(&[site(7)], &[site(5)])[1].contains(" 2 "));
        let waiting = SiteRow { reason: Some("throttled".to_owned()), ..site(1) };
        assert!(sites(&[waiting], &[])[1].ends_with("throttled, 90s more"));
    }

    #[test]
    fn orders_in_sentences() {
        let counts = |changed, active| OrderedCounts { matched: changed + active, changed, active };
        assert_eq!(ordered(&Order::Retry, counts(1, 0)), "1 recipient is tried now");
        let expected = "0 recipients are held; 2 recipients are being sent and left alone";
        assert_eq!(ordered(&Order::Hold { reason: None }, counts(0, 2)), expected);
    }
}
