//! A name server on loopback that says what its script says, by UDP and TCP on one port.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// How soon a thread sees that it is to stop.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carrier {
    Udp,
    Tcp,
}

/// A query that came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub carrier: Carrier,
    pub message: Message,
    pub peer: SocketAddr,
}

/// What goes back, in this order.
pub enum Reply {
    Bytes(Vec<u8>),
    /// From another port.
    FromElsewhere(Vec<u8>),
    /// By TCP without a length in front.
    Unframed(Vec<u8>),
}

type Script = dyn Fn(&Asked) -> Vec<Reply> + Send + Sync;

/// Runs until it is dropped.
pub struct NameServer {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    is_stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    script: Box<Script>,
    asked: Arc<Mutex<Vec<Asked>>>,
    is_stopping: Arc<AtomicBool>,
}

impl Asked {
    /// The name without its last dot.
    pub fn name(&self) -> String {
        self.message.queries[0].name().to_ascii().trim_end_matches('.').to_lowercase()
    }

    pub fn kind(&self) -> RecordType {
        self.message.queries[0].query_type()
    }

    /// An answer without records.
    pub fn response(&self, code: ResponseCode) -> Message {
        let mut message = Message::new(self.message.metadata.id, MessageType::Response, OpCode::Query);
        message.metadata.response_code = code;
        message.metadata.recursion_available = true;
        message.queries = self.message.queries.clone();
        message
    }

    /// An answer with data of the name that was asked for.
    pub fn answer(&self, ttl_s: u32, data: impl IntoIterator<Item = RData>) -> Message {
        let mut message = self.response(ResponseCode::NoError);
        let owner = self.message.queries[0].name().clone();
        message.add_answers(data.into_iter().map(|data| Record::from_rdata(owner.clone(), ttl_s, data)));
        message
    }
}

impl From<Message> for Reply {
    fn from(message: Message) -> Self {
        Self::Bytes(message.to_vec().expect("the message can be written"))
    }
}

/// A name from its labels between dots, whatever bytes they have.
pub fn name(text: &str) -> Name {
    Name::from_labels(text.split_terminator('.').map(str::as_bytes)).expect("tests use names that fit")
}

impl NameServer {
    pub fn start(script: impl Fn(&Asked) -> Vec<Reply> + Send + Sync + 'static) -> Self {
        let (udp, tcp) = sockets();
        let address = udp.local_addr().expect("a bound socket has an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let is_stopping = Arc::new(AtomicBool::new(false));
        let shared = Arc::new(Shared {
            script: Box::new(script),
            asked: asked.clone(),
            is_stopping: is_stopping.clone(),
        });
        let other = shared.clone();
        let threads =
            vec![thread::spawn(move || shared.serve_udp(&udp)), thread::spawn(move || other.serve_tcp(&tcp))];
        Self { address, asked, is_stopping, threads }
    }

    /// All queries so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no thread panics with the lock").clone()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the name server panicked");
        }
    }
}

impl Shared {
    fn serve_udp(&self, socket: &UdpSocket) {
        let elsewhere = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        let mut buffer = [0; 4096];
        while !self.is_stopping.load(Ordering::Relaxed) {
            let Ok((length, peer)) = socket.recv_from(&mut buffer) else {
                continue;
            };
            for reply in self.replies(Carrier::Udp, &buffer[..length], peer) {
                // Who asked may be gone.
                let _ = match reply {
                    Reply::Bytes(bytes) | Reply::Unframed(bytes) => socket.send_to(&bytes, peer),
                    Reply::FromElsewhere(bytes) => elsewhere.send_to(&bytes, peer),
                };
            }
        }
    }

    fn serve_tcp(&self, listener: &TcpListener) {
        while !self.is_stopping.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((stream, peer)) => self.serve_stream(stream, peer),
                Err(_) => thread::sleep(LOOK),
            }
        }
    }

    /// One query; the connection closes behind what is said, or is held if nothing is.
    fn serve_stream(&self, mut stream: TcpStream, peer: SocketAddr) {
        stream.set_nonblocking(false).expect("a socket can wait");
        let mut length = [0; 2];
        if stream.read_exact(&mut length).is_err() {
            return;
        }
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        if stream.read_exact(&mut query).is_err() {
            return;
        }
        let replies = self.replies(Carrier::Tcp, &query, peer);
        if replies.is_empty() {
            // Until the asker has had enough.
            let _ = stream.read(&mut length);
        }
        for reply in replies {
            let bytes = match reply {
                Reply::Bytes(bytes) | Reply::FromElsewhere(bytes) => {
                    let length = u16::try_from(bytes.len()).expect("a message has at most 65,535 octets");
                    [&length.to_be_bytes(), bytes.as_slice()].concat()
                }
                Reply::Unframed(bytes) => bytes,
            };
            // Who asked may be gone.
            let _ = stream.write_all(&bytes);
        }
    }

    fn replies(&self, carrier: Carrier, query: &[u8], peer: SocketAddr) -> Vec<Reply> {
        let message = Message::from_vec(query).expect("the resolver writes queries that can be read");
        let asked = Asked { carrier, message, peer };
        self.asked.lock().expect("no thread panics with the lock").push(asked.clone());
        (self.script)(&asked)
    }
}

/// Two sockets on one free port.
fn sockets() -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        let address = udp.local_addr().expect("a bound socket has an address");
        if let Ok(tcp) = TcpListener::bind(address) {
            udp.set_read_timeout(Some(LOOK)).expect("a socket can wait for a while");
            tcp.set_nonblocking(true).expect("a socket need not wait");
            return (udp, tcp);
        }
    }
    panic!("no port is free for UDP and TCP");
}
