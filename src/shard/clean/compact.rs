//! What is live in a segment is written again at the end of the log.
//!
//! The index thread goes through the segment and checks every block; the shard appends what is live in groups like any
//! others, and not faster than it may. A message that is damaged is left where it is, and its segment stays.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{Cleaner, Unclean};
use crate::io::disk::DiskError;
use crate::io::disk::layout::LogDir;
use crate::io::disk::open::{scan_segment, unreadable_at};
use crate::io::executor::sleep;
use crate::mailbox::Change;
use crate::shard::Shard;
use crate::shard::deliver::change;
use crate::store::live::Live;
use crate::store::record::{Body, Deferred, Message, Moved, ReasonMoved, Record};
use crate::store::recover::{Found, Recovered, Scan};
use crate::store::{RecordPlace, Sequence};

/// So much is moved in one group.
const GROUP_BYTES: u64 = 256 << 10;
const GROUP_MESSAGES: usize = 256;

/// Rows of what is owed that are looked at in one go.
const ROWS: usize = 1024;

/// A segment that is being gone through.
struct Walk {
    scan: Scan,
    dir: LogDir,
    live: Arc<Live>,
}

/// Live messages of a segment, in order.
type Messages = Vec<(Sequence, Message)>;

impl Cleaner {
    /// Writes again what is live in these segments. Says which of them are empty now, and how much was written.
    pub(super) async fn compact(
        &self,
        shard: &Rc<Shard>,
        victims: &[u32],
        live: &Arc<Live>,
    ) -> Result<(Vec<u32>, u64), Unclean> {
        let (mut emptied, mut moved_bytes) = (Vec::new(), 0);
        for &number in victims {
            let share = live.share(number);
            let (found, bytes) = match share.messages {
                0 => (0, 0),
                _ => self.empty(shard, number, live).await?,
            };
            moved_bytes += bytes;
            match found >= share.messages {
                true => emptied.push(number),
                false => {
                    let lost = share.messages - found;
                    let log = self.commit.id().0;
                    tracing::error!(
                        log,
                        segment = number,
                        lost,
                        "messages cannot be read; their segment is kept"
                    );
                    self.quarantined.borrow_mut().insert(number);
                }
            }
        }
        self.move_reasons(shard, &emptied).await?;
        Ok((emptied, moved_bytes))
    }

    /// Moves what is live in one segment: how many messages that were, and their bytes.
    async fn empty(&self, shard: &Rc<Shard>, number: u32, live: &Arc<Live>) -> Result<(u64, u64), Unclean> {
        let (dir, live) = (self.commit.dir().clone(), Arc::clone(live));
        let mut walk = self.keeper.indexer().run(move |_| Walk::begin(dir, number, live)).await??;
        let (mut found, mut bytes) = (0, 0);
        loop {
            if shard.is_stopping() {
                return Err(Unclean::Stopping);
            }
            let messages: Messages;
            (walk, messages) = self.keeper.indexer().run(move |_| walk.go_on()).await??;
            if messages.is_empty() {
                return Ok((found, bytes));
            }
            found += messages.len() as u64;
            bytes += self.rewrite(shard, messages).await?;
        }
    }

    /// Appends messages anew; what is owed keeps its envelope.
    async fn rewrite(&self, shard: &Rc<Shard>, messages: Messages) -> Result<u64, Unclean> {
        let mut bytes = 0;
        let mut changes: Vec<Change> = Vec::with_capacity(messages.len());
        for (message, content) in messages {
            let is_owed = self.commit.owed().of_message(message).next().is_some();
            if let Body::File { .. } = content.body
                && !is_owed
            {
                // Its mailboxes know the file, and nobody needs the record.
                continue;
            }
            let accepted = content.accepted.filter(|_| is_owed);
            bytes += match &content.body {
                Body::Inline { bytes, .. } => bytes.len() as u64,
                Body::File { .. } => 0,
            };
            let content = Message { accepted, ..content };
            changes.push(change(Record::Moved(Moved { message, content })));
        }
        self.append_slowly(shard, changes, bytes).await?;
        Ok(bytes)
    }

