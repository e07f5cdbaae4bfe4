#!/usr/bin/env python3
"""test_chat - does examples/chat serve real clients, good ones and bad ones?

usage: test_chat.py CHAT.C CHAT

Every test starts the program on a port of its own and ends it with SIGTERM: exit status 0, and no descriptor left
that was not there before the first client came. The conversation in the opening comment of CHAT.C is one test.
"""

import os
import random
import re
import resource
import signal
import socket
import struct
import subprocess
import sys

PATIENCE = 60  # seconds for what must happen; only a failing test waits that long


class Client:
    def __init__(self, port, name=None):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.rest = b""
        if name:
            self.expect("Your name?")
            self.type(name)
            assert self.line().startswith(f"Welcome, {name}. In the room: ")

    def send(self, data):
        self.socket.sendall(data)

    def type(self, text):
        self.send(text.encode() + b"\n")

    def line(self):
        """The next line; None at the end."""
        while b"\n" not in self.rest:
            try:
                got = self.socket.recv(65536)
            except ConnectionResetError:
                got = b""
            if not got:
                assert not self.rest, self.rest
                return None
            self.rest += got
        line, self.rest = self.rest.split(b"\n", 1)
        return line.decode(errors="replace")

    def expect(self, *lines):
        for wanted in lines:
            got = self.line()
            assert got == wanted, f"wanted {wanted!r}, got {got!r}"

    def expect_end(self):
        got = self.line()
        assert got is None, f"wanted the end, got {got!r}"
        self.socket.close()

    def until(self, pattern):
        """All lines before the one that matches."""
        lines = []
        while True:
            line = self.line()
            assert line is not None, f"the end came before {pattern}"
            if re.fullmatch(pattern, line):
                return lines
            lines.append(line)

    def leave(self):
        """Say no more, and listen to the end."""
        self.socket.shutdown(socket.SHUT_WR)
        while self.line() is not None:
            pass
        self.socket.close()

    def reset(self):
        """End without a word: the other side gets a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class Chat:
    def __init__(self, *arguments, descriptors=None):
        def limit():
            if descriptors:
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

        self.process = subprocess.Popen([program, "0", *arguments], stdout=subprocess.PIPE, preexec_fn=limit)
        self.port = int(self.process.stdout.readline().decode().rsplit(":", 1)[1])
        self.watcher = self.enter("watcher")
        self.before = self.descriptors()
        self.ended = False  # by the test itself

    def enter(self, name=None):
        return Client(self.port, name)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind:
            self.process.kill()
            self.process.wait()
        if kind or self.ended:
            return
        while self.descriptors() != self.before:  # those who went are closed a moment later
            self.watcher.type("/who")
            self.watcher.line()
        self.process.send_signal(signal.SIGTERM)
        while self.watcher.line() is not None:
            pass
        status = self.process.wait(PATIENCE)
        assert status == 0, f"exit status {status}"


# ---- tests ----------------------------------------------------------------------------------------


def the_transcript_is_true():
    with open(source, encoding="utf-8") as file:
        comment = file.read().split("*/", 1)[0]
    lines = re.findall(r"^ \*     (.*)$", comment.split("goes elsewhere:", 1)[1], re.M)
    lines = lines[: lines.index("Goodbye.") + 1]
    process = subprocess.Popen([program, "0"], stdout=subprocess.PIPE)
    announced = process.stdout.readline().decode()
    assert re.fullmatch(r"listening on 127\.0\.0\.1:\d+\n", announced), announced
    port = int(announced.rsplit(":", 1)[1])
    ann, bob = Client(port), None
    for line in lines:
        print("   ", line)
        if line.startswith("> "):
            ann.type(line[2:])
            continue
        if line == "* bob has come":
            bob = Client(port, "bob")
        elif line.startswith("bob: "):
            bob.type(line[5:])
        elif line == "* bob has left":
            bob.leave()
        ann.expect(line)
    ann.expect_end()
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 0


def everybody_hears_everybody_in_order():
    people, lines = 20, 50
    with Chat() as chat:
        names = [f"p{i}" for i in range(people)]
        clients = [chat.enter(name) for name in names]
        for i, client in enumerate(clients):
            client.expect(*[f"* p{later} has come" for later in range(i + 1, people)])
        for n in range(lines):
            for name, client in zip(names, clients):
                client.type(f"{name} says {n}")
        for me, client in zip(names, clients):
            next_of = {name: 0 for name in names if name != me}
            for _ in range(lines * (people - 1)):
                name, text = client.line().split(": ", 1)
                assert text == f"{name} says {next_of[name]}", (name, text)
                next_of[name] += 1
        for client in clients:
            client.leave()


def bytes_may_come_as_they_like():
    with Chat() as chat:
        slow = chat.enter()
        slow.expect("Your name?")
        for byte in b"slow\r\nhello\n":
            slow.send(bytes([byte]))
        slow.expect("Welcome, slow. In the room: watcher, slow")
        chat.watcher.expect("* slow has come", "slow: hello")
        fast = chat.enter()
        fast.send(b"fast\none\n\n\ntwo\n/quit\n")
        fast.expect("Your name?", "Welcome, fast. In the room: watcher, slow, fast", "Goodbye.")
        fast.expect_end()
        slow.expect("* fast has come", "fast: one", "fast: two", "* fast has left")
        chat.watcher.expect("* fast has come", "fast: one", "fast: two", "* fast has left")
        slow.leave()


def names_are_checked():
    with Chat() as chat:
        client = chat.enter()
        client.expect("Your name?")
        for bad in ["a b", "x" * 21, "%s%n", "watcher\x1b[2J", "é", "/who"]:
            client.type(bad)
            client.expect("A name is 1 to 20 letters and digits.")
        client.type("Watcher")
        client.expect("That name is taken.")
        client.type("x" * 20)
        client.expect(f"Welcome, {'x' * 20}. In the room: watcher, {'x' * 20}")
        client.type("/name watcher")
        client.expect("That name is taken.")
        client.type("/name y")
        client.expect(f"* {'x' * 20} is y now")
        client.type("/dance")
        client.expect("There are /name, /who and /quit.")
        client.type("/quit")
        client.expect("Goodbye.")
        client.expect_end()
        chat.watcher.expect(f"* {'x' * 20} has come", f"* {'x' * 20} is y now", "* y has left")
        again = chat.enter("y")  # it is free again
        again.leave()


def garbage_is_only_text():
    with Chat() as chat:
        client = chat.enter("noise")
        client.send(b"bell \x07, null \x00, escape \x1b[2J, tab \t\n")
        chat.watcher.expect("* noise has come", "noise: bell ?, null ?, escape ?[2J, tab ?")
        bad = chat.enter()
        chaos = random.Random(1)
        try:
            for _ in range(64):
                bad.send(b"!" + chaos.randbytes(16384).replace(b"\n", b"\n!"))  # no line of it is a name
        except OSError:
            pass  # it does not listen to its answers, and so it was dropped
        bad.reset()
        client.type("still here")
        assert chat.watcher.until("noise: still here") == []
        client.leave()


def a_line_that_is_too_long_is_skipped():
    with Chat() as chat:
        client = chat.enter("long")
        chat.watcher.expect("* long has come")
        client.send(b"x" * 400 + b"\n")
        chat.watcher.expect("long: " + "x" * 400)
        client.send(b"x" * 401 + b"\n")
        client.expect("That line is too long.")
        client.send(b"y" * 1000000)
        client.expect("That line is too long.")
        client.send(b"the end of it\nshort\n")
        chat.watcher.expect("long: short")
        client.leave()


def one_who_does_not_read_is_dropped():
    with Chat() as chat:
        deaf, talker, listener = chat.enter("deaf"), chat.enter("talker"), chat.enter("listener")
        chat.watcher.expect("* deaf has come", "* talker has come", "* listener has come")
        talker.expect("* listener has come")
        sent, gone = 0, False
        while not gone:  # everybody else keeps up
            talker.type(f"{sent} " + "z" * 300)
            for reader in (chat.watcher, listener):
                line = reader.line()
                while line.startswith("* "):
                    assert line == "* deaf is gone: reads too slowly", line
                    gone = True
                    line = reader.line()
                assert line.startswith(f"talker: {sent} z"), line
            sent += 1
            assert sent < 100000
        print(f"    dropped after {sent} lines of 300 bytes")
        talker.type("/who")
        talker.until(r"In the room: (?!.*deaf).*")
        listener.type("still here")
        talker.until("listener: still here")
        for client in (talker, listener):
            client.leave()
        deaf.socket.close()  # what it has not read may end in the middle of a line


def those_who_vanish_are_missed_by_nobody():
    with Chat() as chat:
        for i in range(30):
            client = chat.enter(f"c{i}")
            chat.watcher.expect(f"* c{i} has come")
            if i % 3 == 0:
                client.reset()
                gone = chat.watcher.line()
                assert gone in (f"* c{i} has left", f"* c{i} is gone: Connection reset by peer"), gone
            elif i % 3 == 1:
                client.send(b"half a line")
                client.leave()
                chat.watcher.expect(f"* c{i} has left")
            else:
                client.send(b"in the middle\nof a ")
                client.leave()
                chat.watcher.expect(f"c{i}: in the middle", f"* c{i} has left")
        for _ in range(30):  # and some who never say a word
            chat.enter().reset()


def one_who_gives_no_name_is_sent_away():
    with Chat("200") as chat:
        named, silent = chat.enter("named"), chat.enter()
        silent.expect("Your name?", "That took too long.")
        silent.expect_end()
        named.type("I may stay")
        assert chat.watcher.until("named: I may stay") == ["* named has come"]
        named.leave()


def without_descriptors_new_ones_wait_and_old_ones_talk():
    with Chat(descriptors=24) as chat:
        clients = [chat.enter() for _ in range(40)]  # the kernel accepts; the program cannot yet
        clients[0].expect("Your name?")
        clients[0].type("first")
        clients[0].expect("Welcome, first. In the room: watcher, first")
        chat.watcher.type("still here")
        clients[0].expect("watcher: still here")
        while len(clients) > 1:  # each that goes makes room for one that waits
            clients.pop(1).leave()
        last = chat.enter("last")
        clients[0].expect("* last has come")
        for client in (clients[0], last):
            client.leave()


def sigterm_ends_it_whatever_happens():
    with Chat() as chat:
        clients = [chat.enter(f"t{i}") for i in range(10)]
        for client in clients:
            for n in range(100):
                client.type(f"line {n}")
        chat.process.send_signal(signal.SIGTERM)
        for client in clients:
            while client.line() is not None:
                pass
        assert chat.process.wait(PATIENCE) == 0
        chat.ended = True


def what_cannot_be_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for bad, reason in ((port, "Address already in use"), ("x", "Invalid"), ("65536", "Invalid"), ("-1", "Invalid")):
            result = subprocess.run([program, bad], capture_output=True, text=True, timeout=PATIENCE, check=False)
            assert result.returncode == 1, result
            assert f"cannot listen on port {bad}: {reason}" in result.stderr, result.stderr


source, program = sys.argv[1:3]
for test in (
    the_transcript_is_true,
    everybody_hears_everybody_in_order,
    bytes_may_come_as_they_like,
    names_are_checked,
    garbage_is_only_text,
    a_line_that_is_too_long_is_skipped,
    one_who_does_not_read_is_dropped,
    those_who_vanish_are_missed_by_nobody,
    one_who_gives_no_name_is_sent_away,
    without_descriptors_new_ones_wait_and_old_ones_talk,
    sigterm_ends_it_whatever_happens,
    what_cannot_be_is_refused,
):
    print(test.__name__.replace("_", " "), flush=True)
    test()
