//! mutt without a screen: opens a mailbox, saves a message, with and without its header cache.

use std::fs;

use crate::mail::{ALICE, BOB, HOST, append, ca, imap, message, server, wait_for};
use crate::program::{Ran, available, command, run};
use crate::server::{IMAP, IMAPS, PASSWORD, POP3S, SUBMISSION, Server};

/// Runs mutt on `url` with `keys` pressed.
fn mutt(server: &Server, url: &str, keys: &str, more: &[&str]) -> Ran {
    let home = server.folder();
    fs::create_dir_all(home.join("cache")).expect("a folder for the header cache");
    let config = format!(
        "set imap_user=\"{ALICE}\" imap_pass=\"{PASSWORD}\" pop_user=\"{ALICE}\" pop_pass=\"{PASSWORD}\"\n\
         set ssl_force_tls ssl_starttls ssl_ca_certificates_file=\"{}\" ssl_verify_host=no certificate_file=\"\"\n\
         set header_cache=\"{home}/cache\" folder=\"{home}\" record=\"\" from=\"{ALICE}\"\n\
         set smtp_url=\"smtp://{ALICE}@{}:{SUBMISSION}/\" smtp_pass=\"{PASSWORD}\" \
         smtp_authenticators=\"scram-sha-256\" \
         pop_authenticators=\"scram-sha-256\" hostname=\"{HOST}\"\n\
         set wait_key=no confirmappend=no confirmcreate=no delete=yes move=no beep=no mark_old=no use_from=yes\n\
         set imap_keepalive=5 sort=date\n{}",
        ca(server).display(),
        server.address(),
        if keys.is_empty() { String::new() } else { format!("push \"{keys}\"\n") },
        home = home.display(),
    );
    let rc = home.join("muttrc");
    fs::write(&rc, config).expect("the configuration is written");
    if url.is_empty() {
        let mut mutt = command("mutt", home);
        mutt.arg("-F").arg(rc).args(more);
        return run(mutt, b"Hello from mutt.\n");
    }
    // To open a mailbox it wants a terminal, which `script` gives it.
    let quoted: Vec<String> = more.iter().map(|word| format!("'{word}'")).collect();
    let line = format!("mutt -F '{}' -f '{url}' {}", rc.display(), quoted.join(" "));
    let mut script = command("script", home);
    script.args(["-qec", &line, "/dev/null"]);
    run(script, b"")
}

#[test]
fn mutt_opens_saves_and_changes() {
    if !available("mutt") || !available("script") || !available("curl") {
        return;
    }
    let server = server();
    for number in 0..5 {
        append(&server, ALICE, "INBOX", &message(number, 2000));
    }
    let urls = [
        format!("imaps://{}:{IMAPS}/INBOX", server.address()),
        format!("imap://{}:{IMAP}/INBOX", server.address()),
        format!("pops://{}:{POP3S}/", server.address()),
    ];
    // Twice each: the second time the header cache knows the messages.
    for (round, url) in urls.iter().chain(&urls).enumerate() {
        let saved = server.folder().join(format!("saved-{round}"));
        let keys = format!("<copy-message><kill-line>{}<enter><exit>", saved.display());
        let ran = mutt(&server, url, &keys, &[]);
        let text = fs::read(&saved).unwrap_or_else(|error| {
            panic!("{url}: {error}\n{}\n{}\nlog:\n{}", ran.text(), ran.stderr, server.log())
        });
        let found = (0..5).any(|number| {
            let want: Vec<u8> = message(number, 2000).into_iter().filter(|byte| *byte != b'\r').collect();
            let body = want.windows(2).position(|pair| pair == b"\n\n").expect("a body");
            String::from_utf8_lossy(&text).contains(&*String::from_utf8_lossy(&want[body..]))
        });
        assert!(found, "{url}: {}", String::from_utf8_lossy(&text));
    }

    let keys =
        "<first-entry><save-message><kill-line>=Archive<enter><next-entry><flag-message><sync-mailbox><exit>";
    let folder = format!("imaps://{}:{IMAPS}/", server.address());
    let set_folder = format!("set folder=\"{folder}\"");
    mutt(&server, &urls[0], keys, &["-e", &set_folder]);
    assert!(imap(&server, ALICE, "", "STATUS Archive (MESSAGES)").contains("MESSAGES 1"), "{}", server.log());
    assert!(imap(&server, ALICE, "", "STATUS INBOX (MESSAGES)").contains("MESSAGES 4"));
    assert_eq!(imap(&server, ALICE, "INBOX", "UID SEARCH FLAGGED").split_whitespace().count(), 3);
}

#[test]
fn mutt_sends_by_submission() {
    if !available("mutt") || !available("script") || !available("curl") {
        return;
    }
    let server = server();
    let ran = mutt(&server, "", "", &["-s", "from mutt", BOB]);
    assert_eq!(ran.code, Some(0), "{}\n{}\nlog:\n{}", ran.text(), ran.stderr, server.log());
    wait_for(&server, BOB, 1);
    assert!(
        imap(&server, BOB, "INBOX", "SEARCH SUBJECT \"from mutt\" TEXT \"Hello from mutt\"").contains(" 1")
    );
}
