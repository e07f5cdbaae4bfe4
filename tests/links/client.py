#!/usr/bin/env python3
"""client.py - a node that is not troupe's: written from docs/wire.md alone, with Python's standard library and libzmq

usage: client.py SERVER      SERVER: the program links_echo, which is started as `SERVER echo`

Meets the node, has an actor made there, asks it, sends it a descriptor, fetches one by a handle, lends it a blob, finds a name, watches the actor end, parts in
peace. Twice: without a key, and in a cluster that has one. Prints what it did; exits 1 when anything is not as docs/wire.md says.
"""
import array
import ctypes
import ctypes.util
import errno
import fcntl
import hashlib
import hmac
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

zmq = ctypes.CDLL(ctypes.util.find_library("zmq") or "libzmq.so.5")
zmq.zmq_ctx_new.restype = zmq.zmq_socket.restype = ctypes.c_void_p
for name in ("zmq_bind", "zmq_connect"):
    getattr(zmq, name).argtypes = [ctypes.c_void_p, ctypes.c_char_p]
zmq.zmq_socket.argtypes = [ctypes.c_void_p, ctypes.c_int]
zmq.zmq_setsockopt.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
zmq.zmq_send.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
zmq.zmq_recv.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
zmq.zmq_close.argtypes = zmq.zmq_ctx_term.argtypes = [ctypes.c_void_p]
DEALER, ROUTER, ROUTING_ID, LINGER, DONTWAIT = 5, 6, 5, 17, 1

HELLO, ATTACH, READY, TAKEN, CARGO, GOODBYE, FAREWELL, REFUSE = range(1, 9)
CHALLENGE, PROOF, KEY_FEATURE = 13, 14, 8
MESSAGE, TYPE, PLACE = 1, 2, 3
REPLY, BLOBS, LENT, ASK, ANSWER = 1 << 1, 1 << 4, 1 << 5, 1 << 8, 1 << 9
LINK = 0xFFFFFFFF


def text(value, size):
    return value.encode().ljust(size, b"\0")


def padded(record):
    return record + bytes(-len(record) % 8)


class Refused(Exception):
    pass


