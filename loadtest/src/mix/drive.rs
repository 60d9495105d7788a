//! All users of a profile in one event loop.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::engine::tls::ClientTls;
use crate::engine::{PortId, Ports, Work};
use crate::imap::fill::message;
use crate::imap::profile::{Client, Profile, Protocol, User};
use crate::mix::imap::{self, DOMAIN, Seat, scaled};
use crate::mix::smtp::{self, Dialect, Letter};
use crate::mix::stock::Stock;
use crate::plan::random::Random;
use crate::pop3::session::{Event as Pop3Event, Listing, Plan, Seen, Session};
use crate::record::{Counts, Spectrum};

/// Where the server is.
pub struct Places {
    pub smtp: SocketAddr,
    /// What is spoken there.
    pub dialect: Dialect,
    pub imap: SocketAddr,
    pub pop3: SocketAddr,
    /// For the users that have TLS, with its own places.
    pub tls: Option<(ClientTls, SocketAddr, SocketAddr)>,
    pub pass: String,
}

#[derive(Default)]
pub struct Found {
    pub counts: Counts,
    /// `smtp`, `imap`, `pop3`, `delivery`, and each command's own.
    pub latency: BTreeMap<String, Spectrum>,
    /// How late letters and logins were begun.
    pub lag: Spectrum,
    pub errors: BTreeMap<String, u64>,
    pub wrongs: Vec<String>,
    pub sessions: u64,
    pub elapsed_ns: u64,
}

pub struct Drive {
    profile: Profile,
    places: Places,
    load: f64,
    random: Random,
    people: Vec<Person>,
    links: HashMap<PortId, Link>,
    /// By the number that a timer carries.
    ports_of: HashMap<u64, PortId>,
    next_link: u64,
    free_smtp: Vec<PortId>,
    smtp_open: usize,
    outbox: VecDeque<Letter>,
    /// Letters a second, of all users together; and when the next is due.
    letter_rate: f64,
    next_letter: u64,
    letters: u64,
    stock: Stock,
    /// Until somebody lists it.
    taken: HashMap<u64, Taken>,
    began: u64,
    end: u64,
    is_over: bool,
    pub found: Found,
}

struct Person {
    user: Rc<User>,
    client: Rc<Client>,
    name: String,
    seen: Seen,
    has_tls: bool,
}

struct Taken {
    at: u64,
    recipients: Vec<String>,
}

struct Link {
    number: u64,
    opened: u64,
    person: Option<usize>,
    kind: Kind,
    /// TLS that is still to begin.
    to_shake: bool,
    wakes_at: Option<u64>,
}

enum Kind {
    Smtp(smtp::Talk),
    /// The second and later connections of a program only look.
    Imap(Box<imap::Talk>, Role),
    Pop3(Box<Session>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    First,
    Other,
}

const SMTP_OPEN_MAX: usize = 50;

/// Of a maildrop, so many are fetched in a session.
const POP3_MESSAGES_MAX: usize = 50;

/// A program whose session has ended comes back after this at the soonest.
const LOGIN_NS_MIN: u64 = 1_000_000_000;

const WRONGS_KEPT: usize = 20;

/// Timers of logins carry the person's number above this.
const LOGIN: u64 = 1 << 62;

impl Drive {
    pub fn new(profile: Profile, places: Places, load: f64, duration_ns: u64) -> Self {
        let mut random = Random::new(1, 0);
        let people = people(&profile, places.tls.is_some(), &mut random);
        let rate =
            |interval: Option<std::time::Duration>| interval.map_or(0.0, |time| 1.0 / time.as_secs_f64());
        let of = |person: &Person| rate(person.user.delivery_interval) + rate(person.user.send_interval);
        let letter_rate = people.iter().map(of).sum::<f64>() * load;
        let stock = Stock::new(profile.size.max);
        Self {
            profile,
            places,
            load,
            random,
            people,
            stock,
            links: HashMap::new(),
            ports_of: HashMap::new(),
            next_link: 0,
            free_smtp: Vec::new(),
            smtp_open: 0,
            outbox: VecDeque::new(),
            letter_rate,
            next_letter: 0,
            letters: 0,
            taken: HashMap::new(),
            began: 0,
            end: duration_ns,
            is_over: false,
            found: Found::default(),
        }
    }

