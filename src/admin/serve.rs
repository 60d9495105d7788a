//! `ringpost serve`: from a configuration to a server, and from signals to its end.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::admin::backend::ShardBackend;
use crate::admin::cli::Serve;
use crate::admin::directory_file;
use crate::admin::failure::Failure;
use crate::admin::offline::sizes;
use crate::admin::server::{Backend, ControlServer};
use crate::admin::user;
use crate::auth::password::{ENTROPY_BYTES, RANDOM_PASSWORD_BYTES, random_password};
use crate::auth::{Cost, Directory, NewAccount, PasswordRecord};
use crate::config::{Config, LogLevel, Protocol, TlsMode};
use crate::io::disk::layout::DataDir;
use crate::io::tls::{ClientTls, ServerTls};
use crate::io::{clock, executor, privilege, random, ring, stderr};
use crate::mail::address::Address;
use crate::shard::server::{self, Parts, Server, Threads};
use crate::shard::start::Addresses;

/// The name of the account that a first start makes.
const FIRST_USER: &str = "me";

/// Runs the server until a signal ends it.
pub fn serve(serve: &Serve) -> Result<ExitCode, Failure> {
    let is_starting = Arc::new(AtomicBool::new(true));
    let signals = take_signals(&is_starting).map_err(Failure::unavailable)?;
    let serve = serve.settled();
    let config = Arc::new(serve.load()?);
    log_to_stderr(config.log_level);
    let addresses = take_addresses(&config)?;
    // Not before root was given up, which a process can do that has one thread.
    let _log = stderr::start().map_err(Failure::unavailable)?;
    let data = DataDir::open(&config.data).map_err(|error| match error.source.kind() {
        io::ErrorKind::WouldBlock => in_use(&config),
        _ => user::no_directory(&config, &error),
    })?;
    let data = Arc::new(data.with_sizes(sizes(&config)));
    let mut directory = directory_file::read(&config.data, &config.domains)?;
    directory_file::mend(&config.data)?;
    let mut welcome = None;
    if directory.accounts().next().is_none() {
        let (next, words) = first_account(&config, &directory)?;
        directory_file::write(&config.data, &next)?;
        directory = next;
        welcome = Some(words);
    }
    let shared = Arc::new(directory.clone());
    let (server, threads) = start(&config, &data, &shared, Some(addresses), is_starting)?;
    // Before the signals' thread: whoever stops the server afterwards finds it whole.
    let backend =
        ShardBackend::new(server.clone(), Arc::clone(&data), Arc::clone(&config), Arc::new(directory));
    let backend = Arc::new(backend);
    let answering: Arc<dyn Backend> = backend.clone();
    let control = ControlServer::start(data.path(), answering).map_err(|error| {
        Failure::unavailable(format!("no control socket in {}: {error}", config.data.display()))
    })?;
    answer_signals(signals, serve, server, backend)?;
    say_ready(&config, welcome.as_deref())?;
    let whole = threads.join();
    drop(control);
    match whole {
        true => Ok(ExitCode::SUCCESS),
        false => Err(Failure::unavailable(
            "a shard ended in a panic; the log says why. Nothing acknowledged is lost",
        )),
    }
}

/// A server without listeners, for commands about mail while none runs.
pub fn open_store(config: &Config, data: DataDir) -> Result<Arc<dyn Backend>, Failure> {
    let (config, data) = (Arc::new(config.clone()), Arc::new(data));
    let directory = Arc::new(directory_file::read(&config.data, &config.domains)?);
    directory_file::mend(&config.data)?;
    let (server, threads) = start(&config, &data, &directory, None, Arc::default())?;
    let backend = ShardBackend::new(server, data, config, directory);
    Ok(Arc::new(backend.with_events(threads.detach())))
}

/// Does all that takes root, and gives it up: what is opened afterwards is opened by the configured user.
fn take_addresses(config: &Config) -> Result<Vec<Addresses>, Failure> {
    // Before the addresses: one that is taken as well would be a confusing reason.
    if DataDir::is_in_use(&config.data) {
        return Err(in_use(config));
    }
    ring::raise_limits();
    let addresses = server::reserve(config, shards(config)).map_err(Failure::unavailable)?;
    user::become_configured(config)?;
    if privilege::is_root() {
        tracing::warn!(
            "this server runs as root, which it needs only to listen on ports under 1024; \
             name another user with `user` in the configuration"
        );
    }
    Ok(addresses)
}

fn in_use(config: &Config) -> Failure {
    let data = config.data.display();
    Failure::unavailable(format!(
        "another process uses {data}; end it first, or name another folder with --data"
    ))
}

fn shards(config: &Config) -> usize {
    config.cores.map_or_else(|| executor::allowed_cpus().len(), |cores| cores.get())
}

fn start(
    config: &Arc<Config>,
    data: &Arc<DataDir>,
    directory: &Arc<Directory>,
    addresses: Option<Vec<Addresses>>,
    is_starting: Arc<AtomicBool>,
) -> Result<(Server, Threads), Failure> {
    let tls = ServerTls::open(config, clock::timestamp()).map_err(Failure::unavailable)?;
    let client_tls = ClientTls::open().map_err(Failure::unavailable)?;
    let parts = Parts {
        config: Arc::clone(config),
        tls,
        client_tls,
        directory: Arc::clone(directory),
        data: Arc::clone(data),
        shards: shards(config),
        addresses,
        is_starting,
    };
    Server::start(parts).map_err(Failure::unavailable)
}

