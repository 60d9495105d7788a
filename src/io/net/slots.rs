//! What is under way on each socket: one operation of receiving, accepting or watching, one of sending.
//!
//! A slot owns the descriptor and the bytes that are being sent. Its user lets go of it at any time; the slot stays
//! until the kernel has answered for the last operation.
//!
//! Invariants: at most one operation of each kind is in flight for a slot; what one points to does not move until
//! it is complete; a slot without a user starts nothing.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::task::{Context, Poll, Waker};

use io_uring::types::Fd;
use io_uring::{cqueue, opcode, squeue};

use super::buffers;
use super::sockets::Ring;
use crate::bytes::Output;
use crate::io::share;
use crate::limits::RECEIVE_BUFFER_BYTES;

/// Pieces that one send gathers; more go in the next.
const GATHERED_MAX: usize = 32;

/// Of one send; more go in the next.
const SENT_BYTES_MAX: u32 = 1 << 30;

/// `IORING_RECVSEND_POLL_FIRST`: nothing is there yet, so do not look before something came.
const POLL_FIRST: u16 = 1;

/// Kinds of operations, in the low bits of their names.
const INCOMING: u64 = 0;
const OUTGOING: u64 = 1;
const CANCEL: u64 = 2;

#[derive(Default)]
pub struct Slots {
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    /// Those whose receive found no buffer.
    starved: Vec<u32>,
}

struct Slot {
    socket: OwnedFd,
    kind: Kind,
    incoming: Incoming,
    /// More was there than the last buffer took.
    has_more: bool,
    outgoing: Option<Outgoing>,
    /// Something was taken by the peer since the last look.
    has_progressed: bool,
    send_error: Option<i32>,
    /// Its user has let go of it.
    is_left: bool,
    receiver: Option<Waker>,
    sender: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Stream,
    Listener,
    /// Waited for until it can be read or written, by the bits of poll(2).
    Watched(u32),
}

/// A receive, or an accept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Incoming {
    None,
    InFlight,
    /// A receive that found no buffer. It goes on when one is given back.
    Starved,
    /// What the kernel said, and the buffer with it.
    Done(i32, Option<u16>),
}

/// A burst that is being sent.
struct Outgoing {
    burst: Output,
    sent: usize,
    gathered: Option<Box<Gathered>>,
}

/// A list of pieces as the kernel wants it.
struct Gathered {
    _pieces: Vec<libc::iovec>,
    header: libc::msghdr,
}

/// How far a burst is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sending {
    Done,
    /// The peer took a part.
    Progress,
}

#[cfg(test)]
impl Slots {
    pub fn in_use(&self) -> usize {
        self.slots.iter().flatten().count()
    }
}

impl Ring {
    /// A slot for a socket.
    pub fn adopt(&mut self, socket: OwnedFd, kind: Kind) -> u32 {
        let slot = Slot {
            socket,
            kind,
            incoming: Incoming::None,
            has_more: false,
            outgoing: None,
            has_progressed: false,
            send_error: None,
            is_left: false,
            receiver: None,
            sender: None,
        };
        let Slots { slots, free, .. } = &mut self.slots;
        let index = free.pop().unwrap_or_else(|| {
            slots.push(None);
            u32::try_from(slots.len() - 1).expect("there are fewer sockets")
        });
        slots[index as usize] = Some(slot);
        index
    }

    pub fn descriptor(&mut self, index: u32) -> RawFd {
        self.slot(index).socket.as_raw_fd()
    }

    /// Receives into a buffer of the ring: its number and how much is in it, or no number at the end of the stream.
    pub fn poll_receive(
        &mut self,
        index: u32,
        context: &Context<'_>,
    ) -> Poll<io::Result<Option<(u16, usize)>>> {
        let Some((result, buffer)) = self.take_incoming(index, context) else {
            return Poll::Pending;
        };
        if self.slot(index).has_more {
            share::want_more();
        }
        let length = check(result)?;
        Poll::Ready(Ok(buffer.map(|number| (number, length))))
    }

    /// Accepts a connection on a listening socket.
    pub fn poll_accept(&mut self, index: u32, context: &Context<'_>) -> Poll<io::Result<OwnedFd>> {
        match self.take_incoming(index, context) {
            Some((result, _)) => Poll::Ready(accepted(result)),
            None => Poll::Pending,
        }
    }

    /// Waits until a watched socket can be used.
    pub fn poll_ready(&mut self, index: u32, context: &Context<'_>) -> Poll<io::Result<()>> {
        match self.take_incoming(index, context) {
            Some((result, _)) => Poll::Ready(check(result).map(drop)),
            None => Poll::Pending,
        }
    }

    /// What has come in; begins to wait for it if nobody does.
    fn take_incoming(&mut self, index: u32, context: &Context<'_>) -> Option<(i32, Option<u16>)> {
        let slot = self.slot(index);
        if let Incoming::Done(result, buffer) = slot.incoming {
            slot.incoming = Incoming::None;
            return Some((result, buffer));
        }
        remember(&mut slot.receiver, context);
        if slot.incoming == Incoming::None {
            match slot.kind {
                Kind::Stream => self.receive(index),
                Kind::Listener => self.accept(index),
                Kind::Watched(events) => self.watch(index, events),
            }
        }
        None
    }

