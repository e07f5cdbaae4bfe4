#!/usr/bin/env python3
"""test_webserver - does examples/webserver serve real clients, good ones and bad ones, whoever dies?

usage: test_webserver.py WEBSERVER

Every test starts the program on a port of its own and ends it with SIGTERM: exit status 0, no process, socket or
descriptor left. curl and wrk are clients, too, where they are installed.
"""

import hashlib
import os
import random
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

from program import Program, write

PATIENCE = 60  # seconds for what must happen; only a failing test waits that long


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.rest = b""

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode())

    def more(self):
        got = self.socket.recv(1 << 20)
        self.rest += got
        return bool(got)

    def answer(self, head_only=False):
        """(status, fields, body) of the next answer; None at the end."""
        while b"\r\n\r\n" not in self.rest:
            if not self.more():
                assert not self.rest, self.rest
                return None
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        lines = head.decode().split("\r\n")
        fields = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
        length = 0 if head_only else int(fields["content-length"])
        while len(self.rest) < length:
            assert self.more(), "the end came within an answer"
        body, self.rest = self.rest[:length], self.rest[length:]
        assert lines[0].startswith("HTTP/1.1 "), lines[0]
        return int(lines[0].split()[1]), fields, body

    def get(self, target, method="GET", fields="Host: x\r\n"):
        self.send(f"{method} {target} HTTP/1.1\r\n{fields}\r\n")
        return self.answer(method == "HEAD")

    def expect_end(self):
        try:
            assert self.answer() is None
        except ConnectionResetError:
            pass
        self.socket.close()

    def close(self):
        self.socket.close()


class Server(Program):
    def __init__(self, directory, *arguments):
        super().__init__(program, *arguments, "0", directory)
        line = self.process.stdout.readline().decode()
        found = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)\n", line)
        assert found, (line, self.says())
        self.port = int(found[1])

    def client(self):
        return Client(self.port)

    def get(self, target, **options):
        client = self.client()
        answer = client.get(target, **options)
        client.close()
        return answer

    def descriptors(self):
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in [self.process.pid, *self.children()])

    def __enter__(self):
        self.get("/")  # all have begun
        self.get("/")
        self.before = self.settled()
        return self

    def settled(self, wanted=None):
        """How many descriptors there are when clients have gone."""
        last, end = None, time.monotonic() + PATIENCE
        while time.monotonic() < end:
            now = self.descriptors()
            if now == wanted or (wanted is None and now == last):
                return now
            last = now
            time.sleep(0.05)
        return last

    def __exit__(self, kind, value, trace):
        if kind:
            self.process.kill()
            self.process.communicate()
            print(self.says())
            return
        after = self.settled(self.before)
        assert after == self.before, f"{self.before} descriptors before, {after} after"
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, (self.process.returncode, self.says())
        self.expect_nothing_left()


def make_site(directory):
    site = os.path.join(directory, "site")
    write(site, "index.html", b"<h1>hello</h1>\n")
    write(site, "a.txt", b"a text\n")
    write(site, "sub/index.html", b"below\n")
    write(site, "sub/deeper/x y.json", b"{}\n")
    write(site, "bare/file", b"bytes\n")
    write(site, "empty.css", b"")
    write(directory, "secret", b"not for you\n")
    os.symlink("../secret", os.path.join(site, "way-out"))
    os.symlink("..", os.path.join(site, "up"))
    os.mkfifo(os.path.join(site, "fifo"))
    return site


# ---- tests ----------------------------------------------------------------------------------------