/// An account for whoever tries the server out, and what to type with it.
fn first_account(config: &Config, directory: &Directory) -> Result<(Directory, String), Failure> {
    let domain = config.domains.first().unwrap_or(&config.hostname);
    let address = Address::parse(&format!("{FIRST_USER}@{domain}")).map_err(|_| {
        Failure::wrong(format!("hostname {domain:?} is no mail domain; name one in a [[domain]]"))
    })?;
    let password = random_password(&random::bytes::<RANDOM_PASSWORD_BYTES>());
    let record = PasswordRecord::derive(&password, &random::bytes::<ENTROPY_BYTES>(), Cost::DEFAULT)
        .map_err(|_| Failure::unavailable("no password could be made"))?;
    let account = NewAccount { address: address.clone(), log: 0, password: record, quota_bytes: None };
    let next = directory.add(account).map_err(Failure::wrong)?;
    Ok((next, welcome(config, &address, &password)))
}

/// What to type to send and read a first message.
fn welcome(config: &Config, address: &Address, password: &str) -> String {
    let port = |protocol: Protocol, tls: TlsMode| {
        let found =
            config.listeners.iter().find(|listener| listener.protocol == protocol && listener.tls == tls);
        found.map(|listener| listener.address.port())
    };
    let ca = config.data.join("tls").join("ca.pem");
    let ca = ca.display();
    let mut text = format!(
        "This is the first start: there is an account now.\n\n  account   {address}\n  password  {password}\n\n"
    );
    let submission = port(Protocol::Submission, TlsMode::Starttls);
    let imaps = port(Protocol::Imap, TlsMode::Implicit);
    if let (Some(submission), Some(imaps)) = (submission, imaps) {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "Send a first message, and read it:\n\n  \
             printf 'From: {address}\\nTo: {address}\\nSubject: hello\\n\\nIt works.\\n' > message.txt\n  \
             curl --crlf --ssl-reqd --cacert {ca} -u '{address}:{password}' \\\n       \
             --mail-from {address} --mail-rcpt {address} --upload-file message.txt smtp://localhost:{submission}\n  \
             curl --cacert {ca} -u '{address}:{password}' 'imaps://localhost:{imaps}/INBOX;MAILINDEX=1'\n\n"
        );
    }
    let typed = std::env::args().next().unwrap_or_else(|| "ringpost".to_owned());
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "More accounts, with the same --config or --data if you gave one:\n\n  {typed} account add USER@DOMAIN\n\n"
    );
    text
}

fn say_ready(config: &Config, welcome: Option<&str>) -> Result<(), Failure> {
    // Whoever reads both has all of the start before the word.
    stderr::flush();
    let mut out = io::stdout().lock();
    if let Some(welcome) = welcome {
        write!(out, "{welcome}")?;
    }
    let listeners: Vec<String> = config
        .listeners
        .iter()
        .map(|listener| format!("{} {}", name(listener.protocol, listener.tls), listener.address))
        .collect();
    writeln!(out, "ringpost {} is ready: {}", env!("CARGO_PKG_VERSION"), listeners.join(", "))?;
    out.flush()?;
    Ok(())
}

fn name(protocol: Protocol, tls: TlsMode) -> &'static str {
    match (protocol, tls) {
        (Protocol::Smtp, _) => "smtp",
        (Protocol::Submission, TlsMode::Implicit) => "submissions",
        (Protocol::Submission, _) => "submission",
        (Protocol::Imap, TlsMode::Implicit) => "imaps",
        (Protocol::Imap, _) => "imap",
        (Protocol::Pop3, TlsMode::Implicit) => "pop3s",
        (Protocol::Pop3, _) => "pop3",
    }
}

/// From now on signals wait for who answers them, but for those that end a server which is not up yet: a start may take
/// long.
fn take_signals(is_starting: &Arc<AtomicBool>) -> io::Result<Signals> {
    for signal in [SIGTERM, SIGINT] {
        flag::register_conditional_default(signal, Arc::clone(is_starting))?;
    }
    Signals::new([SIGHUP, SIGXFSZ, SIGTERM, SIGINT])
}

/// The first SIGTERM or SIGINT winds the server down, the second ends the process at once: what was acknowledged
/// is synced already. SIGHUP reads configuration and certificates again. SIGXFSZ, which would end the process, says
/// what the write that was too long for a limit of the system says too.
fn answer_signals(
    mut signals: Signals,
    serve: Serve,
    server: Server,
    backend: Arc<ShardBackend>,
) -> Result<(), Failure> {
    let answer = move || {
        let mut stopping = false;
        for signal in signals.forever() {
            match signal {
                SIGHUP => reload(&serve, &backend),
                SIGXFSZ => {}
                _ if stopping => {
                    stderr::flush();
                    std::process::exit(0)
                }
                _ => {
                    tracing::info!("stopping");
                    stopping = true;
                    server.stop();
                }
            }
        }
    };
    let started = std::thread::Builder::new().name("signals".to_owned()).spawn(answer);
    started.map(|_| ()).map_err(Failure::unavailable)
}

fn reload(serve: &Serve, backend: &ShardBackend) {
    let mut config = match serve.load() {
        Ok(config) => config,
        Err(error) => return tracing::error!(%error, "the configuration stays as it was"),
    };
    // It is taken from the file at the start only, and the own CA lies in it.
    config.data.clone_from(&backend.config().data);
    match ServerTls::open(&config, clock::timestamp()) {
        Ok(tls) => {
            backend.reload(Arc::new(config), &tls);
            tracing::info!("configuration and certificates were read again");
        }
        Err(error) => tracing::error!(%error, "configuration and certificates stay as they were"),
    }
}

fn log_to_stderr(level: LogLevel) {
    let level = match level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Trace => tracing::Level::TRACE,
    };
    tracing_subscriber::fmt().with_max_level(level).with_writer(|| stderr::Lines).with_target(false).init();
}
