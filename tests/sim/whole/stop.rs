//! One shard on its way down while the other goes on: what comes to it with the word to stop, and what comes behind.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;

use ringpost::io::inbox::Inbox;
use ringpost::mail::address::Address;
use ringpost::mail::envelope::{Envelope, Recipient};
use ringpost::shard::control::Request;
use ringpost::shard::mesh::Letter;
use ringpost::shard::submit::Submission;

use super::server::SHARDS;
use super::with_server;
use crate::world::CLIENTS;

/// Less than a shard waits for the others once it stops.
const ON_ITS_WAY_DOWN_US: u64 = 5_000_000;

#[test]
fn what_comes_with_the_word_to_stop_is_taken() {
    let is_answered = with_server("", |run| {
        let (inboxes, answer) = (run.server.inboxes(), Inbox::new());
        inboxes[0].post(Letter::Stop);
        inboxes[0].post(Letter::Control(Request::Figures(answer.clone())));
        run.pass(ON_ITS_WAY_DOWN_US);
        answer.try_next().is_some()
    });
    assert!(is_answered);
}

#[test]
fn a_shard_on_its_way_down_begins_no_site() {
    // The site belongs to one of them, and the mail to the other or to both.
    let reached = (0..SHARDS).filter(|&stopped| is_reached_without(stopped)).count();
    assert_eq!(reached, 1);
}

/// Whether mail that another shard takes comes to the other server after this one was told to stop.
fn is_reached_without(stopped: usize) -> bool {
    with_server("", move |run| {
        let is_reached = Rc::new(Cell::new(false));
        let (door, reached) = (run.sim.net.listen(([127, 0, 2, 1], 25).into()), Rc::clone(&is_reached));
        run.sim.spawn(CLIENTS, "remote", async move {
            reached.set(poll_fn(|context| door.poll_accept(context)).await.is_ok());
        });
        let (inboxes, answer) = (run.server.inboxes(), Inbox::new());
        inboxes[stopped].post(Letter::Stop);
        run.pass(100_000);
        let submit = Request::Submit(submission(), answer.clone());
        inboxes[(stopped + 1) % SHARDS].post(Letter::Control(submit));
        run.pass(ON_ITS_WAY_DOWN_US);
        assert!(matches!(answer.try_next(), Some(Ok(submitted)) if submitted.id.is_some()), "it is taken");
        is_reached.get()
    })
}

fn submission() -> Submission {
    let address = Address { local: "eve".to_owned(), domain: "remote.test".to_owned() };
    let envelope = Envelope { recipients: vec![Recipient::new(address)], ..Envelope::default() };
    Submission {
        envelope,
        message: b"From: adam@here.test\r\nSubject: late\r\n\r\ntext\r\n".to_vec(),
        user: 0,
    }
}
