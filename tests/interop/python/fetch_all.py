wait_for(BOB, COUNT)
imaplib._MAXLINE = poplib._MAXLINE = 10_000_000


def keep(folder, number, body):
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/{number}", "wb") as file:
        file.write(body)


client = imap(BOB)
ok(client.select("INBOX"))
for start in range(1, COUNT + 1, 500):
    pieces = ok(client.fetch(f"{start}:{min(start + 499, COUNT)}", "(UID BODY.PEEK[])"))
    for piece in pieces:
        if isinstance(piece, tuple):
            keep("by-imap", int(piece[0].split()[0]), piece[1])
client.logout()

client = pop(BOB)
assert client.stat()[0] == COUNT
for number in range(1, COUNT + 1):
    keep("by-pop3", number, b"".join(line + b"\r\n" for line in client.retr(number)[1]))
client.quit()
