"""What the programs of bench/ share: how each system is built and run, and what is said about the machine."""

import datetime
import os
import shutil
import statistics
import subprocess
import sys

BENCH = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(BENCH)
PEERS = os.path.join(BENCH, "peers")
BUILD = os.path.join(ROOT, "build-bench")
TIMEOUT_S = 300
NOT_SUPPORTED = 77

CAF_SOURCES = ["bench.cpp", "traffic.cpp", "life.cpp"]
CAF_PROBE = "#include <caf/config.hpp>\nint main() { return CAF_MAJOR_VERSION * 100 + CAF_MINOR_VERSION != 17; }\n"


class Failed(Exception):
    """A build or a run went wrong; the text says how."""


def progress(text):
    print(text, file=sys.stderr, flush=True)


def execute(command, **more):
    """Run it quietly; its output is in the exception when it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}:\n{done.stdout[-3000:]}")
    return done.stdout


def newer(target, sources):
    """True when target is there and no source is younger."""
    if not os.path.exists(target):
        return False
    made = os.path.getmtime(target)
    return all(os.path.getmtime(source) <= made for source in sources)


def files_in(folder):
    return [os.path.join(folder, name) for name in sorted(os.listdir(folder))]


def setup_release(build):
    """A release build of troupe with its benchmarks, unless there is one."""
    if not os.path.exists(os.path.join(build, "build.ninja")):
        execute(["meson", "setup", build, ROOT, "--buildtype=release", "-Dtests=disabled",
                 "-Dexamples=false", "-Dbench=true"])


class Troupe:
    name, title = "troupe", "troupe"

    def version(self):
        done = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return done.stdout.strip() or "unknown"

    def missing(self):
        return [] if shutil.which("meson") else ["meson"]

    def build(self, build):
        setup_release(build)
        execute(["ninja", "-C", build, "bench/bench_actors", "bench/count_malloc.so"])
        self.program = os.path.join(build, "bench", "bench_actors")
        self.count_malloc = os.path.join(build, "bench", "count_malloc.so")

    def command(self, workload, threads, actors, messages, width):
        return [self.program, workload, "--threads", str(threads), "--actors", str(actors),
                "--messages", str(messages), "--width", str(width)]

    def sizes(self, scale):
        """{workload: (actors, messages, width)}: the table in bench_actors.c."""
        lines = execute([self.program, "list", "--scale", str(scale)]).splitlines()
        return {name: tuple(map(int, rest)) for name, *rest in map(str.split, lines)}


class Erlang:
    name, title = "erlang", "Erlang"

    def version(self):
        release = 'io:format("OTP ~s", [erlang:system_info(otp_release)]), halt().'
        return execute(["erl", "-noshell", "-noinput", "-eval", release])

    def missing(self):
        return [tool for tool in ("erl", "erlc") if not shutil.which(tool)]

    def build(self, build):
        self.folder = os.path.join(build, "peers", "erlang")
        source = os.path.join(PEERS, "erlang", "bench.erl")
        os.makedirs(self.folder, exist_ok=True)
        if not newer(os.path.join(self.folder, "bench.beam"), [source]):
            execute(["erlc", "+inline", "-o", self.folder, source])

    def command(self, workload, threads, *sizes):
        return ["erl", "-noshell", "-noinput", "+P", "4000000", "+S", f"{threads}:{threads}",
                "-pa", self.folder, "-s", "bench", "main", workload, str(threads), *map(str, sizes)]


class Go:
    name, title = "go", "Go"

    def version(self):
        return execute(["go", "version"]).split()[2]

    def missing(self):
        return [] if shutil.which("go") else ["go"]

    def build(self, build):
        folder = os.path.join(PEERS, "go")
        self.program = os.path.join(build, "peers", "bench_go")
        if not newer(self.program, files_in(folder)):
            execute(["go", "build", "-o", self.program, "."], cwd=folder)

    def command(self, workload, threads, *sizes):
        return [self.program, workload, str(threads), *map(str, sizes)]


def cxx():
    return os.environ.get("CXX", "c++")


def compiles(compiler, language, text):
    """True when the compiler is there and finds the headers that the text includes."""
    if not shutil.which(compiler):
        return False
    done = subprocess.run([compiler, "-x", language, "-E", "-"], input=text, text=True,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return done.returncode == 0


class Caf:
    name, title = "caf", "CAF"

    def version(self):
        return "0.17"

    def missing(self):
        if not shutil.which(cxx()):
            return [cxx()]
        return [] if compiles(cxx(), "c++", CAF_PROBE) else ["the headers of CAF"]

    def build(self, build):
        folder = os.path.join(PEERS, "caf")
        self.program = os.path.join(build, "peers", "bench_caf")
        if not newer(self.program, files_in(folder)):
            progress("building the CAF programs, which takes a while")
            execute([cxx(), "-std=c++17", "-O3", "-DNDEBUG", "-o", self.program,
                     *CAF_SOURCES, "-lcaf_core", "-pthread"], cwd=folder)

    command = Go.command


ALL_PEERS = [Erlang, Go, Caf]


def build_systems(build, wanted):
    """troupe and those of the wanted peers that are installed, all built, troupe first."""
    systems = []
    os.makedirs(os.path.join(build, "peers"), exist_ok=True)
    for kind in [Troupe, *wanted]:
        system = kind()
        missing = system.missing()
        if missing and kind is Troupe:
            raise Failed(f"{', '.join(missing)} not found; scripts/setup installs what is missing")
        if missing:
            progress(f"{system.title} is skipped: {', '.join(missing)} not found; "
                     "to install it: scripts/setup --bench")
            continue
        progress(f"building {system.title}")
        try:
            system.build(build)
        except Failed as error:
            if kind is Troupe:
                raise
            progress(f"{system.title} is skipped: it does not build: {error}")
            continue
        systems.append(system)
    return systems


def parse(line):
    """{name: value} of the line a program prints; numbers where they are numbers."""
    found = {}
    for pair in line.split():
        name, _, value = pair.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = value
    return found


def run(system, workload, threads, sizes, prefix=()):
    """One run: the pairs of the line it printed; None when the system cannot do this workload."""
    return run_command([*prefix, *system.command(workload, threads, *sizes)], GOMAXPROCS=str(threads))


def run_command(command, timeout=TIMEOUT_S, **environment):
    """The pairs of the line that it prints; None when it says that this workload is not for it."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, timeout=timeout, env=dict(os.environ, ERL_CRASH_DUMP_BYTES="0", **environment))
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(command)}: no end after {timeout} s") from None
    if done.returncode == NOT_SUPPORTED:
        return None
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}: status {done.returncode}: {done.stderr.strip()[-500:]}")
    return parse(done.stdout)