class Link:
    """Both connections to one node, as docs/wire.md describes them."""

    def __init__(self, directory, node, name, key=None):
        with open(f"{directory}/{node}.node", "rb") as file:
            record = file.read()
        assert record[:8] == b"troupe.n" and len(record) == 512
        self.their_id = struct.unpack_from("<Q", record, 16)[0]
        control = record[88:152].split(b"\0")[0].decode()
        self.our_id, self.name = int.from_bytes(os.urandom(8), "little"), name
        self.control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.connect(f"{directory}/{control}")
        self.context = zmq.zmq_ctx_new()
        self.router = zmq.zmq_socket(self.context, ROUTER)
        self.endpoint = f"ipc://{directory}/{name}.data"
        assert zmq.zmq_bind(self.router, self.endpoint.encode()) == 0
        self.dealer = None
        self.next = self.next_cargo = self.expected = 1
        self.types, self.theirs, self.messages = {}, {}, []
        self.heard = set()
        self.key = key
        self.handshake()

    # ---- control ----

    @staticmethod
    def packet(kind, number=0, body=b""):
        return struct.pack("<2sBBIQ", b"Tr", 1, kind, 16 + len(body), number) + body

    def say(self, kind, number=0, body=b"", fds=()):
        packet = self.packet(kind, number, body)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.control.sendmsg([packet], rights)

    def handshake(self):
        feature = KEY_FEATURE if self.key else 0
        hello = struct.pack("<HHIIIQQQIIIII4x40s40x", 1, 1, feature, feature, 0, self.our_id,
                            int.from_bytes(os.urandom(8), "little"), 1, os.getpid(),
                            64, (16 << 20) + 4096, 64, 0, text(self.name, 40))
        hello += os.urandom(32) if self.key else b""
        self.say(HELLO, 0, hello)
        if self.key:
            self.prove(self.packet(HELLO, 0, hello))
        while not {HELLO, ATTACH, READY} <= self.heard:
            self.hear(5)

    def prove(self, hello):
        """Both sides prove that they know the key; what they say is put together here."""
        challenge = self.hear_first(CHALLENGE)
        assert struct.unpack_from("<Q", challenge, 16 + 32)[0] == self.their_id
        said = hashlib.sha256(hello + challenge).digest()
        self.say(PROOF, 0, hmac.new(self.key, b"troupe-1 dialer\0" + said, hashlib.sha256).digest())
        theirs = self.hear_first(HELLO)
        right = hmac.new(self.key, b"troupe-1 dialed\0" + said + theirs, hashlib.sha256).digest()
        assert hmac.compare_digest(self.hear_first(PROOF)[16:], right), "the node does not know the key"
        self.heard.add(HELLO)
        self.on_hello(theirs)

    def hear_first(self, expected):
        assert select.select([self.control], [], [], 5)[0], "the node has not answered in time"
        packet = self.control.recv(1 << 16)
        if packet[3] == REFUSE:
            raise Refused(struct.unpack_from("<Q", packet, 8)[0], packet[16:].decode())
        assert packet[:4] == bytes([ord("T"), ord("r"), 1, expected]), packet
        return packet

    def on_hello(self, packet):
        assert struct.unpack_from("<Q", packet, 16 + 16)[0] == self.their_id
        assert struct.unpack_from("<I", packet, 16 + 4)[0] == (KEY_FEATURE if self.key else 0)
        token = self.token = b"\x80" + os.urandom(15)
        self.say(ATTACH, 0, token + text(self.endpoint, 128))

    def hear(self, seconds):
        """Take what comes on either connection within that time."""
        until = time.monotonic() + seconds
        while not self.hear_control() and not self.receive():
            assert time.monotonic() < until, "the node has not answered in time"
            select.select([self.control], [], [], 0.001)

    def hear_control(self):
        if not select.select([self.control], [], [], 0)[0]:
            return False
        packet = self.control.recv(1 << 16)
        assert packet, "the connection has ended"
        magic, version, kind, size, number = struct.unpack_from("<2sBBIQ", packet)
        assert magic == b"Tr" and version == 1 and size == len(packet), packet
        self.heard.add(kind)
        if kind == HELLO:
            self.on_hello(packet)
        elif kind == ATTACH:
            self.dealer = zmq.zmq_socket(self.context, DEALER)
            token = packet[16:32]
            assert zmq.zmq_setsockopt(self.dealer, ROUTING_ID, token, 16) == 0
            assert zmq.zmq_connect(self.dealer, packet[32:160].split(b"\0")[0]) == 0
            self.send([])  # by which it knows that our connection has reached it
        elif kind == GOODBYE:
            self.their_last = number
        elif kind == FAREWELL:
            self.their_taken = number
        elif kind == REFUSE:
            raise Refused(number, packet[16:].decode())
        return True

    # ---- data ----

    def send(self, records):
        body = b"".join(records)
        frame = struct.pack("<2sBBIQQII", b"Tr", 1, 0, len(records), self.next,
                            self.expected - 1, 32 + len(body), 0) + body
        assert zmq.zmq_send(self.dealer, frame, len(frame), 0) == len(frame)
        self.next += len(records)

    def receive(self):
        """One frame: the token it comes with, and its bytes."""
        buffer = ctypes.create_string_buffer(1 << 20)
        size = zmq.zmq_recv(self.router, buffer, 1 << 20, DONTWAIT)
        if size < 0:
            return False
        assert buffer.raw[:size] == self.token
        size = zmq.zmq_recv(self.router, buffer, 1 << 20, 0)
        frame = buffer.raw[:size]
        if "first frame" not in self.heard:
            self.heard.add("first frame")
            self.say(READY)
        magic, version, flags, n, first, taken, total, crc = struct.unpack_from("<2sBBIQQII", frame)
        assert magic == b"Tr" and version == 1 and flags == 0 and crc == 0 and total == size
        assert first == self.expected and taken < self.next
        at = 32
        for _ in range(n):
            length, kind, padding, flags = struct.unpack_from("<IBBH", frame, at)
            self.take(kind, flags, frame[at:at + length - padding])
            at += length
            self.expected += 1
        assert at == size
        if n:
            self.say(TAKEN, self.expected - 1)
        return True

    def take(self, kind, flags, record):
        if kind == TYPE:
            self.theirs[struct.unpack_from("<I", record, 16)[0]] = record[24:].decode()
            return
        assert kind == MESSAGE, kind
        slot, generation, number = struct.unpack_from("<III", record, 8)
        source = struct.unpack_from("<II", record, 20)
        at = 40 + 8 * bin(flags & 1).count("1")
        reply = struct.unpack_from("<Q", record, at)[0] if flags & REPLY else 0
        at += 8 * bin(flags & 0b11110).count("1")
        self.messages.append((self.theirs[number].split("{")[0], slot, source, reply, record[at:]))

    def message(self, to, signature, body, reply=0, n_fds=0, lent=False):
        """The records of a message from our actor 7.1: its type first, when it is new."""
        records = []
        if signature not in self.types:
            self.types[signature] = len(self.types) + 1
            record = struct.pack("<IBBHQII", 0, TYPE, 0, 0, 0, self.types[signature], 0)
            records.append(self.sized(record + signature.encode()))
        flags = (ASK | REPLY if reply else 0) | (BLOBS | LENT if lent else 0)
        record = struct.pack("<IBBHIIIIIIQ", 0, MESSAGE, 0, flags, to[0], to[1],
                             self.types[signature], 7, 1, n_fds, self.next)
        if reply:
            record += struct.pack("<Q", reply)
        if lent:
            record += struct.pack("<QQ", 8, 1)
        return records, self.sized(record + body)

    @staticmethod
    def sized(record):
        size = len(padded(record))
        return padded(struct.pack("<IBB", size, record[4], size - len(record)) + record[6:])

    def post(self, to, signature, body, reply=0):
        types, record = self.message(to, signature, body, reply)
        self.send(types + [record])

    def post_fd(self, to, signature, body, fd):
        """The message goes with its descriptor; its place goes where others would go."""
        types, record = self.message(to, signature, body, 0, 1)
        self.say(CARGO, self.next_cargo, record, [fd])
        self.send(types + [struct.pack("<IBBHQQ", 24, PLACE, 0, 0, 0, self.next_cargo)])
        self.next_cargo += 1

    def post_lent(self, to, signature, size, fd):
        """A message whose only field is a blob, which the descriptor has: it is the first and only one."""
        types, record = self.message(to, signature, struct.pack("<IQ", 0, size | 1 << 63), 0, 1, lent=True)
        self.say(CARGO, self.next_cargo, record, [fd])
        self.send(types + [struct.pack("<IBBHQQ", 24, PLACE, 0, 0, 0, self.next_cargo)])
        self.next_cargo += 1

    def expect(self, name):
        while not self.messages:
            self.hear(5)
        message = self.messages.pop(0)
        assert message[0] == name, message
        return message

    def part(self):
        self.say(GOODBYE, self.next - 1)
        while GOODBYE not in self.heard or self.expected - 1 < self.their_last:
            self.hear(5)
        self.say(FAREWELL, self.expected - 1)
        while FAREWELL not in self.heard:
            self.hear(5)
        assert self.their_taken == self.next - 1
        self.control.close()
        for made in (self.dealer, self.router):
            zmq.zmq_setsockopt(made, LINGER, ctypes.byref(ctypes.c_int(0)), 4)
            zmq.zmq_close(made)
        zmq.zmq_ctx_term(self.context)


