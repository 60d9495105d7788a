# A session in IDLE hears of mail, flags and expunges that others cause, as soon as they are durable.
idler, other = imap(BOB), imap(BOB)
ok(idler.select("INBOX"))
ok(other.select("INBOX"))


def idle(act, *expected):
    idler.send(b"i1 IDLE\r\n")
    assert idler.readline().startswith(b"+ ")
    act()
    for line in expected:
        got = idler.readline().strip()
        while got.endswith(b" RECENT"):
            got = idler.readline().strip()
        assert got == line, (got, line)
    idler.send(b"DONE\r\n")
    line = idler.readline()
    while line.strip().endswith(b" RECENT"):
        line = idler.readline()
    assert line.startswith(b"i1 OK"), line


def send():
    client = smtplib.SMTP(HOST, PORT["SMTP"])
    client.sendmail("someone@elsewhere.test", [BOB], b"Subject: wake up\r\n\r\nnow\r\n")
    client.quit()


idle(send, b"* 1 EXISTS")
ok(other.noop())
idle(lambda: ok(other.store("1", "+FLAGS", "\\Flagged")), b"* 1 FETCH (UID 1 FLAGS (\\Flagged \\Recent))")
idle(lambda: ok(other.append("INBOX", None, None, b"Subject: two\r\n\r\n")), b"* 2 EXISTS")
ok(other.store("1", "+FLAGS.SILENT", "\\Deleted"))
deleted = b"* 1 FETCH (UID 1 FLAGS (\\Flagged \\Deleted \\Recent))"
idle(lambda: ok(other.expunge()), deleted, b"* 1 EXPUNGE")
assert ok(idler.search(None, "ALL")) == [b"1"]
idler.logout()
other.logout()