def files_are_served(site):
    with Server(site) as server:
        client = server.client()
        for target, kind, body in (
            ("/", "text/html; charset=utf-8", b"<h1>hello</h1>\n"),
            ("/a.txt", "text/plain; charset=utf-8", b"a text\n"),
            ("/a.txt?what=ever", "text/plain; charset=utf-8", b"a text\n"),
            ("/%61%2etxt", "text/plain; charset=utf-8", b"a text\n"),
            ("//sub/./", "text/html; charset=utf-8", b"below\n"),
            ("/sub/deeper/x%20y.json", "application/json", b"{}\n"),
            ("/bare/file", "application/octet-stream", b"bytes\n"),
            ("/empty.css", "text/css; charset=utf-8", b""),
            (f"http://127.0.0.1:{server.port}/a.txt", "text/plain; charset=utf-8", b"a text\n"),
        ):
            status, fields, got = client.get(target)
            assert (status, fields["content-type"], got) == (200, kind, body), (target, status, fields, got)
            assert fields["connection"] == "keep-alive"
            status, fields, got = client.get(target, method="HEAD")
            assert (status, int(fields["content-length"]), got) == (200, len(body), b""), (target, fields)
        status, fields, _ = client.get("/sub")
        assert (status, fields["location"]) == (301, "/sub/")
        client.close()


def what_is_not_there_is_said(site):
    with Server(site) as server:
        client = server.client()
        for target, wanted in (("/none", 404), ("/a.txt/", 404), ("/a.txt/b", 404), ("/bare/", 404), ("/fifo", 404),
                               ("/way-out", 404), ("/up/secret", 404), ("/%zz", 400), ("/%0", 400), ("/a%00", 400),
                               ("/" + "x" * 300, 404), ("/" + "x" * 5000, 400), ("/\x7f%ff", 404)):
            status, _, body = client.get(target)
            assert status == wanted and body.startswith(str(wanted).encode()), (target, status, body)
        status, fields, _ = client.get("/a.txt", method="DELETE")
        assert (status, fields["allow"]) == (405, "GET, HEAD")
        client.close()


def nobody_gets_out_of_the_directory(site):
    with Server(site) as server:
        for target in ("/../secret", "/sub/../../secret", "/%2e%2e/secret", "/..%2fsecret", "/.%2e/secret", "/sub/..%2f..%2fsecret",
                       "//..//secret", "/./../secret", "/%2e%2e%2f%2e%2e%2fetc/passwd", "/../../../../../../etc/passwd",
                       "/up/../secret", "/..", "/../site/a.txt"):
            status, _, body = server.get(target)
            assert status == 404 and b"not for you" not in body and b"root:" not in body, (target, status, body)