def rebuild(directory, handle):
    """The descriptor behind a handle, by a connection of its own."""
    tag, cluster, node, incarnation, place, secret = handle.split(".")
    assert tag == "troupe-handle-1" and cluster == "default" and len(secret) == 32
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(f"{directory}/{node}.{int(incarnation, 16):016x}.h")
        _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        assert uid == os.getuid()
        connection.send(struct.pack("<2sBBIQ", b"Tr", 1, 64, 32, int(place, 16)) + bytes.fromhex(secret))
        packet, fds, flags, _ = socket.recv_fds(connection, 1 << 16, 253)
        magic, version, kind, size, number = struct.unpack_from("<2sBBIQ", packet)
        assert magic == b"Tr" and version == 1 and size == len(packet), packet
        if kind == REFUSE:
            raise Refused(number, packet[16:].decode())
        assert kind == 65 and number == int(place, 16) and size == 16 and len(fds) == 1, packet
        assert not flags & socket.MSG_CTRUNC
        assert connection.recv(1) == b""
        return fds[0]


def expect_refusal(directory, handle, error):
    try:
        rebuild(directory, handle)
    except Refused as refused:
        assert refused.args[0] == error and refused.args[1], refused.args
    else:
        raise AssertionError(f"{handle} was good")


def fetch_handles(link, who, directory):
    link.post(who, "want{words:text[32]}", text("by a handle", 32), reply=13)
    handle = link.expect("got")[4][:160].split(b"\0")[0].decode()
    forged = handle[:-1] + ("1" if handle[-1] == "0" else "0")
    expect_refusal(directory, forged, errno.EKEYREJECTED)
    with os.fdopen(rebuild(directory, handle), "rb") as file:
        assert file.read() == b"by a handle"
    expect_refusal(directory, handle, errno.EKEYREVOKED)
    print("a handle was good once, and only as it was")