    /// Begins now, and sets the time of everybody's first login; call it once, before the loop. To be made takes
    /// longer than a letter can wait.
    pub fn invite(&mut self, ports: &mut Ports) {
        self.began = ports.now();
        self.next_letter = self.began;
        self.end = self.end.saturating_add(self.began);
        let ramp_up = scaled(self.profile.ramp_up, 1.0);
        for number in 0..self.people.len() as u64 {
            ports.wake_at(self.began + ramp_up * number / self.people.len() as u64, LOGIN | number);
        }
    }

    fn connect(
        &mut self,
        ports: &mut Ports,
        kind: Kind,
        person: Option<usize>,
        address: SocketAddr,
    ) -> Option<PortId> {
        match ports.dial(address, None) {
            Ok(port) => {
                self.next_link += 1;
                let to_shake = person.is_some_and(|person| self.people[person].has_tls);
                let opened = ports.now();
                let link = Link { number: self.next_link, opened, person, kind, to_shake, wakes_at: None };
                self.ports_of.insert(link.number, port);
                self.links.insert(port, link);
                self.found.counts.connections += 1;
                Some(port)
            }
            Err(error) => {
                self.found.fail(format!("connection: {error}"));
                None
            }
        }
    }

    /// A program opens its connections.
    fn login(&mut self, ports: &mut Ports, number: usize, now: u64) {
        let person = &self.people[number];
        let (imap, pop3) = match &self.places.tls {
            Some((_, imap, pop3)) if person.has_tls => (*imap, *pop3),
            _ => (self.places.imap, self.places.pop3),
        };
        let client = Rc::clone(&person.client);
        self.found.sessions += 1;
        let stream = self.found.sessions;
        if client.protocol == Protocol::Pop3 {
            let keeps = self.random.percent(client.keep_percent);
            let plan = Plan {
                window: 1,
                messages: POP3_MESSAGES_MAX,
                download_percent: 100,
                delete_percent: if keeps { 0 } else { 100 },
                listing: Listing::Full,
            };
            let (name, pass, seen) = (person.name.clone(), self.places.pass.clone(), Rc::clone(&person.seen));
            let session = Session::new(Rc::new(plan), name, pass, Random::new(2, stream), seen);
            if self.connect(ports, Kind::Pop3(Box::new(session)), Some(number), pop3).is_none() {
                self.come_back(ports, number, now);
            }
            return;
        }
        for connection in 0..client.connections.max(1) {
            let role = if connection == 0 { Role::First } else { Role::Other };
            let person = &self.people[number];
            let user = match role {
                Role::First => Rc::clone(&person.user),
                Role::Other => {
                    Rc::new(User { session_length: person.user.session_length, ..User::default() })
                }
            };
            let seat = Seat {
                user,
                client: Rc::clone(&client),
                name: person.name.clone(),
                pass: self.places.pass.clone(),
                load: self.load,
                habits: self.profile.habits,
            };
            let random = Random::new(3 + connection as u64, stream);
            let talk = imap::Talk::new(seat, random, now);
            let opened = self.connect(ports, Kind::Imap(Box::new(talk), role), Some(number), imap);
            if opened.is_none() && role == Role::First {
                return self.come_back(ports, number, now);
            }
        }
    }

