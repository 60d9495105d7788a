//! Postfix and Dovecot, each with a configuration that keeps its promises as they come, on data of its own.
//!
//! They are killed as a whole: the master is stopped, so that it makes no more processes, then all that came of it go.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::cast::{ELSEWHERE, Kind, SHARED, accounts, name};
use crate::remote::Remote;
use crate::server::{IMAP, PASSWORD, POP3, SMTP};
use crate::servers::MailServer;

const START_MAX: Duration = Duration::from_secs(30);

/// A queue that was told to go has gone by then.
const FLUSH_MAX: Duration = Duration::from_secs(5);

const POSTFIX_DAEMONS: &str = "/usr/lib/postfix/sbin";

const POSTFIX_SERVICES: &str = "\
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
";

/// A program and all that it starts.
struct Program {
    command: Vec<String>,
    environment: Vec<(&'static str, String)>,
    child: Option<Child>,
    log: PathBuf,
}

pub struct Postfix {
    program: Program,
    address: Ipv4Addr,
    data: PathBuf,
}

pub struct Dovecot {
    program: Program,
    kind: Kind,
    address: Ipv4Addr,
    config: PathBuf,
}

impl Program {
    /// Until it takes connections at all of these ports.
    fn start(&mut self, address: Ipv4Addr, ports: &[u16]) -> Result<(), String> {
        let said = fs::OpenOptions::new().create(true).append(true).open(&self.log).expect("a log file");
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).envs(self.environment.clone()).stdin(Stdio::null());
        command.stdout(said.try_clone().expect("a log file")).stderr(said);
        let mut child = command.spawn().expect("it is installed");
        let begun = Instant::now();
        while ports.iter().any(|port| TcpStream::connect((address, *port)).is_err()) {
            let ended = child.try_wait().expect("it was started here");
            if ended.is_some() || begun.elapsed() > START_MAX {
                // It may have ended already.
                let _ = child.kill();
                let _ = child.wait();
                return Err(self.log());
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.child = Some(child);
        Ok(())
    }

    fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        // None sees another's end.
        signal(child.id(), Signal::STOP);
        let all = descendants(child.id());
        for sent in [Signal::STOP, Signal::KILL] {
            all.iter().for_each(|process| signal(*process, sent));
        }
        child.wait().expect("it has ended");
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

impl Postfix {
    pub fn prepare(data: &Path, scratch: &Path, remote: &Remote) -> Self {
        let address = own_address(1);
        let (user, group) = (id_of("passwd", "postfix"), id_of("group", "postdrop"));
        make_folders(data, user, group);
        let etc = scratch.join("etc");
        fs::create_dir(&etc).expect("a folder for the configuration");
        let log = scratch.join("log");
        let hub = remote.address;
        let mailboxes: String =
            SHARED.iter().map(|account| format!("{{ {} = box{account}/ }} ", name(*account))).collect();
        let main_cf = format!(
            "compatibility_level = 3.6
queue_directory = {data}/queue
data_directory = {data}/data
command_directory = /usr/sbin
daemon_directory = {POSTFIX_DAEMONS}
mail_owner = postfix
setgid_group = postdrop
maillog_file = {log}
maillog_file_prefixes = {scratch}
inet_interfaces = loopback-only
inet_protocols = ipv4
myhostname = mx.postfix.test
mydestination =
mynetworks = 127.0.0.0/8
virtual_mailbox_limit = 0
virtual_mailbox_domains = example.test
virtual_mailbox_base = {data}/mail
virtual_mailbox_maps = inline:{{ {mailboxes}}}
virtual_uid_maps = static:{user}
virtual_gid_maps = static:{user}
virtual_minimum_uid = 1
relayhost = [{hub_host}]:{hub_port}
smtpd_relay_restrictions = permit_mynetworks, reject
smtp_dns_support_level = disabled
minimal_backoff_time = 1s
queue_run_delay = 1s
# {ELSEWHERE} is there, and to be tried at once.
",
            data = data.display(),
            log = log.display(),
            scratch = scratch.display(),
            hub_host = hub.ip(),
            hub_port = hub.port(),
        );
        fs::write(etc.join("main.cf"), main_cf).expect("written");
        let master_cf = format!("{address}:{SMTP} inet n - n - - smtpd\n{POSTFIX_SERVICES}");
        fs::write(etc.join("master.cf"), master_cf).expect("written");
        let etc = etc.display().to_string();
        let command = [format!("{POSTFIX_DAEMONS}/master"), "-c".to_owned(), etc.clone(), "-d".to_owned()];
        let program =
            Program { command: command.into(), environment: vec![("MAIL_CONFIG", etc)], child: None, log };
        Self { program, address, data: data.to_owned() }
    }
}

impl MailServer for Postfix {
    fn kind(&self) -> Kind {
        Kind::Postfix
    }

    fn start(&mut self) -> Result<(), String> {
        self.program.start(self.address, &[SMTP])
    }

    fn kill(&mut self) {
        self.program.kill();
    }

    fn address(&self) -> Ipv4Addr {
        self.address
    }

    fn process_id(&self) -> u32 {
        self.program.child.as_ref().expect("it runs").id()
    }

    fn log(&self) -> String {
        self.program.log()
    }

    fn maildir(&self, account: usize) -> Option<PathBuf> {
        Some(self.data.join(format!("mail/box{account}")))
    }

    /// Has all that is in the queue tried now.
    fn mend(&self, _account: usize) -> bool {
        let etc = &self.program.environment[0].1;
        let flushed = Command::new("postqueue").args(["-c", etc, "-f"]).output();
        thread::sleep(FLUSH_MAX);
        flushed.is_ok_and(|output| output.status.success())
    }
}

impl Dovecot {
    pub fn prepare(kind: Kind, data: &Path, scratch: &Path) -> Self {
        let address = own_address(2);
        let user = id_of("passwd", "mail");
        let mail = data.join("mail");
        fs::create_dir_all(&mail).expect("a folder for mail");
        chown(&mail, Some(user), Some(user)).expect("root may");
        let location = match kind {
            Kind::DovecotSdbox | Kind::DovecotSdboxAlways => "sdbox:~/sdbox",
            _ => "maildir:~/Maildir",
        };
        let fsync = match kind {
            Kind::DovecotMaildirAlways | Kind::DovecotSdboxAlways => "always",
            _ => "optimized",
        };
        let (log, config) = (scratch.join("log"), scratch.join("dovecot.conf"));
        let text = format!(
            "base_dir = {scratch}/run
log_path = {log}
protocols = imap pop3 lmtp
listen = {address}
ssl = no
disable_plaintext_auth = no
first_valid_uid = 1
mail_location = {location}
mail_fsync = {fsync}
passdb {{
  driver = passwd-file
  args = {scratch}/users
}}
userdb {{
  driver = static
  args = uid={user} gid={user} home={mail}/%u
}}
service imap-login {{
  inet_listener imap {{
    port = {IMAP}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {POP3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    address = {address}
    port = {SMTP}
  }}
}}
namespace inbox {{
  inbox = yes
  mailbox Archive {{
    auto = create
  }}
}}
",
            scratch = scratch.display(),
            log = log.display(),
            mail = mail.display(),
        );
        fs::write(&config, text).expect("written");
        let users: String =
            accounts().map(|account| format!("{}:{{PLAIN}}{PASSWORD}\n", name(account))).collect();
        fs::write(scratch.join("users"), users).expect("written");
        let command = ["dovecot", "-F", "-c"].map(str::to_owned).into_iter();
        let command = command.chain([config.display().to_string()]).collect();
        Self {
            program: Program { command, environment: Vec::new(), child: None, log },
            kind,
            address,
            config,
        }
    }
}

impl MailServer for Dovecot {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn start(&mut self) -> Result<(), String> {
        self.program.start(self.address, &[SMTP, IMAP, POP3])
    }

    fn kill(&mut self) {
        self.program.kill();
    }

    fn address(&self) -> Ipv4Addr {
        self.address
    }

    fn process_id(&self) -> u32 {
        self.program.child.as_ref().expect("it runs").id()
    }

    fn log(&self) -> String {
        self.program.log()
    }

    fn maildir(&self, _account: usize) -> Option<PathBuf> {
        None
    }

    /// Rebuilds the indexes from the files of messages.
    fn mend(&self, account: usize) -> bool {
        let mut command = Command::new("doveadm");
        command.arg("-c").arg(&self.config).args(["force-resync", "-u", &name(account), "*"]);
        command.output().is_ok_and(|output| output.status.success())
    }
}

fn signal(process: u32, signal: Signal) {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw).expect("a process's number");
    // It may have ended by itself.
    let _ = kill_process(process, signal);
}

/// The process, its children, and theirs.
fn descendants(process: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("there is a /proc").flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let parents: Vec<(u32, u32)> = numbers.filter_map(|number| Some((number, parent(number)?))).collect();
    let mut found = vec![process];
    let mut next = 0;
    while let Some(of) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, parent)| *parent == of).map(|(number, _)| *number));
        next += 1;
    }
    found
}