    /// Begins to send a burst. None may be under way.
    pub fn send(&mut self, index: u32, burst: Output) {
        let slot = self.slot(index);
        assert!(slot.outgoing.is_none(), "bursts go one after the other");
        if slot.send_error.is_none() {
            slot.has_progressed = false;
            slot.outgoing = Some(Outgoing { burst, sent: 0, gathered: None });
            self.send_on(index);
        }
    }

    /// Waits until the burst is with the kernel, or until the peer has taken more of it.
    pub fn poll_sent(&mut self, index: u32, context: &Context<'_>) -> Poll<io::Result<Sending>> {
        let slot = self.slot(index);
        if let Some(code) = slot.send_error {
            return Poll::Ready(Err(io::Error::from_raw_os_error(code)));
        }
        if slot.outgoing.is_none() {
            return Poll::Ready(Ok(Sending::Done));
        }
        if std::mem::take(&mut slot.has_progressed) {
            return Poll::Ready(Ok(Sending::Progress));
        }
        remember(&mut slot.sender, context);
        Poll::Pending
    }

    pub fn is_sending(&mut self, index: u32) -> bool {
        self.slot(index).outgoing.is_some()
    }

    pub fn is_receiving(&mut self, index: u32) -> bool {
        self.slot(index).incoming != Incoming::None
    }

    /// The user lets go. What the kernel takes now of the burst goes out; everything else ends.
    pub fn leave(&mut self, index: u32) {
        let slot = self.slot(index);
        slot.is_left = true;
        (slot.receiver, slot.sender) = (None, None);
        let is_sending = slot.outgoing.is_some();
        match slot.incoming {
            Incoming::None => {}
            Incoming::InFlight => self.cancel(index, INCOMING),
            Incoming::Starved => {
                slot.incoming = Incoming::None;
                self.slots.starved.retain(|&starved| starved != index);
            }
            Incoming::Done(result, buffer) => {
                slot.incoming = Incoming::None;
                self.discard(index, result, buffer);
            }
        }
        if is_sending {
            self.cancel(index, OUTGOING);
        }
        self.empty(index);
    }

    /// A buffer was read.
    pub fn give(&mut self, number: u16) {
        self.buffers.give(number);
        if let Some(index) = self.slots.starved.pop() {
            self.receive(index);
        }
    }

    /// The kernel's answer for an operation.
    pub fn complete(&mut self, operation: u64, result: i32, flags: u32) {
        let index = u32::try_from(operation >> 2).expect("we gave it this name");
        match operation & 3 {
            INCOMING => self.complete_incoming(index, result, flags),
            OUTGOING => self.complete_outgoing(index, result),
            _ => {}
        }
    }

    fn complete_incoming(&mut self, index: u32, result: i32, flags: u32) {
        let buffer = cqueue::buffer_select(flags);
        let slot = self.slot(index);
        if slot.is_left {
            slot.incoming = Incoming::None;
            self.discard(index, result, buffer);
            return self.empty(index);
        }
        if result == -libc::ENOBUFS && slot.kind == Kind::Stream {
            return self.find_buffer(index);
        }
        slot.has_more = cqueue::sock_nonempty(flags);
        let receiver = slot.receiver.take();
        // A buffer without bytes in it is of no use: the stream has ended.
        let spare = buffer.filter(|_| result <= 0);
        slot.incoming = Incoming::Done(result, if spare.is_some() { None } else { buffer });
        if let Some(number) = spare {
            self.give(number);
        }
        self.wake(receiver);
    }

    /// What came in is for nobody any more.
    fn discard(&mut self, index: u32, result: i32, buffer: Option<u16>) {
        if let Some(number) = buffer {
            self.give(number);
        }
        if self.slot(index).kind == Kind::Listener {
            drop(accepted(result));
        }
    }

    /// A receive found no buffer: it is tried again with a new one, or when one is given back.
    fn find_buffer(&mut self, index: u32) {
        match self.buffers.grow() {
            Ok(true) => self.receive(index),
            Ok(false) | Err(_) => {
                self.slot(index).incoming = Incoming::Starved;
                self.slots.starved.push(index);
            }
        }
    }

    fn complete_outgoing(&mut self, index: u32, result: i32) {
        let slot = self.slot(index);
        let Some(outgoing) = &mut slot.outgoing else {
            return;
        };
        slot.has_progressed = true;
        match usize::try_from(result) {
            Ok(count) => outgoing.sent += count,
            Err(_) if result == -libc::EINTR => {}
            Err(_) => slot.send_error = Some(-result),
        }
        let is_done = slot.send_error.is_some() || outgoing.sent == outgoing.burst.len();
        if is_done || slot.is_left {
            slot.outgoing = None;
        } else {
            self.send_on(index);
        }
        let sender = self.slot(index).sender.take();
        self.wake(sender);
        self.empty(index);
    }