    fn write_letter(&mut self, due: u64) -> Letter {
        self.letters += 1;
        let number = self.letters;
        let count = self.draw_recipients();
        let mut draw = || self.profile.user_zipf.draw(self.people.len(), &mut self.random);
        let mut recipients: Vec<String> = (0..count).map(|_| self.people[draw()].name.clone()).collect();
        recipients.sort_unstable();
        recipients.dedup();
        let mut text = format!("Message-ID: <{number}{DOMAIN}\r\n").into_bytes();
        let head = message(usize::try_from(number).unwrap_or(0), 0);
        // It has a Message-ID of its own; ours is the first.
        text.extend_from_slice(&without_field(&head, b"Message-ID:"));
        let body_bytes = self.draw_size().saturating_sub(text.len());
        text.extend_from_slice(self.stock.cut(body_bytes, &mut self.random));
        Letter { number, recipients, text, due }
    }

    fn draw_recipients(&mut self) -> usize {
        let mut point = self.random.below(100) as u32;
        for row in &self.profile.recipients {
            if point < row.percent {
                return row.least + self.random.below(row.most - row.least + 1);
            }
            point -= row.percent;
        }
        1
    }

    /// Log-normal through the median and the 95th percentile.
    fn draw_size(&mut self) -> usize {
        let size = self.profile.size;
        let sigma = (size.p95 as f64 / size.median as f64).ln() / 1.645;
        let angle = std::f64::consts::TAU * self.random.unit();
        let normal = (-2.0 * self.random.unit().ln()).sqrt() * angle.cos();
        ((size.median as f64 * (sigma * normal).exp()) as usize).clamp(512, size.max)
    }

    /// Letters that are due, and those that wait for a connection.
    fn post(&mut self, ports: &mut Ports, now: u64) {
        while self.letter_rate > 0.0 && self.next_letter <= now && now < self.end {
            let due = self.next_letter;
            self.found.lag.record(now - due);
            self.found.counts.started += 1;
            // Poisson: what users send has nothing to do with what others send.
            let wait = -self.random.unit().ln() / self.letter_rate;
            self.next_letter += (wait * 1e9) as u64;
            let letter = self.write_letter(due);
            self.outbox.push_back(letter);
        }
        while !self.outbox.is_empty() {
            let free = self.free_smtp.pop();
            if free.is_none() && self.smtp_open >= SMTP_OPEN_MAX {
                return;
            }
            let Some(letter) = self.outbox.pop_front() else {
                return;
            };
            match free {
                Some(port) => {
                    if let Some(Link { kind: Kind::Smtp(talk), .. }) = self.links.get_mut(&port) {
                        talk.send(letter);
                        flush(ports, port, talk.output());
                    }
                }
                None => {
                    let talk = smtp::Talk::new(self.places.dialect, letter);
                    if self.connect(ports, Kind::Smtp(talk), None, self.places.smtp).is_none() {
                        return;
                    }
                    self.smtp_open += 1;
                }
            }
        }
    }

    /// Takes what a connection has to tell, and sets its next timer.
    fn attend(&mut self, ports: &mut Ports, port: PortId, now: u64) {
        let Some(mut link) = self.links.remove(&port) else {
            return;
        };
        let is_over = match &mut link.kind {
            Kind::Smtp(talk) => {
                flush(ports, port, talk.output());
                self.attend_smtp(talk, port, now)
            }
            Kind::Imap(talk, role) => {
                flush(ports, port, talk.output());
                self.attend_imap(talk, *role, now)
            }
            Kind::Pop3(session) => {
                flush(ports, port, session.output());
                self.attend_pop3(session, now)
            }
        };
        if is_over {
            ports.end(port);
            return self.part(ports, link, now);
        }
        if let Kind::Imap(talk, _) = &link.kind
            && let Some(at) = talk.next_time()
            && link.wakes_at.is_none_or(|armed| at < armed || armed <= now)
        {
            ports.wake_at(at, link.number);
            link.wakes_at = Some(at);
        }
        self.links.insert(port, link);
    }

    fn attend_smtp(&mut self, talk: &mut smtp::Talk, port: PortId, now: u64) -> bool {
        let mut is_over = false;
        while let Some(event) = talk.poll_event() {
            match event {
                smtp::Event::Taken(letter) => {
                    self.found.done("smtp", now - letter.due);
                    self.found.counts.bytes += letter.text.len() as u64;
                    self.taken.insert(letter.number, Taken { at: now, recipients: letter.recipients });
                    self.free_smtp.push(port);
                }
                smtp::Event::Refused(_, text) => {
                    self.found.fail(format!("SMTP {text}"));
                    is_over = true;
                }
            }
        }
        is_over
    }

