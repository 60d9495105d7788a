//! `init`: a first configuration and the DNS records that go with it. `config check`: whether one is right.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use crate::admin::cli::Init;
use crate::admin::failure::Failure;
use crate::admin::user;
use crate::config::{Config, DEFAULT_TEXT, domain_name};
use crate::io::clock;
use crate::io::tls::ServerTls;

/// The ports of the default text, and the ones that the world expects.
const PORTS: [(&str, &str); 7] = [
    ("2525", "25"),
    ("2587", "587"),
    ("2465", "465"),
    ("2143", "143"),
    ("2993", "993"),
    ("2110", "110"),
    ("2995", "995"),
];

pub fn run(init: &Init) -> Result<(), Failure> {
    let domain = domain_name(&init.domain).map_err(|why| {
        Failure::wrong(format!("{:?} is no domain name such as example.org: {why}", init.domain))
    })?;
    let text = config_text(init, &domain)?;
    write_new(&init.config, &text)?;
    let mut out = io::stdout().lock();
    write!(out, "{}", advice(init, &domain))?;
    Ok(())
}

pub fn check(file: &Path) -> Result<(), Failure> {
    let config = Config::load(Some(file)).map_err(Failure::wrong)?;
    if let Some(name) = &config.user {
        user::find(name).map_err(|error| Failure::wrong(format!("{}: {error}", file.display())))?;
    }
    if let Some(files) = &config.tls {
        ServerTls::load(files, clock::timestamp())
            .map_err(|error| Failure::wrong(format!("{}: {error}", file.display())))?;
    }
    writeln!(io::stdout(), "{}: fine", file.display())?;
    Ok(())
}

/// The default text with the settings of `init` put in.
fn config_text(init: &Init, domain: &str) -> Result<String, Failure> {
    let mut text = DEFAULT_TEXT.to_owned();
    let mut put = |from: &str, to: &str| {
        assert!(text.contains(from), "the default text has the line {from:?}");
        text = text.replace(from, to);
    };
    put("#hostname = \"mail.example.org\"", &format!("hostname = \"mail.{domain}\""));
    put("#[[domain]]", "[[domain]]");
    put("#name = \"example.org\"", &format!("name = \"{domain}\""));
    if let Some(data) = &init.data {
        let data = data.to_str().ok_or_else(|| Failure::wrong("the data directory's name is not UTF-8"))?;
        put("data = \"./ringpost-data\"", &format!("data = {}", toml::Value::from(data)));
    }
    if init.public {
        for (local, public) in PORTS {
            put(&format!("\"127.0.0.1:{local}\""), &format!("\"0.0.0.0:{public}\""));
            put(&format!("\"[::1]:{local}\""), &format!("\"[::]:{public}\""));
        }
    }
    Ok(text)
}

fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let created = OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = created.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            let path = path.display();
            Failure::wrong(format!(
                "{path} is there already and is not overwritten; name another file with --config"
            ))
        }
        _ => Failure::unavailable(format!("{} cannot be written: {error}", path.display())),
    })?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| Failure::unavailable(format!("{} cannot be written: {error}", path.display())))
}

/// What to publish, what to do, and what nobody does yet.
fn advice(init: &Init, domain: &str) -> String {
    let host = format!("mail.{domain}.");
    let mut text = format!("Wrote {}.\n\n", init.config.display());
    text.push_str(&format!(
        "DNS records to publish for {domain}, with the addresses of this server in place of 192.0.2.1 and \
         2001:db8::1:\n\n"
    ));
    let rows = [
        (format!("{domain}."), "MX", format!("10 {host}")),
        (host.clone(), "A", "192.0.2.1".to_owned()),
        (host.clone(), "AAAA", "2001:db8::1".to_owned()),
        (format!("{domain}."), "TXT", "\"v=spf1 mx -all\"".to_owned()),
        (format!("_dmarc.{domain}."), "TXT", format!("\"v=DMARC1; p=none; rua=mailto:postmaster@{domain}\"")),
        // RFC 8314 5.1 and RFC 6186 3: where mail programs look when they are given an address alone.
        (format!("_submissions._tcp.{domain}."), "SRV", format!("0 1 465 {host}")),
        (format!("_imaps._tcp.{domain}."), "SRV", format!("0 1 993 {host}")),
        (format!("_pop3s._tcp.{domain}."), "SRV", format!("10 1 995 {host}")),
    ];
    let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
    for (name, kind, value) in rows {
        text.push_str(&format!("  {name:width$}  3600  IN  {kind:4}  {value}\n"));
    }
    text.push_str("\nStill to do:\n\n");
    for item in missing(init) {
        text.push_str(&format!("  - {item}\n"));
    }
    let config = init.config.display();
    text.push_str(&format!(
        "\nThen:\n\n  ringpost account add you@{domain} --config {config}\n  ringpost serve --config {config}\n"
    ));
    text
}

