# Where the server is, and connections to it whose certificate is checked.
import imaplib, os, poplib, smtplib, socket, ssl, time
from email.message import EmailMessage

ENV = os.environ
HOST, ALICE, BOB, PASSWORD = ENV["HOST"], ENV["ALICE"], ENV["BOB"], ENV["PASSWORD"]
PORT = {name[:-5]: int(value) for name, value in ENV.items() if name.endswith("_PORT")}
TRUST = ssl.create_default_context(cafile=ENV["CA"])

# The name in the certificate leads to the address of the server under test.
connect = socket.create_connection
socket.create_connection = lambda address, *rest, **more: connect(
    (ENV["ADDRESS"] if address[0] == HOST else address[0], address[1]), *rest, **more
)
socket.setdefaulttimeout(60)


def imap(account=ALICE):
    client = imaplib.IMAP4_SSL(HOST, PORT["IMAPS"], ssl_context=TRUST)
    client.login(account, PASSWORD)
    return client


def pop(account=ALICE):
    client = poplib.POP3_SSL(HOST, PORT["POP3S"], context=TRUST)
    client.user(account)
    client.pass_(PASSWORD)
    return client


def ok(reply):
    kind, data = reply
    assert kind == "OK", (kind, data)
    return data


def wait_for(account, count):
    for _ in range(200):
        client = imap(account)
        exists = int(ok(client.select("INBOX", readonly=True))[0])
        client.logout()
        if exists >= count:
            assert exists == count, exists
            return
        time.sleep(0.1)
    raise AssertionError("mail did not arrive")


def letter(subject, text="It works.\n"):
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = ALICE, BOB, subject
    message.set_content(text)
    return message