    fn attend_imap(&mut self, talk: &mut imap::Talk, role: Role, now: u64) -> bool {
        while let Some(event) = talk.poll_event() {
            match event {
                imap::Event::Done { name, took } => {
                    self.found.counts.started += 1;
                    self.found.done("imap", took);
                    self.found.latency.entry(format!("imap {name}")).or_default().record(took);
                }
                imap::Event::Refused { name, text } => {
                    self.found.counts.started += 1;
                    self.found.fail(format!("{name} NO {text}"));
                }
                imap::Event::Arrived(number) if role == Role::First => {
                    // The first of its recipients who lists it, so that absent ones do not count.
                    if let Some(taken) = self.taken.remove(&number) {
                        self.found.latency.entry("delivery".to_owned()).or_default().record(now - taken.at);
                    }
                }
                imap::Event::Arrived(_) => {}
                imap::Event::Reply => {
                    self.found.counts.started += 1;
                    let letter = self.write_letter(now);
                    self.outbox.push_back(letter);
                }
                imap::Event::Wrong(what) => self.found.wrong(what),
                imap::Event::Over => return true,
            }
        }
        false
    }

    fn attend_pop3(&mut self, session: &mut Session, now: u64) -> bool {
        while let Some(event) = session.poll_event() {
            match event {
                Pop3Event::Done { verb, sent, .. } => {
                    self.found.counts.started += 1;
                    self.found.done("pop3", now - sent);
                    let name = format!("pop3 {}", verb.name());
                    self.found.latency.entry(name).or_default().record(now - sent);
                }
                Pop3Event::Refused { verb, text } => {
                    self.found.counts.started += 1;
                    self.found.fail(format!("{} -ERR {text}", verb.name()));
                }
                Pop3Event::Received(_) => {}
                Pop3Event::Wrong(what) => self.found.wrong(what),
                Pop3Event::Over => return true,
            }
        }
        false
    }

    /// A connection has ended; whose it was comes back later.
    fn part(&mut self, ports: &mut Ports, link: Link, now: u64) {
        self.ports_of.remove(&link.number);
        match link.kind {
            Kind::Smtp(_) => self.smtp_open -= 1,
            Kind::Imap(_, Role::Other) => {}
            Kind::Imap(_, Role::First) | Kind::Pop3(_) => {
                if let Some(person) = link.person {
                    self.come_back(ports, person, now);
                }
            }
        }
    }

    /// Half of the interval later, to one and a half, so that they do not all come at once.
    fn come_back(&mut self, ports: &mut Ports, person: usize, now: u64) {
        let interval = scaled(self.people[person].client.login_interval, self.load).max(LOGIN_NS_MIN);
        let wait = interval / 2 + self.random.below(usize::try_from(interval).unwrap_or(1)) as u64;
        ports.wake_at(now + wait, LOGIN | person as u64);
    }