fn parent(process: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // Behind the name, which may hold anything: state, parent.
    text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Where nothing else listens, from the process and a number.
fn own_address(number: u8) -> Ipv4Addr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 48 + number, high, low.clamp(1, 254))
}

/// A user's or group's number, as `getent` knows it.
fn id_of(database: &str, name: &str) -> u32 {
    let output = Command::new("getent").args([database, name]).output().expect("getent runs");
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    line.split(':').nth(2).and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("{database} has {name}"))
}

fn make_folders(data: &Path, user: u32, group: u32) {
    fs::create_dir_all(data.join("queue")).expect("made");
    let queues = ["active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private"];
    let mut folders: Vec<(String, u32, Option<u32>, u32)> =
        queues.iter().map(|name| (format!("queue/{name}"), user, None, 0o700)).collect();
    folders.extend([
        ("queue/saved".to_owned(), user, None, 0o700),
        ("queue/trace".to_owned(), user, None, 0o700),
        ("queue/public".to_owned(), user, Some(group), 0o710),
        ("queue/maildrop".to_owned(), user, Some(group), 0o730),
        ("queue/pid".to_owned(), 0, None, 0o755),
        ("data".to_owned(), user, None, 0o700),
        ("mail".to_owned(), user, None, 0o700),
    ]);
    for (name, owner, group, mode) in folders {
        let path = data.join(name);
        fs::create_dir(&path).expect("made");
        chown(&path, Some(owner), group).expect("root may");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("root may");
    }
}