def bad_requests_are_refused(site):
    with Server(site) as server:
        for text, wanted in (
            ("GET\r\n\r\n", 400), ("GET /\r\n\r\n", 400), ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", 400), ("\0" * 10 + "\r\n\r\n", 400),
            ("GET a.txt HTTP/1.1\r\nHost: x\r\n\r\n", 400), ("FETCH / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\n\r\n", 400), ("GET / HTTP/1.1\r\nHost: x\r\nno field\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400), ("GET / HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n", 400),
            ("GET /" + "y" * 9000 + " HTTP/1.1\r\nHost: x\r\n\r\n", 431), ("GET / HTTP/1.1\r\n" + "X: y\r\n" * 2000, 431),
        ):
            client = server.client()
            client.send(text)
            status, fields, _ = client.answer()
            assert (status, fields["connection"]) == (wanted, "close"), (text[:50], status, fields)
            client.expect_end()
        chaos = random.Random(1)
        for _ in range(50):
            client = server.client()
            try:
                client.send(chaos.randbytes(chaos.randrange(1, 20000)))
                client.socket.shutdown(socket.SHUT_WR)
                while client.more():
                    pass
            except (ConnectionResetError, BrokenPipeError):
                pass
            client.close()
        assert server.get("/a.txt")[0] == 200


def connections_stay_open_as_asked(site):
    with Server(site) as server:
        for version, fields, stays in (("1.1", "", True), ("1.1", "Connection: close\r\n", False), ("1.0", "", False),
                                       ("1.0", "connection: x, Keep-Alive\r\n", True), ("1.1", "Content-Length: 3\r\n", False)):
            client = server.client()
            client.send(f"GET /a.txt HTTP/{version}\r\nHost: x\r\n{fields}\r\n")
            status, got, body = client.answer()
            assert (status, body, got["connection"]) == (200, b"a text\n", "keep-alive" if stays else "close"), got
            if stays:
                assert client.get("/")[0] == 200
                client.close()
            else:
                client.expect_end()
        client = server.client()
        client.send("GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n" * 100 + "\r\nHEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + "GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
        assert all(client.answer()[2] == b"a text\n" for _ in range(100))
        assert client.answer(head_only=True)[0] == 200
        assert client.answer()[0] == 404
        for byte in b"GET / HTTP/1.1\nHost: x\n\n":
            client.send(bytes([byte]))
        assert client.answer()[0] == 200
        client.close()


def large_files_arrive_whole_also_slowly(site):
    data = random.Random(2).randbytes(1 << 20) * 24
    write(site, "large.bin", data)
    digest = hashlib.sha256(data).digest()
    with Server(site, "--processes", 1, "--idle-ms", 600000) as server:
        slow = server.client()
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        slow.send("GET /large.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        half = server.client()
        half.send("GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n")
        half.socket.shutdown(socket.SHUT_WR)  # says no more, and listens on
        fast = server.client()  # whom neither holds up
        for _ in range(5):
            assert hashlib.sha256(fast.get("/large.bin")[2]).digest() == digest
        assert fast.get("/a.txt")[2] == b"a text\n"
        fast.close()
        gone = server.client()
        gone.send("GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n")
        gone.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.close()
        assert hashlib.sha256(half.answer()[2]).digest() == digest
        half.expect_end()
        assert hashlib.sha256(slow.answer()[2]).digest() == digest
        slow.expect_end()
    os.remove(os.path.join(site, "large.bin"))


def one_in_time(server, request):
    """A client that has got an answer: not one that this machine was too busy for, and that was sent away as idle."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        client = server.client()
        try:
            client.send(request)
            answer = client.answer()
        except (BrokenPipeError, ConnectionResetError):
            answer = None
        if answer:
            assert answer[0] == 200, answer
            return client
        client.close()
    raise AssertionError("no answer in time")


def clients_that_do_nothing_are_sent_away(site):
    write(site, "large.bin", b"z" * (32 << 20))
    with Server(site, "--idle-ms", 300) as server:
        silent, partial, deaf = server.client(), server.client(), server.client()
        partial.send("GET / HT")
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.send("GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n")
        silent.expect_end()
        partial.expect_end()
        lingering = one_in_time(server, "GET / HTTP/1.0\r\n\r\n")
        lingering.expect_end()
        slow = server.client()  # a byte now and then is not enough
        begun = time.monotonic()
        try:
            while time.monotonic() < begun + PATIENCE:
                slow.send("G")
                time.sleep(0.1)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert time.monotonic() < begun + PATIENCE / 2
        slow.close()
        assert server.settled(server.before) == server.before  # the deaf one as well, who has not closed
        deaf.close()
    os.remove(os.path.join(site, "large.bin"))


def thousands_at_a_time(site):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    n = min(2000, hard - 200)
    with Server(site, "--idle-ms", 600000) as server:
        clients = [server.client() for _ in range(n)]
        for client in clients:
            client.send("GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n")
        assert all(client.answer()[2] == b"a text\n" for client in clients)
        for client in reversed(clients):
            assert client.get("/")[0] == 200
            client.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Visitor(threading.Thread):
    """Asks again and again, with a new connection when one has ended; says how often and when one did."""

    def __init__(self, server):
        super().__init__(daemon=True)  # a test that fails does not wait for it
        self.server, self.good, self.broken, self.goes_on = server, 0, [], True
        self.start()

    def run(self):
        client = None
        while self.goes_on:
            try:
                client = client or self.server.client()
                answer = client.get("/a.txt")
                if answer is None:
                    raise ConnectionResetError
                assert answer[0] == 200 and answer[2] == b"a text\n"
                self.good += 1
            except (ConnectionError, AssertionError, OSError):
                self.broken.append(time.monotonic())
                client = None


def all_go_on(visitors, n):
    """Each of them has got `n` more answers."""
    wanted = [visitor.good + n for visitor in visitors]
    end = time.monotonic() + PATIENCE
    while any(visitor.good < good for visitor, good in zip(visitors, wanted)):
        assert time.monotonic() < end, "it does not go on"
        time.sleep(0.01)


def a_killed_worker_takes_only_its_own_clients(site):
    with Server(site, "--processes", 2) as server:
        visitors = [Visitor(server) for _ in range(20)]
        for _ in range(3):
            all_go_on(visitors, 10)
            victims = server.children()
            assert len(victims) == 2, (victims, server.says())
            before = sum(len(visitor.broken) for visitor in visitors)
            os.kill(victims[0], signal.SIGKILL)
            end = time.monotonic() + PATIENCE
            while len(now := server.children()) < 2 or victims[0] in now:
                assert time.monotonic() < end, "no successor"
                time.sleep(0.01)
            all_go_on(visitors, 10)  # with a connection that outlives the dead, each of them
            assert sum(len(visitor.broken) for visitor in visitors) > before  # whoever was there
        settled = sum(len(visitor.broken) for visitor in visitors)
        all_go_on(visitors, 25)
        assert sum(len(visitor.broken) for visitor in visitors) == settled  # and nobody else
        for visitor in visitors:
            visitor.goes_on = False
        for visitor in visitors:
            visitor.join()
        print(f"    connections that ended with their worker: {settled}")
        for _ in range(20):  # both serve again
            assert server.get("/a.txt")[0] == 200
        server.before = server.settled()


def curl_and_wrk_are_content(site):
    with Server(site) as server:
        base = f"http://127.0.0.1:{server.port}"
        if shutil.which("curl"):
            out = subprocess.run(["curl", "-s", "--noproxy", "*", "-w", "%{http_code} ", f"{base}/a.txt", f"{base}/none", f"{base}/sub/"],
                                 capture_output=True, check=True).stdout
            assert out == b"a text\n200 404 Not Found\n404 below\n200 ", out
        if shutil.which("wrk"):
            out = subprocess.run(["wrk", "-c", "200", "-d", "2", f"{base}/a.txt"], capture_output=True, check=True).stdout.decode()
            print("   ", re.search("Requests/sec.*", out)[0])
            assert "Socket errors" not in out and "Non-2xx" not in out, out


def sigterm_ends_it_whatever_happens(site):
    write(site, "large.bin", b"z" * (32 << 20))
    server = Server(site)
    deaf, silent = server.client(), server.client()
    deaf.send("GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n")
    assert deaf.more()
    workers = server.children()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(PATIENCE) == 0, server.says()
    assert not any(os.path.exists(f"/proc/{pid}") for pid in workers)
    silent.expect_end()
    deaf.close()
    server.process.communicate()
    server.forget()
    os.remove(os.path.join(site, "large.bin"))


def arguments_without_sense_are_refused(site):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments, status, wanted in (
            ([], 2, "a port and a directory are needed"),
            (["0"], 2, "a port and a directory are needed"),
            (["0", "/nonexistent"], 2, "/nonexistent: No such file"),
            (["0", site + "/a.txt"], 2, "Not a directory"),
            (["http", site], 2, "the port is a number from 0 to 65535, not 'http'"),
            (["65536", site], 2, "not '65536'"),
            (["--processes", "0", "0", site], 2, "--processes is a number from 1"),
            (["--idle-ms", "-1", "0", site], 2, "--idle-ms is a number from 1"),
            (["--what", "0", site], 2, "'--what' is no option"),
            ([str(port), site], 1, f"port {port}: Address already in use"),
        ):
            done = subprocess.run([program, *arguments], capture_output=True, timeout=PATIENCE)
            assert done.returncode == status and wanted in done.stderr.decode(), (arguments, done)


program = sys.argv[1]
with tempfile.TemporaryDirectory() as top:
    site_directory = make_site(top)
    for test in (
        files_are_served,
        what_is_not_there_is_said,
        nobody_gets_out_of_the_directory,
        bad_requests_are_refused,
        connections_stay_open_as_asked,
        large_files_arrive_whole_also_slowly,
        clients_that_do_nothing_are_sent_away,
        thousands_at_a_time,
        a_killed_worker_takes_only_its_own_clients,
        curl_and_wrk_are_content,
        sigterm_ends_it_whatever_happens,
        arguments_without_sense_are_refused,
    ):
        print(test.__name__.replace("_", " "), flush=True)
        test(site_directory)
