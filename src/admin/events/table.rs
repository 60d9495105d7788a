//! A line of the event log in columns.

use std::borrow::Cow;

use serde::Deserialize;

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    event_time: Option<Cow<'a, str>>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    sender: Option<Cow<'a, str>>,
    #[serde(borrow)]
    recipient: Option<Cow<'a, str>>,
    #[serde(borrow)]
    queue: Option<Cow<'a, str>>,
    #[serde(borrow)]
    response: Option<Response<'a>>,
}

#[derive(Deserialize)]
struct Response<'a> {
    code: u16,
    enhanced_code: Option<Enhanced>,
    #[serde(borrow)]
    content: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Enhanced {
    class: u8,
    subject: u16,
    detail: u16,
}

/// Time, type, id, sender and recipient, answer. A line that cannot be read is shown as it is.
pub fn row(line: &[u8]) -> String {
    let Ok(line) = serde_json::from_slice::<Line<'_>>(line) else {
        return clean(&String::from_utf8_lossy(line));
    };
    let text = |field: &Option<Cow<'_, str>>| field.as_deref().unwrap_or("-").to_owned();
    let who = match (&line.sender, &line.recipient) {
        (None, None) => text(&line.queue),
        (None, Some(recipient)) => recipient.clone().into_owned(),
        (Some(sender), None) => format!("<{sender}>"),
        (Some(sender), Some(recipient)) => format!("<{sender}> -> {recipient}"),
    };
    let answer = line.response.map(|response| {
        let enhanced =
            response.enhanced_code.map_or_else(String::new, |Enhanced { class, subject, detail }| {
                format!("{class}.{subject}.{detail} ")
            });
        format!("  {} {enhanced}{}", response.code, response.content)
    });
    let row = format!(
        "{:<24}  {:<16}  {:<12}  {who}{}",
        text(&line.event_time),
        line.kind,
        text(&line.id),
        answer.unwrap_or_default()
    );
    clean(&row)
}

/// What others wrote must not steer the terminal.
fn clean(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::row;

    #[test]
    fn rows() {
        let line = br#"{"type":"Bounce","id":"00010000002A","sender":"","recipient":"bob@x.example",
            "response":{"code":550,"enhanced_code":{"class":5,"subject":1,"detail":1},"content":"no\u001b[2J\nbody"},
            "timestamp":1,"event_time":"2026-11-24T10:00:00.250Z"}"#;
        let expected = "2026-11-24T10:00:00.250Z  Bounce            00010000002A  <> -> bob@x.example  550 5.1.1 no [2J body";
        assert_eq!(row(line), expected);
        let bare = br#"{"type":"Automation","queue":"x.example"}"#;
        assert_eq!(row(bare), "-                         Automation        -             x.example");
        assert_eq!(row(b"ju\x1bnk"), "ju nk");
    }
}
