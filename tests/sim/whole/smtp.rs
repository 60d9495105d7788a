//! Clients that send mail, and the remote server that takes some of it.

use std::io;
use std::rc::Rc;

use ringpost::io::world::Door;

use super::ledger::Ledger;
use super::server::address;
use crate::world::net::Lines;
use crate::world::{Sim, sim};

/// A message above this goes into a file of its own.
const LARGE_BYTES: u64 = 256 << 10;

/// Sends mail until the ledger is closed.
pub async fn send(ledger: Rc<Ledger>) {
    while !ledger.is_over.get() {
        let sim = sim();
        ledger.busy.set(ledger.busy.get() + 1);
        // Whoever loses the connection tries again with other mail.
        let _ = session(&sim, &ledger).await;
        ledger.busy.set(ledger.busy.get() - 1);
        sim.sleep_us(sim.below(600_000)).await;
    }
}

async fn session(sim: &Sim, ledger: &Ledger) -> io::Result<()> {
    let mut lines = Lines::connect(address(25)).await?;
    expect(&mut lines, 220).await?;
    lines.send("EHLO client.test\r\n").await?;
    expect(&mut lines, 250).await?;
    for _ in 0..1 + sim.below(4) {
        if ledger.is_over.get() {
            break;
        }
        transaction(sim, ledger, &mut lines).await?;
        sim.sleep_us(sim.below(100_000)).await;
    }
    lines.send("QUIT\r\n").await?;
    expect(&mut lines, 221).await?;
    Ok(())
}

async fn transaction(sim: &Sim, ledger: &Ledger, lines: &mut Lines) -> io::Result<()> {
    let token = ledger.token();
    let recipients = recipients(sim, &token);
    let bytes = message(sim, &token);
    let mut burst = "MAIL FROM:<alice@here.test>\r\n".to_owned();
    // Whether deliveries are to be told.
    let wish = *sim.pick(&["", "", " NOTIFY=SUCCESS,FAILURE"]);
    recipients.iter().for_each(|recipient| burst.push_str(&format!("RCPT TO:<{recipient}>{wish}\r\n")));
    let with_bdat = sim.one_in(3);
    if !with_bdat {
        burst.push_str("DATA\r\n");
    }
    lines.send(burst).await?;
    let sender = reply(lines).await?;
    let mut accepted = Vec::new();
    for recipient in recipients {
        if reply(lines).await? == 250 {
            accepted.push(recipient);
        }
    }
    ledger.send(&token, &accepted, bytes.clone());
    if !wish.is_empty() {
        ledger.wish(&token, &accepted);
    }
    if with_bdat {
        let mut chunk = format!("BDAT {} LAST\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(&bytes);
        lines.send(chunk).await?;
    } else {
        if reply(lines).await? != 354 {
            return Ok(());
        }
        lines.send(stuffed(&bytes)).await?;
    }
    let code = reply(lines).await?;
    rule!("a fault is no refusal", code == 250 || (400..500).contains(&code), "{code} for a good message");
    assert!(
        code != 250 || (sender == 250 && !accepted.is_empty()),
        "[replies] 250 without anybody to deliver to"
    );
    if code == 250 {
        ledger.taken(&token);
    }
    Ok(())
}

/// One to three of those that there are, here and elsewhere.
fn recipients(sim: &Sim, token: &str) -> Vec<String> {
    let mut recipients = Vec::new();
    for _ in 0..1 + sim.below(3) {
        let recipient = match sim.below(10) {
            0 | 1 => "alice@here.test".to_owned(),
            2 | 3 => "bob@here.test".to_owned(),
            4 => "carol@here.test".to_owned(),
            5 => "dave@here.test".to_owned(),
            6 | 7 => format!("ok-{token}@remote.test"),
            8 => format!("temp-{token}@remote.test"),
            _ => format!("{}-{token}@remote.test", sim.pick(&["perm", "drop"])),
        };
        if !recipients.contains(&recipient) {
            recipients.push(recipient);
        }
    }
    recipients
}

/// A message with lines that are easily cut wrongly.
pub fn message(sim: &Sim, token: &str) -> Vec<u8> {
    let length = match sim.below(60) {
        0 => LARGE_BYTES + sim.below(100_000),
        1..6 => sim.below(40_000),
        _ => sim.below(3000),
    };
    let mut text = format!("X-Token: {token}\r\nSubject: mail {token}\r\n\r\n");
    while (text.len() as u64) < length {
        match sim.below(6) {
            0 => text.push_str(".\r\n"),
            1 => text.push_str("..two dots\r\n"),
            2 => text.push_str("\r\n"),
            _ => text.push_str(&format!(
                "line {} of {token} {}\r\n",
                text.len(),
                "x".repeat(sim.below(70) as usize)
            )),
        }
    }
    text.into_bytes()
}

/// As DATA wants it, with the end.
fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 16);
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    out.extend_from_slice(b".\r\n");
    out
}

