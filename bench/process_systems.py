"""What bench/compare-processes measures: each system's programs of two processes, how they are built and run."""

import os
import secrets
import shutil
import socket
import sys

import systems
from systems import PEERS, Failed, compiles, execute, newer

PAIR = os.path.join(PEERS, "pair")


def cc():
    return os.environ.get("CC", "cc")


class Troupe:
    name, title, package = "troupe", "troupe", "nothing but the source"
    version = systems.Troupe.version

    def missing(self):
        return systems.Troupe.missing(self)

    def build(self, build):
        systems.setup_release(build)
        execute(["ninja", "-C", build, "bench/bench_links", "bench/bench_handles"])
        self.program = os.path.join(build, "bench", "bench_links")
        self.handles = os.path.join(build, "bench", "bench_handles")

    def command(self, workload, messages):
        if workload.startswith("handles-"):
            return [self.handles, workload.removeprefix("handles-"), "--messages", str(messages)]
        return [self.program, workload, "--messages", str(messages)]


class InC:
    """A program of peers/NAME/links.c and peers/pair/, linked with a library or two."""

    def missing(self):
        if not shutil.which(cc()):
            return [cc()]
        return [] if compiles(cc(), "c", f"#include <{self.header}>\n") else [f"<{self.header}>"]

    def version(self):
        return execute(["pkg-config", "--modversion", self.pkg]).strip() if self.pkg else ""

    def build(self, build):
        sources = [os.path.join(PAIR, "pair.c"), os.path.join(PEERS, self.name, "links.c")]
        self.program = os.path.join(build, "peers", f"bench_{self.name}")
        if not newer(self.program, [*sources, os.path.join(PAIR, "pair.h")]):
            execute([cc(), "-std=gnu11", "-O3", "-DNDEBUG", f"-I{PAIR}", "-o", self.program, *sources,
                     *self.libraries])

    def command(self, workload, messages):
        return [self.program, workload, str(messages)]


class Zmq(InC):
    name, title, package = "zmq", "libzmq", "libzmq3-dev"
    header, pkg, libraries = "zmq.h", "libzmq", ["-lzmq"]


class Seqpacket(InC):
    name, title, package = "seqpacket", "SEQPACKET", "libc6-dev"
    header, libraries = "sys/un.h", []

    def version(self):
        return f"of Linux {os.uname().release}"


class Memory(InC):
    name, title, package = "memory", "memory itself", "libc6-dev"
    header, libraries = "sys/mman.h", ["-D_GNU_SOURCE"]

    def version(self):
        return f"of Linux {os.uname().release}"


class Czmq(InC):
    name, title, package = "czmq", "CZMQ", "libczmq-dev"
    header, pkg, libraries = "czmq.h", "libczmq", ["-lczmq", "-lzmq"]


class Nng(InC):
    name, title, package = "nng", "NNG", "libnng-dev"
    header, libraries = "nng/nng.h", ["-lnng"]

    def version(self):
        found = execute([cc(), "-E", "-dM", "-include", "nng/nng.h", "-x", "c", "/dev/null"])
        values = dict(line.split()[1:3] for line in found.splitlines() if line.startswith("#define NNG_M"))
        return f"{values['NNG_MAJOR_VERSION']}.{values['NNG_MINOR_VERSION']}"


class Erlang:
    name, title, package = "erlang", "Erlang", "erlang-base"
    version = systems.Erlang.version
    missing = systems.Erlang.missing

    def build(self, build):
        self.folder = os.path.join(build, "peers", "erlang")
        source = os.path.join(PEERS, "erlang", "links.erl")
        os.makedirs(self.folder, exist_ok=True)
        if not newer(os.path.join(self.folder, "links.beam"), [source]):
            execute(["erlc", "+inline", "-o", self.folder, source])

    def command(self, workload, messages):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        cookie = secrets.token_hex(8)
        return ["erl", "-noinput", "-noshell", "-name", "near@127.0.0.1", "-setcookie", cookie,
                "-start_epmd", "false", "-erl_epmd_port", port, "-dist_listen", "false", "-pa", self.folder,
                "-s", "links", "main", workload, str(messages), port, cookie, self.folder]


class Caf:
    name, title, package = "caf", "CAF io", "libcaf-dev"
    version = systems.Caf.version

    def missing(self):
        missing = systems.Caf.missing(self)
        if not missing and not compiles(systems.cxx(), "c++", "#include <caf/io/all.hpp>\n"):
            return ["the headers of CAF's io module"]
        return missing

    def build(self, build):
        source = os.path.join(PEERS, "caf-io", "links.cpp")
        self.program = os.path.join(build, "peers", "bench_caf_io")
        if not newer(self.program, [source]):
            execute([systems.cxx(), "-std=c++17", "-O3", "-DNDEBUG", "-o", self.program, source,
                     "-lcaf_io", "-lcaf_core", "-pthread"])

    command = InC.command


class Python:
    name, title, package = "python", "Python", "python3"

    def missing(self):
        return []

    def version(self):
        return ".".join(map(str, sys.version_info[:3]))

    def build(self, build):
        self.program = os.path.join(PEERS, "python", "links.py")

    def command(self, workload, messages):
        return [sys.executable, self.program, workload, str(messages)]


ALL = [Troupe, Zmq, Memory, Czmq, Nng, Seqpacket, Erlang, Caf, Python]


def build_systems(build, wanted):
    """{name: system} of those that are here and build; the others are skipped, by name."""
    built = {}
    os.makedirs(os.path.join(build, "peers"), exist_ok=True)
    for kind in wanted:
        system = kind()
        missing = system.missing()
        if missing:
            systems.progress(f"{system.title} is skipped: {', '.join(missing)} not found; to install it: "
                             f"scripts/setup --bench (Debian's package {system.package})")
            continue
        systems.progress(f"building {system.title}")
        try:
            system.build(build)
        except Failed as error:
            systems.progress(f"{system.title} is skipped: it does not build: {error}")
            continue
        built[system.name] = system
    return built
