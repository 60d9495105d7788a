//! What a dialogue in a file does not show: large messages, many recipients, servers that say anything.

use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::{collection, prop_assert, prop_assert_eq, sample};

use super::{Client, Done, Event, Fate, Phase, Protocol, Security, Settings, TlsPolicy, Transaction};
use crate::bytes::{Output, Slice};
use crate::limits::smtp::client::{OUTPUT_BURST_BYTES, PIPELINED_MAX, REPLY_BYTES_MAX};
use crate::mail::address::Address;
use crate::mail::envelope::Recipient;
use crate::mail::time::Instant;
use crate::proto::sasl::Nonce;

const NOW: Instant = Instant(1000);

/// A client and what it has said and told.
struct Talk {
    client: Client,
    out: Output,
}

impl Talk {
    fn new(settings: Settings) -> Self {
        let client = Client::new(Rc::new(settings), Security::Clear, Nonce([0; 18]), NOW);
        Self { client, out: Output::new() }
    }

    /// Greeted by a server that offers `extensions`.
    fn greeted(extensions: &str) -> Self {
        let mut talk = Self::new(Settings::new("me.test"));
        talk.hear(&format!("220 mx.test\r\n250-mx.test\r\n{extensions}250 HELP\r\n"));
        assert_eq!(talk.client.poll_event(), Some(Event::Ready));
        talk.said();
        talk
    }

    fn hear(&mut self, text: &str) {
        let used = self.client.handle_bytes(text.as_bytes(), &mut self.out, NOW);
        assert_eq!(used, text.len());
    }

    fn said(&mut self) -> String {
        let said = String::from_utf8_lossy(&self.out.to_vec()).into_owned();
        self.out.clear();
        said
    }

    fn done(&mut self) -> Done {
        match self.client.poll_event() {
            Some(Event::Done(done)) => done,
            other => panic!("{other:?}"),
        }
    }
}

fn transaction(recipients_count: usize, message: Slice) -> Transaction {
    let recipients = (0..recipients_count)
        .map(|index| Address { local: format!("r{index}"), domain: "there.test".into() });
    Transaction {
        sender: None,
        recipients: recipients.map(Recipient::new).collect(),
        message: vec![message],
        ..Transaction::default()
    }
}

fn fate_phases(done: &Done) -> Vec<Option<Phase>> {
    let phase = |fate: &Fate| match fate {
        Fate::Failed(failure) => Some(failure.phase),
        Fate::Accepted(_) | Fate::NotTried => None,
    };
    done.fates.iter().map(phase).collect()
}

#[test]
fn groups_of_commands_are_bounded() {
    let mut talk = Talk::greeted("250-PIPELINING\r\n");
    talk.client.begin(transaction(250, Slice::from(b"hi\r\n".to_vec())), &mut talk.out, NOW);
    let mut groups = Vec::new();
    loop {
        let said = talk.said();
        groups.push(said.lines().count());
        if said.ends_with("DATA\r\n") {
            talk.hear(&"250 Ok\r\n".repeat(groups.last().copied().unwrap_or_default() - 1));
            break;
        }
        talk.hear(&"250 Ok\r\n".repeat(said.lines().count()));
    }
    assert_eq!(groups, [PIPELINED_MAX, PIPELINED_MAX, 52]);
    talk.hear("354 Ok\r\n");
    assert!(talk.client.poll_output(&mut talk.out, NOW));
    assert!(!talk.client.poll_output(&mut talk.out, NOW));
    talk.hear("250 Ok\r\n");
    let done = talk.done();
    assert!(done.fates.iter().all(|fate| matches!(fate, Fate::Accepted(_))) && done.fates.len() == 250);
}

#[test]
fn an_error_in_the_middle_of_a_large_message() {
    for (extensions, reply, phase) in [
        ("250-PIPELINING\r\n", "552 5.3.4 Too much\r\n", Phase::Body),
        ("250-CHUNKING\r\n", "552 5.3.4 Too much\r\n", Phase::Body),
        ("250-CHUNKING\r\n", "250 Ok\r\n", Phase::Body),
    ] {
        let mut talk = Talk::greeted(extensions);
        let message = Slice::from(vec![b'x'; 10 * OUTPUT_BURST_BYTES]);
        talk.client.begin(transaction(1, message), &mut talk.out, NOW);
        let go_ahead = if extensions.contains("CHUNKING") { "" } else { "354 Ok\r\n" };
        talk.hear(&format!("250 Ok\r\n250 Ok\r\n{go_ahead}"));
        talk.out.clear();
        for _ in 0..3 {
            assert!(talk.client.poll_output(&mut talk.out, NOW));
            assert_eq!(talk.out.len(), OUTPUT_BURST_BYTES);
            talk.out.clear();
        }
        talk.hear(reply);
        assert!(!talk.client.poll_output(&mut talk.out, NOW), "nothing more is sent");
        let done = talk.done();
        assert_eq!(fate_phases(&done), [Some(phase)]);
        let Fate::Failed(failure) = &done.fates[0] else { panic!("{done:?}") };
        assert_eq!(failure.reply.is_permanent(), reply.starts_with('5'));
        assert!(matches!(talk.client.poll_event(), Some(Event::Closed(_))));
    }
}

