# STARTTLS first, as a careful client does it.
client = imaplib.IMAP4(HOST, PORT["IMAP"])
assert "STARTTLS" in client.capabilities
ok(client.starttls(TRUST))
assert "STARTTLS" not in client.capabilities
try:
    client.login(ALICE, "wrong")
    raise AssertionError("a wrong password was taken")
except imaplib.IMAP4.error as error:
    assert "AUTHENTICATIONFAILED" in str(error), error
ok(client.login(ALICE, PASSWORD))
assert ok(client.noop()) and ok(client.namespace())[0] == b'(("" "/")) NIL NIL'

# Names: quoted, nested, with characters outside ASCII in modified UTF-7.
for name in ['"Project A"', "Work/2026/Q4", '"Caf&AOk-"', '"with \\"quotes\\""']:
    ok(client.create(name))
    ok(client.subscribe(name))
listed = b"\n".join(ok(client.list()))
for name in [b'"Project A"', b"Work/2026/Q4", b"Caf&AOk-", b'"with \\"quotes\\""', b"\\Trash"]:
    assert name in listed, (name, listed)
ok(client.rename('"Caf&AOk-"', '"Th&AOk-"'))
ok(client.unsubscribe('"with \\"quotes\\""'))
ok(client.delete('"with \\"quotes\\""'))
subscribed = b"\n".join(ok(client.lsub()))
assert b"Project A" in subscribed and b"quotes" not in subscribed, subscribed

# APPEND with flags and a date, and all of it back.
bodies = [letter(f"number {n}", f"text {n}\n" * n).as_bytes().replace(b"\n", b"\r\n") for n in range(1, 21)]
for number, body in enumerate(bodies):
    flags = "(\\Seen $Label)" if number % 2 else None
    when = imaplib.Time2Internaldate(1_700_000_000 + number)
    reply = ok(client.append('"Project A"', flags, when, body))
    assert b"APPENDUID" in reply[0], reply
assert ok(client.select('"Project A"')) == [b"20"]
for number, body in enumerate(bodies):
    (head, back), tail = ok(client.fetch(str(number + 1), "(INTERNALDATE RFC822.SIZE FLAGS BODY.PEEK[])"))
    assert back == body, (back, body)
    assert f"RFC822.SIZE {len(body)}".encode() in head + tail, head
    assert imaplib.Internaldate2tuple(head + tail) == time.localtime(1_700_000_000 + number), head
    assert (b"$Label" in head + tail) == bool(number % 2), head
(head, part), _ = ok(client.fetch("3", "BODY[TEXT]<2.5>"))
assert part == b"xt 3\r", part

# SEARCH, SORT, THREAD, STORE, COPY, MOVE, EXPUNGE, with numbers and UIDs.
assert ok(client.search(None, "KEYWORD", "$Label", "SUBJECT", '"number 2"')) == [b"2 20"]
assert ok(client.uid("SEARCH", "UNSEEN", "1:6"))[0].split() == [b"1", b"5"]
assert ok(client.sort("(REVERSE DATE)", "UTF-8", "1:3"))[0].split() == [b"3", b"2", b"1"]
assert ok(client.thread("REFERENCES", "UTF-8", "1:2")) == [b"(1)(2)"]
assert b"\\Flagged" in ok(client.store("1:2", "+FLAGS", "\\Flagged"))[0]
ok(client.store("1", "-FLAGS.SILENT", "(\\Flagged)"))
assert ok(client.search(None, "FLAGGED")) == [b"2"]
ok(client.copy("1:3", "Work/2026/Q4"))
ok(client.uid("MOVE", "4:5", "Archive"))
ok(client.store("1", "+FLAGS", "\\Deleted"))
ok(client.uid("STORE", "20", "+FLAGS", "(\\Deleted)"))
ok(client.uid("EXPUNGE", "20"))
assert ok(client.search(None, "DELETED")) == [b"1"]
assert ok(client.expunge())[-1] == b"1"
assert ok(client.search(None, "ALL"))[0].split()[-1] == b"16"
assert b"MESSAGES 3" in ok(client.status("Work/2026/Q4", "(MESSAGES UIDNEXT UNSEEN)"))[0]
assert b"MESSAGES 2" in ok(client.status("Archive", "(MESSAGES)"))[0]
ok(client.unselect())
ok(client.select("Archive", readonly=True))
assert client.store("1", "+FLAGS", "\\Seen")[0] == "NO"
assert client.select("Nowhere")[0] == "NO"
client.logout()


# AUTHENTICATE PLAIN with an initial response on demand.
client = imaplib.IMAP4_SSL(HOST, PORT["IMAPS"], ssl_context=TRUST)
ok(client.authenticate("PLAIN", lambda _: f"\0{ALICE}\0{PASSWORD}".encode()))
client.logout()