    /// What the end of the run leaves without an answer took at least so long as it is old: a server that hangs, or
    /// loses what it has taken, must not look the faster for it.
    fn count_unanswered(&mut self, now: u64) {
        let mut record = |name: &str, since: u64| {
            self.found.latency.entry(name.to_owned()).or_default().record(now.saturating_sub(since));
        };
        self.outbox.iter().for_each(|letter| record("smtp", letter.due));
        let mut watchers = HashMap::new();
        for link in self.links.values() {
            match &link.kind {
                Kind::Smtp(talk) => talk.due().into_iter().for_each(|due| record("smtp", due)),
                Kind::Pop3(session) => {
                    session.waiting_since().into_iter().for_each(|since| record("pop3", since));
                }
                Kind::Imap(talk, role) => {
                    talk.waiting_since().into_iter().for_each(|since| record("imap", since));
                    if let Some(person) = link.person.filter(|_| *role == Role::First && talk.is_watching()) {
                        watchers.insert(self.people[person].name.as_str(), link.opened);
                    }
                }
            }
        }
        for taken in self.taken.values() {
            let was_watched =
                |name: &String| watchers.get(name.as_str()).is_some_and(|&opened| opened < taken.at);
            if taken.recipients.iter().any(was_watched) {
                record("delivery", taken.at);
            }
        }
    }
}

impl Work for Drive {
    fn poll_due(&mut self, ports: &mut Ports, now: u64) -> Option<u64> {
        self.post(ports, now);
        if now >= self.end && !self.is_over {
            self.is_over = true;
            self.found.elapsed_ns = now - self.began;
            self.found.counts.dropped = self.outbox.len() as u64;
            self.count_unanswered(now);
        }
        let letter = (self.letter_rate > 0.0).then_some(self.next_letter);
        letter.into_iter().chain([self.end]).min()
    }

    fn handle_opened(&mut self, ports: &mut Ports, port: PortId, _now: u64) {
        let Some(link) = self.links.get_mut(&port).filter(|link| link.to_shake) else {
            return;
        };
        link.to_shake = false;
        if let Some((tls, _, _)) = &self.places.tls
            && let Err(error) = ports.begin_client_tls(port, tls)
        {
            self.found.fail(format!("TLS: {error}"));
        }
    }

    fn handle_bytes(&mut self, ports: &mut Ports, port: PortId, bytes: &[u8], now: u64) -> usize {
        match self.links.get_mut(&port).map(|link| &mut link.kind) {
            Some(Kind::Smtp(talk)) => talk.handle_bytes(bytes),
            Some(Kind::Imap(talk, _)) => talk.handle_bytes(bytes, now),
            Some(Kind::Pop3(session)) => session.handle_bytes(bytes, now),
            None => {}
        }
        self.attend(ports, port, now);
        bytes.len()
    }

    fn handle_closed(&mut self, ports: &mut Ports, port: PortId, error: Option<io::Error>, now: u64) {
        self.free_smtp.retain(|free| *free != port);
        let Some(mut link) = self.links.remove(&port) else {
            return;
        };
        let is_idle = matches!(&link.kind, Kind::Smtp(talk) if talk.is_free());
        if let Kind::Smtp(talk) = &mut link.kind
            && let Some(letter) = talk.abandon()
        {
            // Not acknowledged: it is sent again, and its time goes on.
            self.outbox.push_back(letter);
        }
        if !is_idle {
            self.found.fail(
                error.map_or("closed by the server".to_owned(), |error| format!("connection: {error}")),
            );
        }
        self.part(ports, link, now);
    }

    fn handle_timer(&mut self, ports: &mut Ports, token: u64, now: u64) {
        if token & LOGIN != 0 {
            let person = usize::try_from(token & !LOGIN).unwrap_or(0);
            if now < self.end {
                self.login(ports, person, now);
            }
            return;
        }
        let Some(&port) = self.ports_of.get(&token) else {
            return;
        };
        if let Some(Link { kind: Kind::Imap(talk, _), .. }) = self.links.get_mut(&port) {
            talk.handle_time(now);
            self.attend(ports, port, now);
        }
    }

    fn is_done(&self) -> bool {
        self.is_over
    }
}

impl Found {
    fn done(&mut self, name: &str, took: u64) {
        self.counts.succeeded += 1;
        self.latency.entry(name.to_owned()).or_default().record(took);
    }

    fn fail(&mut self, what: String) {
        self.counts.failed += 1;
        *self.errors.entry(what).or_default() += 1;
    }