def wait_for(path):
    until = time.monotonic() + 30
    while not os.path.exists(path):
        assert time.monotonic() < until, f"no {path}"
        time.sleep(0.01)


def expect_to_be_refused(directory, key, part):
    try:
        Link(directory, "echo", "python", key)
    except Refused as refused:
        assert refused.args[0] == errno.EKEYREJECTED and part in refused.args[1], refused.args
    else:
        raise AssertionError("linked without the key")


def talk(directory, key):
    if key:
        expect_to_be_refused(directory, None, "has no cluster key")
        expect_to_be_refused(directory, b"another key of some length", "did not prove")
    else:
        expect_to_be_refused(directory, b"a key that nobody asked for", "has no cluster key")
    link = Link(directory, "echo", "python", key)
    print("met node echo")

    link.post((LINK, 1), "troupe_link_spawn{behavior:text[64],name:text[64],worker:u32,own_thread:flag}",
              text("echo", 64) + text("parrot", 64) + struct.pack("<I", 0) + b"\0", reply=11)
    _, slot, _, reply, body = link.expect("troupe_spawned")
    node, who_slot, who_generation, code = struct.unpack_from("<QIIi", body)
    assert (slot, reply, node, code) == (7, 11, link.their_id, 0), body
    who = (who_slot, who_generation)
    print("made an actor there")

    for n in range(1000):
        link.post(who, "ping{n:u64}", struct.pack("<Q", n), reply=100 + n)
        name, slot, source, reply, body = link.expect("pong")
        assert (source, reply) == (who, 100 + n) and struct.unpack("<Q", body)[0] == n + 1
    print("1000 questions were answered")

    reading, writing = os.pipe()
    link.post_fd(who, "give{fd:fd,n:u64}", struct.pack("<IQ", 0, 42), writing)
    os.close(writing)
    assert os.read(reading, 100) == b"42\n" and os.read(reading, 100) == b""
    print("a descriptor was used and closed")

    fetch_handles(link, who, directory)

    memory = os.memfd_create("sheet", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(memory, bytes(300000) + b"!")
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
    link.post_lent(who, "sheet{paper:blob}", 300001, memory)
    os.close(memory)
    assert struct.unpack("<Q", link.expect("pong")[4])[0] == 300001 << 8 | ord("!")
    print("a blob was read where it is")

    link.post((LINK, 1), "troupe_link_find{name:text[64],timeout_ms:i64}",
              text("parrot", 64) + struct.pack("<q", 0), reply=12)
    body = link.expect("troupe_link_found")[4]
    assert struct.unpack_from("<QIIi", body) == (link.their_id, *who, 0)
    print("its name was found")

    link.post((LINK, 1), "troupe_link_watch{number:u64,who:ref}",
              struct.pack("<QQII", 77, link.their_id, *who))
    link.post((LINK, 1), "troupe_link_end{who:ref,kills:flag}",
              struct.pack("<QII", link.their_id, *who) + b"\1")
    body = link.expect("troupe_link_ended")[4]
    number, reason, _ = struct.unpack_from("<QIi", body)
    assert number == 77, body
    print("its end was told")

    link.part()
    print("parted")


def run(key):
    run = tempfile.mkdtemp(prefix="troupe-", dir="/tmp")
    environment = dict(os.environ, XDG_RUNTIME_DIR=run, TROUPE_CLUSTER_KEY_FILE="")
    environment.pop("TROUPE_CLUSTER", None)
    if key:
        environment["TROUPE_CLUSTER_KEY_FILE"] = f"{run}/key"
        with open(os.open(f"{run}/key", os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(key + b"\n")
    server = subprocess.Popen([sys.argv[1], "echo"], env=environment)
    try:
        wait_for(f"{run}/troupe/default/echo.node")
        talk(f"{run}/troupe/default", key)
        server.terminate()
        assert server.wait(30) == 0, f"the server ended with {server.returncode}"
    finally:
        server.kill()
        shutil.rmtree(run)


run(None)
print("and once more, with a key")
run(os.urandom(31) + b"k")
