//! What becomes of a recipient at a decent server, by the local part of its address.
//!
//! | local part begins with | at RCPT | after the message (LMTP) |
//! |---|---|---|
//! | `no` | 550 5.1.1 | |
//! | `later` | 451 4.7.1 | |
//! | `full` | 452 4.2.2 | |
//! | `greyN` | 451 4.7.1 the first N times | |
//! | `forward` | 251 | 250 |
//! | `moved` | 551 5.1.6 | |
//! | `endno` | 250 | 550 5.2.2 |
//! | `endlater` | 250 | 451 4.2.1 |
//! | anything else | 250 | 250 |

/// The reply to RCPT, for the `times`-th time from 0 on.
pub fn at_rcpt(recipient: &str, times: usize) -> String {
    let local = local(recipient);
    if let Some(rest) = local.strip_prefix("grey") {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let refused = digits.parse().unwrap_or(1);
        return if times < refused {
            "451 4.7.1 Greylisted, come back".into()
        } else {
            "250 2.1.5 Ok".into()
        };
    }
    let replies = [
        ("no", "550 5.1.1 No such mailbox"),
        ("later", "451 4.7.1 Not now"),
        ("full", "452 4.2.2 Mailbox full"),
        ("forward", "251 2.1.5 Will forward to <x@evil.test>"),
        ("moved", "551 5.1.6 Try <x@evil.test>"),
    ];
    let found = replies.iter().find(|(prefix, _)| local.starts_with(prefix));
    found.map_or("250 2.1.5 Ok", |(_, reply)| reply).to_owned()
}

/// The reply of LMTP for one recipient after the message.
pub fn at_end(recipient: &str) -> &'static str {
    if local(recipient).starts_with("endno") {
        "550 5.2.2 Over quota"
    } else if local(recipient).starts_with("endlater") {
        "451 4.2.1 Mailbox is locked"
    } else {
        "250 2.1.5 Delivered"
    }
}

fn local(recipient: &str) -> &str {
    recipient.rsplit_once('@').map_or(recipient, |(local, _)| local)
}
