//! `openssl s_client`: STARTTLS of each protocol and TLS from the start, TLS 1.2 and 1.3, with the chain verified.

use crate::mail::{HOST, ca, server};
use crate::program::{available, command, run};
use crate::server::{IMAP, IMAPS, POP3, POP3S, SMTP, SUBMISSION, SUBMISSIONS};

#[test]
fn tls_verifies_by_name_in_every_protocol() {
    if !available("openssl") {
        return;
    }
    let server = server();
    let ways = [
        (SMTP, Some("smtp"), "QUIT\r\n", "221 "),
        (SUBMISSION, Some("smtp"), "QUIT\r\n", "221 "),
        (SUBMISSIONS, None, "QUIT\r\n", "221 "),
        (IMAP, Some("imap"), "a LOGOUT\r\n", "a OK "),
        (IMAPS, None, "a LOGOUT\r\n", "a OK "),
        (POP3, Some("pop3"), "QUIT\r\n", "+OK "),
        (POP3S, None, "QUIT\r\n", "+OK "),
    ];
    for (port, starttls, goodbye, reply) in ways {
        for version in ["-tls1_2", "-tls1_3"] {
            let mut openssl = command("openssl", server.folder());
            openssl.args(["s_client", version, "-verify_return_error", "-verify_hostname", HOST, "-CAfile"]);
            openssl.arg(ca(&server)).args(["-connect", &format!("{}:{port}", server.address())]);
            openssl.args(["-quiet", "-ign_eof"]);
            if let Some(protocol) = starttls {
                openssl.args(["-starttls", protocol]);
            }
            let ran = run(openssl, goodbye.as_bytes());
            assert!(ran.text().contains(reply), "{port} {version}:\n{}\n{}", ran.text(), ran.stderr);
            assert!(!ran.stderr.contains("error"), "{port} {version}:\n{}", ran.stderr);
        }
    }
}