    fn wrong(&mut self, what: String) {
        self.fail("wrong answers".to_owned());
        if self.wrongs.len() < WRONGS_KEPT {
            self.wrongs.push(what);
        }
    }
}

/// Everybody, in the shares that the profile gives.
fn people(profile: &Profile, has_tls: bool, random: &mut Random) -> Vec<Person> {
    let users: Vec<_> = profile.users.iter().map(|user| (user.percent, Rc::new(user.clone()))).collect();
    let clients: Vec<_> =
        profile.clients.iter().map(|client| (client.percent, Rc::new(client.clone()))).collect();
    (0..profile.users_total)
        .map(|number| {
            let user = Rc::clone(share(&users, number, profile.users_total));
            // Another order than the users', or one kind of user would have one kind of client.
            let client = Rc::clone(share(&clients, random.below(100), 100));
            let name = user.user_name(user.username_start + number);
            let has_tls = has_tls && random.percent(profile.tls_percent);
            Person { user, client, name, seen: Seen::default(), has_tls }
        })
        .collect()
}

/// The kind at this place of so many.
fn share<T>(kinds: &[(u32, T)], place: usize, total: usize) -> &T {
    let mut point = (place * 100 / total.max(1)) as u32;
    for (percent, kind) in kinds {
        if point < *percent {
            return kind;
        }
        point -= percent;
    }
    &kinds.last().expect("a profile has kinds of everything").1
}

fn without_field(message: &[u8], field: &[u8]) -> Vec<u8> {
    let lines = message.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| !line.starts_with(field)).flatten().copied().collect()
}

fn flush(ports: &mut Ports, port: PortId, output: &mut Vec<u8>) {
    if !output.is_empty() {
        ports.send(port, &[output]);
        output.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::thread;
    use std::time::Duration;

    use super::{Drive, Places};
    use crate::engine::{Clock, Ports, Waiting, Work, run};
    use crate::imap::profile::Profile;
    use crate::mix::smtp::Dialect;

    const PROFILE: &str = "total_user_count = 1\nuser one {\n username_format = user%n@load.test\n count = 100%\n\
        mail_inbox_delivery_interval = 10s\n}\nclient one {\n count = 100%\n login_interval = 1h\n}\n";

    fn all_at(address: SocketAddr) -> Places {
        Places {
            smtp: address,
            dialect: Dialect::Smtp,
            imap: address,
            pop3: address,
            tls: None,
            pass: String::new(),
        }
    }

    #[test]
    fn letters_that_a_server_never_took_are_as_old_as_they_are() {
        let text = PROFILE.replace("interval = 10s", "interval = 10ms");
        let profile = Profile::parse(&text).expect("it is one");
        // Connections are accepted by the kernel, and nobody says a word.
        let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let nobody = silent.local_addr().expect("it is bound");
        let mut ports = Ports::new(Clock::start()).expect("there is epoll");
        let mut drive = Drive::new(profile, all_at(nobody), 1.0, Duration::from_secs(1).as_nanos() as u64);
        drive.invite(&mut ports);
        run(&mut drive, &mut ports, Waiting::default()).expect("it runs");
        let letters = &drive.found.latency["smtp"];
        assert!((50..200).contains(&letters.count()), "{}", letters.count());
        assert!(letters.percentile(90.0) > 500_000_000, "{}", letters.percentile(90.0));
        assert!(drive.found.counts.dropped > 0 && drive.found.counts.succeeded == 0);
    }

    #[test]
    fn what_was_done_before_the_run_makes_no_letter_late() {
        let profile = Profile::parse(PROFILE).expect("it is one");
        let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
        let mut ports = Ports::new(Clock::start()).expect("there is epoll");
        let length = Duration::from_secs(3600).as_nanos() as u64;
        let mut drive = Drive::new(profile, all_at(nobody), 1.0, length);
        thread::sleep(Duration::from_millis(300));
        drive.invite(&mut ports);
        // The first letter is due when it begins.
        let next = drive.poll_due(&mut ports, drive.began);
        assert_eq!((drive.found.lag.count(), drive.found.lag.max()), (1, 0));
        assert!(next.is_some_and(|next| next > drive.began && drive.end == drive.began + length));
        assert!(drive.began >= 300_000_000);
    }
}