    /// Reasons why owed mail was put off that stand in these segments.
    async fn move_reasons(&self, shard: &Rc<Shard>, segments: &[u32]) -> Result<(), Unclean> {
        let mut behind = Sequence(0);
        loop {
            let mut reasons: BTreeMap<(Sequence, u32, u32), Vec<u32>> = BTreeMap::new();
            let before = behind;
            for (count, row) in self.commit.owed().rows_from(behind + 1).enumerate() {
                // All rows of a message come together.
                if count >= ROWS && row.message != behind {
                    break;
                }
                behind = row.message;
                let Some(RecordPlace { segment, offset }) = row.deferral() else {
                    continue;
                };
                if segments.contains(&segment) {
                    reasons.entry((row.message, segment, offset)).or_default().push(row.recipient);
                }
            }
            let mut changes = Vec::new();
            for ((message, segment, offset), recipients) in reasons {
                let from = RecordPlace { segment, offset };
                if let Some(deferred) = shard.reader().deferral(self.commit.id(), from) {
                    let deferred = Deferred { message, recipients, ..deferred };
                    changes.push(change(Record::ReasonMoved(ReasonMoved { from, deferred })));
                }
            }
            self.append_slowly(shard, changes, 0).await?;
            if behind == before {
                return Ok(());
            }
        }
    }

    async fn append_slowly(
        &self,
        shard: &Rc<Shard>,
        changes: Vec<Change>,
        bytes: u64,
    ) -> Result<(), Unclean> {
        if changes.is_empty() {
            return Ok(());
        }
        self.commit.append(changes).stored().await?;
        sleep(time_for(bytes, self.bytes_per_second(shard))).await;
        Ok(())
    }

    /// How fast it may write. While mail is refused for want of space, as fast as it can.
    pub(super) fn bytes_per_second(&self, shard: &Shard) -> u64 {
        match self.commit.is_short() {
            true => u64::MAX,
            false => shard.config().limits.clean_bytes_per_s,
        }
    }
}

/// How long so many bytes take at a rate.
pub(super) fn time_for(bytes: u64, bytes_per_second: u64) -> Duration {
    Duration::from_micros(bytes.saturating_mul(1_000_000) / bytes_per_second.max(1))
}

impl Walk {
    fn begin(dir: LogDir, number: u32, live: Arc<Live>) -> Result<Self, DiskError> {
        Ok(Self { scan: scan_segment(&dir, number)?, dir, live })
    }

    /// The next live messages; none at the end of the segment.
    fn go_on(mut self) -> Result<(Self, Messages), DiskError> {
        let (mut messages, mut bytes) = (Messages::new(), 0);
        while messages.len() < GROUP_MESSAGES && bytes < GROUP_BYTES {
            match self.next()? {
                ControlFlow::Continue(Some((message, content))) => {
                    bytes += content.body.length();
                    messages.push((message, content));
                }
                ControlFlow::Continue(None) => {}
                ControlFlow::Break(()) => break,
            }
        }
        Ok((self, messages))
    }

    /// The next record: a message that is live and nowhere newer, or something else.
    fn next(&mut self) -> Result<ControlFlow<(), Option<(Sequence, Message)>>, DiskError> {
        let Some(found) = self.scan.next() else {
            return Ok(ControlFlow::Break(()));
        };
        let found = found.map_err(|unreadable| unreadable_at(&self.dir, unreadable))?;
        let Found::Record(Recovered { sequence, place, record }) = found else {
            return Ok(ControlFlow::Continue(None));
        };
        let (message, content) = match record {
            Record::Message(content) => (sequence, content),
            Record::Moved(Moved { message, content }) => (message, content),
            _ => return Ok(ControlFlow::Continue(None)),
        };
        let newest = self.dir.files.moved(message);
        let is_newest = match newest {
            Some(newest) => newest == place,
            None => message == sequence,
        };
        let is_inline = matches!(content.body, Body::Inline { .. });
        let is_wanted =
            is_newest && self.live.is_live(message) && (is_inline || self.live.wants_record(message));
        Ok(ControlFlow::Continue(is_wanted.then_some((message, content))))
    }
}
