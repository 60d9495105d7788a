bodies = [f"Subject: {n}\r\n\r\n.\r\n..dots\r\n".encode() + b"line\r\n" * n for n in range(12)]
client = imap()
for body in bodies:
    ok(client.append("INBOX", None, None, body))
client.logout()

# Plain from this machine, STLS, and TLS from the start; USER/PASS each time.
plain = poplib.POP3(HOST, PORT["POP3"])
assert "STLS" in plain.capa()
plain.stls(TRUST)
assert "STLS" not in plain.capa()
assert b"UTF8" in [name.encode() for name in plain.capa()]
plain.user(ALICE)
plain.pass_(PASSWORD)
count, size = plain.stat()
assert (count, size) == (12, sum(map(len, bodies))), (count, size)
names = [line.split()[1] for line in plain.uidl()[1]]
assert len(set(names)) == 12
for number, body in enumerate(bodies, 1):
    assert b"".join(line + b"\r\n" for line in plain.retr(number)[1]) == body
    assert int(plain.list(number).split()[2]) == len(body)
assert plain.top(12, 1)[1] == [b"Subject: 11", b"", b"."]
plain.dele(1)
plain.rset()
plain.dele(2)
plain.dele(12)
plain.quit()

# What was deleted stays deleted, what stayed keeps its name; what no QUIT confirmed comes back.
client = pop()
assert [line.split()[1] for line in client.uidl()[1]] == names[:1] + names[2:11]
client.dele(1)
client.close()
client = pop()
assert client.stat()[0] == 10
try:
    client.retr(11)
    raise AssertionError("there is no eleventh message")
except poplib.error_proto as error:
    assert str(error).startswith("b'-ERR"), error
client.quit()

wrong = poplib.POP3_SSL(HOST, PORT["POP3S"], context=TRUST)
wrong.user(ALICE)
try:
    wrong.pass_("wrong")
    raise AssertionError("a wrong password was taken")
except poplib.error_proto as error:
    assert "[AUTH]" in str(error), error
