//! SEARCH, SORT and THREAD.

use super::mailbox_gone;
use super::session::{Selected, Session, numbering, too_much};
use crate::bytes::Output;
use crate::io::clock;
use crate::io::executor::Turns;
use crate::mail::query::{SearchKey, SearchReturn};
use crate::mail::set::Ranges;
use crate::mailbox::search::{Bodies, Budget, Found, Progress, Search};
use crate::mailbox::sort::Sort as Sorting;
use crate::mailbox::thread::Threading;
use crate::mailbox::view::Look;
use crate::proto::imap::command::{self, Numbering, Sort, Thread};
use crate::proto::imap::render;
use crate::proto::imap::render::search::SearchReply;
use crate::proto::imap::reply::{Code, Done, Status};

/// Other sessions get their turn after so much searching: well under a millisecond of it.
const SLICE: Budget = Budget { messages: 500, bytes: 1 << 20 };

/// What a client can do about it is in the words.
const TOO_LONG: &str =
    "The answer is longer than a session may hold; ask for fewer messages or for ranges (ESEARCH)";

impl Session {
    pub(super) async fn search(&mut self, search: &command::Search) -> Done {
        let found = match self.find(&search.key).await {
            Ok(found) => found,
            Err(done) => return done,
        };
        let returns = search.returns.unwrap_or(SearchReturn { all: true, ..SearchReturn::default() });
        let answer = found.answer(returns);
        let rev2 = self.engine.enabled().rev2;
        let tag = self.engine.tag().to_owned();
        let uids: Ranges = found.uids.iter().copied().collect();
        let room_bytes = self.room_bytes();
        if answer.save.as_ref().is_some_and(|save| save.held_bytes() > room_bytes) {
            self.clear_saved();
            return not_saved();
        }
        let done = self.looking(|look, out| {
            let matches = match search.numbering {
                Numbering::Uid => uids,
                Numbering::Sequence => look.to_numbers(&uids),
            };
            let reply = SearchReply {
                tag: &tag,
                numbering: search.numbering,
                returns: search.returns,
                matches: &matches,
                modseq: answer.modseq,
                rev2,
            };
            if render::search::length_max(&reply) > room_bytes {
                return too_much(TOO_LONG);
            }
            render::search::search(out, &reply);
            Done::ok("Search completed")
        });
        if let Some(selected) = self.selected.as_mut().filter(|_| done.status == Status::Ok) {
            selected.saved.take(&answer);
        } else if answer.save.is_some() {
            self.clear_saved();
        }
        done
    }

    /// RFC 5182 2.1: a search that was to be saved and ends in NO leaves nothing.
    pub(super) fn clear_saved(&mut self) {
        if let Some(selected) = &mut self.selected {
            selected.saved.clear();
        }
    }

    pub(super) async fn sort(&mut self, command: &Sort) -> Done {
        let mut found = match self.find(&command.key).await {
            Ok(found) => found,
            Err(done) => return done,
        };
        let returns = command.returns.unwrap_or(SearchReturn { all: true, ..SearchReturn::default() });
        if returns.all && found.uids.len() * render::search::NUMBER_BYTES_MAX > self.room_bytes() {
            if returns.save {
                self.clear_saved();
            }
            return too_much(TOO_LONG);
        }
        let mut sorting = Sorting::new(&found.uids, &command.by);
        if let Err(done) = self.in_slices(|look, bodies| sorting.step(look, bodies, SLICE)).await {
            return done;
        }
        found.uids = sorting.finish();
        let answer = found.answer(returns);
        if answer.save.as_ref().is_some_and(|save| save.held_bytes() > self.room_bytes()) {
            self.clear_saved();
            return not_saved();
        }
        let tag = self.engine.tag().to_owned();
        let done = self.looking(|look, out| {
            let numbers: Vec<u32> = match command.numbering {
                Numbering::Uid => found.uids,
                Numbering::Sequence => found.uids.into_iter().filter_map(|uid| look.msn_of(uid)).collect(),
            };
            match command.returns {
                None => render::search::sort(out, numbers, answer.modseq),
                // RFC 5182 2.1
                Some(returns) if returns == (SearchReturn { save: true, ..SearchReturn::default() }) => (),
                Some(returns) => {
                    let correlator = (tag.as_str(), command.numbering);
                    render::search::sort_extended(out, correlator, returns, &numbers, answer.modseq);
                }
            }
            Done::ok("Sort completed")
        });
        if let Some(selected) = self.selected.as_mut().filter(|_| done.status == Status::Ok) {
            selected.saved.take(&answer);
        }
        done
    }

    pub(super) async fn thread(&mut self, command: &Thread) -> Done {
        let found = match self.find(&command.key).await {
            Ok(found) => found,
            Err(done) => return done,
        };
        // With brackets on both sides.
        if found.uids.len() * (render::search::NUMBER_BYTES_MAX + 2) > self.room_bytes() {
            return too_much(TOO_LONG);
        }
        let mut threading = Threading::new(&found.uids, command.by);
        if let Err(done) = self.in_slices(|look, bodies| threading.step(look, bodies, SLICE)).await {
            return done;
        }
        let numbering = numbering(command.numbering);
        self.looking(|look, out| {
            render::thread::thread(out, &threading.finish(look, numbering));
            Done::ok("Thread completed")
        })
    }

    /// The matching messages.
    async fn find(&mut self, key: &SearchKey) -> Result<Found, Done> {
        let now = clock::timestamp().seconds;
        let search = {
            let Selected { view, saved, .. } = self.selected.as_mut().ok_or_else(mailbox_gone)?;
            let account = self.seat.account();
            let mailbox = account.mailbox(view.mailbox()).ok_or_else(mailbox_gone)?;
            Search::new(key, &view.look(mailbox), saved, now)
        };
        let mut search = search;
        self.in_slices(|look, bodies| search.step(look, bodies, SLICE)).await?;
        Ok(search.finish())
    }

    /// Repeats a step until it is done; others are served in between.
    async fn in_slices(
        &mut self,
        mut step: impl FnMut(&Look<'_>, &dyn Bodies) -> Progress,
    ) -> Result<(), Done> {
        let mut turns = Turns::begin();
        loop {
            {
                let Selected { view, .. } = self.selected.as_mut().ok_or_else(mailbox_gone)?;
                let account = self.seat.account();
                let mailbox = account.mailbox(view.mailbox()).ok_or_else(mailbox_gone)?;
                if step(&view.look(mailbox), &self.shard.bodies()) == Progress::Done {
                    return Ok(());
                }
            }
            turns.give().await;
        }
    }

    /// Answers from the mailbox as the session sees it now.
    fn looking(&mut self, answer: impl FnOnce(&Look<'_>, &mut Output) -> Done) -> Done {
        let Some(selected) = &mut self.selected else {
            return mailbox_gone();
        };
        let account = self.seat.account();
        match account.mailbox(selected.view.mailbox()) {
            Some(mailbox) => answer(&selected.view.look(mailbox), self.conn.out()),
            None => mailbox_gone(),
        }
    }
}

/// RFC 5182 2.1
fn not_saved() -> Done {
    Done::no(Some(Code::NotSaved), "The result is larger than a session may hold")
}