def number(value):
    """Three digits, as one would say it."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def cell(found):
    """Median and spread."""
    if not found:
        return "-"
    return f"{number(statistics.median(found))} [{number(min(found))}-{number(max(found))}]"


def print_lines(lines):
    """Rows of cells, as columns."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip())


def machine():
    """One line about where this runs."""
    model = "unknown CPU"
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith(("model name", "CPU part")):
                model = line.split(":", 1)[1].strip()
                break
    return f"{model}, {os.cpu_count()} CPUs, {os.uname().sysname} {os.uname().machine}"


def today():
    return datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")


class Stolen:
    """How much of the CPU time the hypervisor gave to others since this was made."""

    def __init__(self):
        self.before = busy_and_stolen()

    def percent(self):
        busy, stolen = (now - then for now, then in zip(busy_and_stolen(), self.before))
        return round(100 * stolen / max(1, busy + stolen), 1)


def busy_and_stolen():
    """(jiffies of CPU time used on this machine, jiffies that the hypervisor gave to others)."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return user + nice + system + irq + softirq, steal


def add_build_option(parser):
    parser.add_argument("--build", default=BUILD, metavar="DIR",
                        help="where to build, or an existing release build (default: build-bench)")


def main(function):
    """Run a tool's main; an expected failure is one line, Ctrl-C is silent."""
    try:
        sys.exit(function())
    except Failed as error:
        print(f"{os.path.basename(sys.argv[0])}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