    fn accept(&mut self, index: u32) {
        let slot = self.slot(index);
        slot.incoming = Incoming::InFlight;
        let socket = Fd(slot.socket.as_raw_fd());
        let accept = opcode::Accept::new(socket, ptr::null_mut(), ptr::null_mut()).flags(libc::SOCK_CLOEXEC);
        // SAFETY: nothing is pointed to.
        unsafe { self.queue(accept.build().user_data(name(index, INCOMING))) };
    }

    fn watch(&mut self, index: u32, events: u32) {
        let slot = self.slot(index);
        slot.incoming = Incoming::InFlight;
        let watch = opcode::PollAdd::new(Fd(slot.socket.as_raw_fd()), events);
        // SAFETY: nothing is pointed to.
        unsafe { self.queue(watch.build().user_data(name(index, INCOMING))) };
    }

    fn receive(&mut self, index: u32) {
        let slot = self.slot(index);
        slot.incoming = Incoming::InFlight;
        let ahead = if slot.has_more { 0 } else { POLL_FIRST };
        let length = u32::try_from(RECEIVE_BUFFER_BYTES).expect("a buffer is small");
        let entry = opcode::Recv::new(Fd(slot.socket.as_raw_fd()), ptr::null_mut(), length)
            .buf_group(buffers::GROUP)
            .ioprio(ahead)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT)
            .user_data(name(index, INCOMING));
        // SAFETY: the kernel chooses a buffer of the ring; nothing else is pointed to.
        unsafe { self.queue(entry) };
    }

    /// Sends what is left of the burst, or its next pieces.
    fn send_on(&mut self, index: u32) {
        let slot = self.slot(index);
        let socket = Fd(slot.socket.as_raw_fd());
        let Some(outgoing) = &mut slot.outgoing else {
            return;
        };
        let entry = outgoing.entry(socket).user_data(name(index, OUTGOING));
        // SAFETY: the burst is the slot's until the answer has come, and neither its text nor its slices, nor the
        // boxed list of them, move or change when the slot does.
        unsafe { self.queue(entry) };
    }

    fn cancel(&mut self, index: u32, kind: u64) {
        let entry = opcode::AsyncCancel::new(name(index, kind)).build().user_data(name(index, CANCEL));
        // SAFETY: nothing is pointed to.
        unsafe { self.queue(entry) };
    }

    /// Frees the slot if nobody uses it and nothing is in flight. That closes the socket.
    fn empty(&mut self, index: u32) {
        let slot = self.slot(index);
        if slot.is_left && slot.incoming != Incoming::InFlight && slot.outgoing.is_none() {
            self.slots.slots[index as usize] = None;
            self.slots.free.push(index);
        }
    }

    fn slot(&mut self, index: u32) -> &mut Slot {
        self.slots.slots[index as usize].as_mut().expect("a slot stays while it is used or in flight")
    }
}

impl Outgoing {
    fn entry(&mut self, socket: Fd) -> squeue::Entry {
        let mut skipped = self.sent;
        let mut left = self.burst.chunks().filter_map(|chunk| {
            let bytes = chunk.bytes();
            let from = skipped.min(bytes.len());
            skipped -= from;
            Some(&bytes[from..]).filter(|bytes| !bytes.is_empty())
        });
        let first = left.next().expect("a burst that is not done has bytes left");
        let pieces: Vec<&[u8]> = left.take(GATHERED_MAX - 1).collect();
        if pieces.is_empty() {
            // The kernel takes what fits and says how much it was.
            let length = u32::try_from(first.len()).unwrap_or(u32::MAX).min(SENT_BYTES_MAX);
            return opcode::Send::new(socket, first.as_ptr(), length).flags(libc::MSG_NOSIGNAL).build();
        }
        let pieces = std::iter::once(first).chain(pieces);
        let gathered = self.gathered.insert(Box::new(Gathered::of(pieces)));
        opcode::SendMsg::new(socket, &raw const gathered.header).flags(libc::MSG_NOSIGNAL as u32).build()
    }
}

impl Gathered {
    fn of<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Self {
        let piece =
            |bytes: &[u8]| libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let mut pieces: Vec<libc::iovec> = pieces.map(piece).collect();
        // SAFETY: a header of zeroes is one without address, pieces and control data.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = pieces.as_mut_ptr();
        header.msg_iovlen = pieces.len();
        Self { _pieces: pieces, header }
    }
}

fn name(index: u32, kind: u64) -> u64 {
    u64::from(index) << 2 | kind
}

fn check(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

fn accepted(result: i32) -> io::Result<OwnedFd> {
    check(result)?;
    // SAFETY: the kernel has made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(result) })
}

fn remember(place: &mut Option<Waker>, context: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(context.waker()),
        None => *place = Some(context.waker().clone()),
    }
}
