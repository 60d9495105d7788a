def refused(code, act):
    try:
        act()
    except smtplib.SMTPResponseException as error:
        assert error.smtp_code == code, error
    except smtplib.SMTPRecipientsRefused as error:
        assert {reply[0] for reply in error.recipients.values()} == {code}, error
    else:
        raise AssertionError(f"{code} was expected")


# STARTTLS with each mechanism, then TLS from the start.
for mechanism in ["plain", "login"]:
    client = smtplib.SMTP(HOST, PORT["SUBMISSION"])
    client.ehlo()
    assert not client.has_extn("auth")
    client.starttls(context=TRUST)
    client.ehlo()
    client.user, client.password = ALICE, PASSWORD
    code, _ = client.auth(mechanism, getattr(client, "auth_" + mechanism))
    assert code == 235, code
    client.send_message(letter(f"by {mechanism}"))
    client.quit()

client = smtplib.SMTP_SSL(HOST, PORT["SUBMISSIONS"], context=TRUST)
refused(530, lambda: client.send_message(letter("too early")))
client.rset()
refused(535, lambda: client.login(ALICE, "wrong"))
client.login(ALICE, PASSWORD)
for size in [0, 1, 511, 70_000, 300_000]:
    client.send_message(letter(f"size {size}", "x" * 60 + "\n." + "y" * size + "\n"))
# One of several recipients is unknown: the others get the mail.
strangers = client.sendmail(ALICE, [BOB, "nobody@example.test"], letter("partly").as_bytes())
assert list(strangers) == ["nobody@example.test"] and strangers["nobody@example.test"][0] == 550, strangers
refused(550, lambda: client.sendmail(ALICE, ["nobody@example.test"], b"Subject: none\r\n\r\n"))
# Sending as someone else is refused, and the session goes on.
refused(550, lambda: client.sendmail(BOB, [BOB], b"From: x\r\n\r\n"))
# Headers in UTF-8.
message = letter("Grüße aus Köln")
assert client.has_extn("smtputf8") and client.has_extn("8bitmime")
client.sendmail(
    ALICE, [BOB], "Subject: Grüße\r\n\r\naus Köln\r\n".encode(), mail_options=["SMTPUTF8", "BODY=8BITMIME"]
)
client.send_message(message)
assert client.noop()[0] == 250 and client.verify(BOB)[0] in (250, 252)
client.quit()
wait_for(BOB, 10)
client = imap(BOB)
ok(client.select("INBOX"))
found = ok(client.uid("SEARCH", "CHARSET", "UTF-8", "SUBJECT", '"Grüße"'.encode()))[0].split()
assert len(found) == 2, found
client.logout()
