# A delivery status notification. What the package knows is parsed strictly; it takes the contents of the types of
# RFC 6533 for plain messages, which they are not in base64, so that those are looked at by their octets.
import base64
import email
import email.parser
import email.policy
import os

strict = os.environ["STATUS_TYPE"] == "message/delivery-status"
policy = email.policy.SMTPUTF8.clone(raise_on_defect=strict)
with open(os.environ["REPORT"], "rb") as report:
    octets = report.read()
message = email.parser.BytesParser(policy=policy).parsebytes(octets)
assert not message.defects, message.defects
assert message.get_content_type() == "multipart/report"
assert message.get_param("report-type") == "delivery-status"
assert str(message["To"]) in (os.environ["SENDER"], "<%s>" % os.environ["SENDER"]), message["To"]
assert message["Auto-Submitted"] == "auto-replied"
assert message["Date"].datetime is not None
human, status, returned = message.iter_parts()

words = human.get_content()
assert os.environ["RECIPIENT"] in words, words
assert "--frontier--" not in words.splitlines(), words
assert "\x1b" not in words

assert status.get_content_type() == os.environ["STATUS_TYPE"], status.get_content_type()
if strict:
    assert returned.get_content_type() == "message/rfc822"
    assert returned.get_content()["Subject"] == "plain"
    per_message, per_recipient = status.get_payload()
else:
    assert returned.get_content_type() == "message/global"
    _, _, raw, _, end = octets.split(b"\r\n--frontier")
    assert end == b"--\r\n", end
    head, content = raw.split(b"\r\n\r\n", 1)
    if b"base64" in head:
        content = base64.b64decode(content, validate=False)
    blocks = content.decode().strip().split("\r\n\r\n")
    per_message, per_recipient = [email.message_from_string(block) for block in blocks]
assert per_message["Reporting-MTA"] == "dns; mx.here.example"
assert per_recipient["Final-Recipient"].split("; ")[1] == os.environ["RECIPIENT"]
assert per_recipient["Action"] == "failed"
assert per_recipient["Status"] == "5.7.1"
assert per_recipient["Remote-MTA"] == "dns; mx.there.example"
assert "550 5.7.1 Hidden" in per_recipient["Diagnostic-Code"]
assert len(per_recipient.get_all("Action")) == 1