/// The code of a whole reply.
async fn reply(lines: &mut Lines) -> io::Result<u16> {
    loop {
        let line = lines.line().await?;
        let code = line.get(..3).and_then(|code| code.parse().ok());
        let code = code.unwrap_or_else(|| panic!("[replies] no reply: {line:?}"));
        if code == 421 {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(code);
        }
    }
}

async fn expect(lines: &mut Lines, code: u16) -> io::Result<()> {
    match reply(lines).await? == code {
        true => Ok(()),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Takes mail at a door, for as long as the world lasts.
pub async fn remote(door: Box<dyn Door>, ledger: Rc<Ledger>, excuses: Rc<dyn Fn() -> u64>) {
    loop {
        let accepted = std::future::poll_fn(|context| door.poll_accept(context)).await;
        if let Ok(wire) = accepted {
            let (ledger, excuses) = (Rc::clone(&ledger), Rc::clone(&excuses));
            sim().spawn(crate::world::CLIENTS, "remote", async move {
                let _ = receive(Lines::over(wire), &ledger, &*excuses).await;
            });
        }
    }
}

async fn receive(mut lines: Lines, ledger: &Ledger, excuses: &dyn Fn() -> u64) -> io::Result<()> {
    lines.send("220 remote.test ESMTP\r\n").await?;
    let mut recipients: Vec<String> = Vec::new();
    loop {
        let line = lines.line().await?;
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" => lines.send("250-remote.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n").await?,
            "MAIL" | "RSET" => {
                recipients.clear();
                lines.send("250 2.0.0 ok\r\n").await?;
            }
            "RCPT" => {
                let to = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                let answer = fate(&to);
                if answer.starts_with('2') {
                    recipients.push(to);
                }
                lines.send(answer).await?;
            }
            "DATA" if recipients.is_empty() => lines.send("554 5.5.1 nobody\r\n").await?,
            "DATA" => {
                lines.send("354 go on\r\n").await?;
                let message = data(&mut lines).await?;
                let token = token_of(&message).unwrap_or_default();
                let drops =
                    recipients.iter().any(|recipient| recipient.starts_with("drop")) && sim().one_in(2);
                if drops && sim().one_in(2) {
                    return Ok(());
                }
                for recipient in &recipients {
                    ledger.deliver(&token, recipient, &message, excuses() + ledger.unsaid.get());
                }
                if drops {
                    ledger.unsaid.set(ledger.unsaid.get() + 1);
                    return Ok(());
                }
                recipients.clear();
                lines.send("250 2.0.0 taken\r\n").await?;
            }
            "QUIT" => return lines.send("221 2.0.0 bye\r\n").await,
            _ => lines.send("500 5.5.2 what?\r\n").await?,
        }
    }
}

fn fate(recipient: &str) -> &'static str {
    match recipient.split('-').next().unwrap_or_default() {
        "perm" => "550 5.1.1 nobody of that name\r\n",
        "temp" if !sim().one_in(3) => "450 4.2.1 later\r\n",
        _ => "250 2.1.5 ok\r\n",
    }
}

async fn data(lines: &mut Lines) -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    loop {
        let line = lines.line().await?;
        if line == "." {
            return Ok(message);
        }
        message.extend_from_slice(line.strip_prefix('.').unwrap_or(&line).as_bytes());
        message.extend_from_slice(b"\r\n");
    }
}

/// The token in the header of a message.
pub fn token_of(message: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(message);
    let header = text.split("\r\n\r\n").next()?;
    header.lines().find_map(|line| line.strip_prefix("X-Token: ")).map(str::to_owned)
}
