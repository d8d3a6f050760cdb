"""A name server that knows one name, as 127.0.0.1, and that there are no others."""

import socket
import sys

wanted = b"".join(bytes([len(part)]) + part.encode() for part in sys.argv[1].split(".")) + b"\0"
A = b"\x00\x01"

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
while True:
    question, client = server.recvfrom(512)
    end = question.index(b"\0", 12) + 1
    name, kind = question[12:end], question[end:end + 2]
    answers = b""
    if name == wanted and kind == A:
        answers = b"\xc0\x0c" + A + b"\x00\x01" + (60).to_bytes(4, "big") + b"\x00\x04" + socket.inet_aton("127.0.0.1")
    # NXDOMAIN for other names; for the address of the sixth version of this one, no answer and no error.
    status = 0x8180 if name == wanted else 0x8183
    header = question[:2] + status.to_bytes(2, "big") + b"\x00\x01" + (1 if answers else 0).to_bytes(2, "big") + b"\0\0\0\0"
    server.sendto(header + question[12:end + 4] + answers, client)