fn missing(init: &Init) -> Vec<String> {
    let mut missing = Vec::new();
    if !init.public {
        let config = init.config.display();
        missing.push(format!(
            "The listeners in {config} are on this machine alone, on ports from 2110 up. For the world, change their \
             addresses, or write another file with --public."
        ));
    }
    if init.public {
        let config = init.config.display();
        missing.push(format!(
            "Ports under 1024 take root to begin with: make a user for the server, name it as `user` in {config}, and \
             start it as root, which it gives up once it listens."
        ));
    }
    missing.extend(
        [
            "The address of this server should resolve back to its name (a PTR record, set by whoever gave you the \
             address).",
            "Clients will warn about the certificate of the local CA. Get one from a public CA and name it in [tls].",
            "Mail for other domains goes out from this server's address on port 25, which some networks block; a \
             [[route]] sends it by another server. It is not signed (DKIM): keep DMARC at p=none.",
        ]
        .map(str::to_owned),
    );
    missing
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::{PORTS, advice, check, config_text, run};
    use crate::admin::cli::Init;
    use crate::admin::failure::Failure;
    use crate::config::Config;

    fn init(config: PathBuf, public: bool) -> Init {
        let data = Some(PathBuf::from("/var/lib/ring \"post\""));
        Init { domain: "Example.NET".to_owned(), config, data, public }
    }

    #[test]
    fn what_it_writes_is_a_configuration() {
        for public in [false, true] {
            let text = config_text(&init("c.toml".into(), public), "example.net").unwrap();
            let config = Config::parse(&text, "here").unwrap();
            assert_eq!(config.hostname, "mail.example.net");
            assert_eq!(config.domains, ["example.net"]);
            assert_eq!(config.data, PathBuf::from("/var/lib/ring \"post\""));
            assert_eq!(config.listeners.len(), 2 * PORTS.len());
            for listener in &config.listeners {
                let address = listener.address;
                assert_eq!(address.ip().is_unspecified(), public, "{address}");
                assert_eq!(address.port() < 1024, public, "{address}");
            }
        }
    }

    #[test]
    fn it_never_overwrites() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("c.toml");
        run(&init(file.clone(), false)).unwrap();
        let written = fs::read(&file).unwrap();
        assert!(matches!(run(&init(file.clone(), true)), Err(Failure::Wrong(_))));
        assert_eq!(fs::read(&file).unwrap(), written);
        check(&file).unwrap();
        fs::write(&file, "cores = 0").unwrap();
        let Err(Failure::Wrong(text)) = check(&file) else {
            panic!("no cores are wrong");
        };
        assert_eq!(text, format!("{}:1:9: `cores`: found 0, expected 1 to 1024", file.display()));
    }

    #[test]
    fn a_domain_is_asked_for() {
        let wrong = Init { domain: "not a domain".to_owned(), ..init("never-written.toml".into(), false) };
        assert!(matches!(run(&wrong), Err(Failure::Wrong(_))));
    }

    #[test]
    fn the_records() {
        let text = advice(&init("c.toml".into(), false), "example.net");
        for words in [
            "10 mail.example.net.",
            "v=spf1 mx",
            "v=DMARC1",
            "_imaps._tcp.example.net.",
            "0 1 465",
            "DKIM",
            "PTR",
        ] {
            assert!(text.contains(words), "{words}");
        }
    }
}