#[test]
fn a_message_has_the_time_that_its_size_needs() {
    let mut talk = Talk::greeted("250-PIPELINING\r\n");
    let size = 100 * OUTPUT_BURST_BYTES;
    talk.client.begin(transaction(1, Slice::from(vec![b'x'; size])), &mut talk.out, NOW);
    talk.hear("250 Ok\r\n250 Ok\r\n354 Ok\r\n");
    let mut now = NOW;
    let mut bursts = 0;
    loop {
        // A burst that is sent in time renews the time of the next, up to that of all together.
        now = now + Duration::from_secs(170);
        talk.client.handle_timeout(now);
        if !talk.client.poll_output(&mut talk.out, now) {
            break;
        }
        bursts += 1;
        talk.out.clear();
    }
    let timeouts = Settings::new("me.test").timeouts;
    let total_s = timeouts.transaction.as_secs() + size as u64 / timeouts.bytes_per_s_min;
    assert_eq!(bursts, (total_s - 1) / 170);
    assert_eq!(fate_phases(&talk.done()), [Some(Phase::Body)]);
}

/// What a server may say, and much that it may not.
fn speech() -> impl Strategy<Value = Vec<u8>> {
    const WORDS: [&str; 13] =
        ["220 ", "250-", "250 ", "334 ", "354 ", "421 ", "450 ", "550 ", "235 ", "\r\n", "\n", "25", "\0"];
    const LINES: [&str; 6] = [
        "220 mx\r\n",
        "250 Ok\r\n",
        "250-mx\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-STARTTLS\r\n250 LIMITS RCPTMAX=2\r\n",
        "354 Ok\r\n",
        "550 5.1.1 No\r\n",
        "452 4.5.3 Many\r\n",
    ];
    let piece = prop_oneof![
        6 => sample::select(&LINES[..]).prop_map(|line| line.as_bytes().to_vec()).boxed(),
        2 => sample::select(&WORDS[..]).prop_map(|word| word.as_bytes().to_vec()).boxed(),
        1 => collection::vec(any::<u8>(), 0..5).boxed(),
    ];
    collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Lets the client send three transactions to a server that says `speech` in pieces of `step`, whatever it is told.
/// Gives the fates and what the client said.
fn run(settings: Settings, speech: &[u8], step: usize) -> (Vec<Done>, Vec<u8>) {
    let mut talk = Talk::new(settings);
    let (mut begun, mut dones, mut closed) = (0, Vec::new(), 0);
    let mut said = Vec::new();
    let mut pieces = speech.chunks(step);
    let mut is_ended = false;
    loop {
        while let Some(event) = talk.client.poll_event() {
            assert_eq!(closed, 0, "Closed is the last event");
            match event {
                Event::StartTls => talk.client.handle_tls(Security::Encrypted, &mut talk.out, NOW),
                Event::Ready => {}
                Event::Done(done) => dones.push(done),
                Event::Closed(_) => closed += 1,
            }
        }
        if talk.client.is_ready() && begun < 3 {
            begun += 1;
            talk.client.begin(transaction(3, Slice::from(b".hi\r\n".to_vec())), &mut talk.out, NOW);
            continue;
        }
        while talk.client.poll_output(&mut talk.out, NOW) {}
        said.extend(talk.out.to_vec());
        talk.out.clear();
        match pieces.next() {
            Some(piece) => {
                let mut used = 0;
                while used < piece.len() {
                    used += talk.client.handle_bytes(&piece[used..], &mut talk.out, NOW);
                }
            }
            None if !is_ended => {
                is_ended = true;
                talk.client.handle_end("the server closed the connection");
            }
            None => break,
        }
    }
    assert_eq!(closed, 1);
    assert_eq!(dones.len(), begun, "each begin gets one Done");
    (dones, said)
}

fn settings() -> impl Strategy<Value = Settings> {
    let protocols = prop_oneof![Just(Protocol::Smtp), Just(Protocol::Lmtp)];
    let policies = prop_oneof![Just(TlsPolicy::Never), Just(TlsPolicy::Opportunistic)];
    (protocols, policies).prop_map(|(protocol, tls)| Settings { protocol, tls, ..Settings::new("me.test") })
}

proptest! {
    #[test]
    fn servers_may_say_anything(settings in settings(), speech in speech(), step in 1_usize..50) {
        let (dones, said) = run(settings, &speech, step);
        for done in &dones {
            prop_assert_eq!(done.fates.len(), 3);
        }
        // Nobody is accepted without a message that was sent whole.
        let accepted = dones.iter().filter(|done| {
            done.fates.iter().any(|fate| matches!(fate, Fate::Accepted(_)))
        });
        let text = String::from_utf8_lossy(&said);
        prop_assert!(accepted.count() <= text.matches(".hi\r\n").count());
        prop_assert!(said.len() < REPLY_BYTES_MAX);
    }

    #[test]
    fn bytes_may_be_anything(speech in collection::vec(any::<u8>(), 0..300), step in 1_usize..50) {
        run(Settings::new("me.test"), &speech, step);
    }
}
