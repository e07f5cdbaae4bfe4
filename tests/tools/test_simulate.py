#!/usr/bin/env python3
"""test_simulate - does `troupe simulate` find, minimise and repeat failures, and clean up behind bad programs?

usage: test_simulate.py TROUPE FAKE

FAKE is a program that behaves as a simulated one, and fails when it is told to: see fake.c.
"""

import fcntl
import json
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time

PATIENCE = 120  # seconds for what must happen; only a failing test waits that long


def arguments_of(options, program):
    return [troupe, "simulate", *map(str, options), "--", fake, *map(str, program)]


def run(options, program, status, **more):
    """Standard output and error, when the exit status is the wanted one."""
    done = subprocess.run(arguments_of(options, program), stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=PATIENCE, check=False, **more)
    out, error = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == status, (options, program, done.returncode, out, error)
    assert "Sanitizer" not in error, error
    return out, error


def run_json(options, program, status):
    return json.loads(run(["--json", *options], program, status)[0])


def only(result):
    assert len(result["failures"]) == 1, result
    return result["failures"][0]


def repeat(command):
    """Exit status and hash of what is said to repeat the failure."""
    done = subprocess.run(["sh", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False)
    found = re.findall(r"^trace hash ([0-9a-f]{16})", done.stderr.decode(), re.MULTILINE)
    return done.returncode, found[-1] if found else None


def left_behind():
    """Processes that still run our fake."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/exe") == os.path.realpath(fake):
                found.append(int(pid))
        except OSError:
            pass
    return found


# ---- tests ----------------------------------------------------------------------------------------


def seeds_that_pass():
    result = run_json(["--seeds", 30, "--jobs", 3, "--faults", "random"], ["needs", "nothing", 0, 0], 0)
    assert result["seeds"] == result["passed"] == result["different_hashes"] == 30 and result["failures"] == []
    assert (result["first_seed"], result["last_seed"], result["jobs"]) == (1, 30, 3)
    assert result["simulated_seconds"] == 75 and result["events"] == 30 * 1234
    assert result["steps"] == 30 * 890 and result["choices"] == 30_000
    assert result["faults"] == 360 == sum(result["faults_by_kind"].values()), result
    assert set(result["faults_by_kind"]) == {"crash", "pause", "part", "cut", "slow"}
    out, error = run(["--seeds", "11-20"], ["random"], 1)  # one of them fails
    assert "11 to 20" in out and error == ""
    out, error = run(["--seed", 3], ["random"], 0)
    assert re.search(r"^passed +1$", out, re.MULTILINE) and re.search(r"^simulated +2.5 s ", out, re.MULTILINE), out
    assert run(["--seed", 3, "--quiet"], ["random"], 0) == ("", "")


def exactly_the_needed_faults_and_choices_are_found():
    for needed, choices in (("crash worker-1", 310), ("crash worker-1+part a b", 1), ("cut a b", 999),
                            ("slow a+crash worker-2+pause worker-1", 64), ("", 500), ("cut a b", 0)):
        found = only(run_json(["--seed", 42, "--faults", "random"], ["needs", needed, choices, 0], 1))
        assert found["choices"] == choices, found
        wanted = sorted(needed.split("+")) if needed else []
        assert sorted(re.sub(r"^at \S+ | \(.*?\)| \d* ?for .*", "", fault) for fault in found["faults"]) == wanted, found
        assert found["kind"] == "check" and found["what"].startswith("at step 120 there were 2"), found
        assert "node-77" not in found["command"] and ("node-77" in str(found["faults"])) == ("slow" in needed), found
        assert found["faults_before"] == 12 and found["minimised"] and not found["stopped"] and found["repeats"], found
        assert repeat(found["command"]) == (1, found["hash"]), found
        assert found["runs"] <= 150, found


def many_jobs_find_what_one_does():
    for needed in ("crash worker-1+part a b", "pause worker-1", "crash worker-2+cut a b+slow a"):
        found = [only(run_json(["--seed", 7, "--faults", "random", "--jobs", jobs], ["needs", needed, 310, 50], 1))
                 for jobs in (1, 2, 9)]
        assert len({one["command"] for one in found}) == 1, found
        assert not left_behind()


def times_become_short_and_round():
    found = only(run_json(["--seed", 42, "--faults", "random"], ["needs", "crash worker-1+part", 0, 100], 1))
    assert found["faults"] == ["at 40ms crash worker-1 for 100ms", "at 100ms part a b for 100ms"], found
    assert found["simulate"] == "42; choices 0; " + "; ".join(found["faults"])


def faults_that_were_given_are_minimised_as_well():
    faults = "; ".join(f"at {n}s crash worker-{n}" for n in range(1, 9))
    found = only(run_json(["--seed", 5, "--faults", faults, "--limit", "20s"], ["needs", "worker-3+worker-7", 17, 0], 1))
    assert found["simulate"] == "5; choices 17; limit 20s; at 3s crash worker-3; at 7s crash worker-7", found
    out, _ = run(["--seed", 5, "--faults", faults, "--no-minimise"], ["needs", "worker-3", 0, 0], 1)
    assert f"TROUPE_SIMULATE='5; {faults}' " in out and "minimised" not in out, out


def the_search_is_bounded():
    found = only(run_json(["--seed", 42, "--faults", "random", "--minimise-runs", 5], ["needs", "slow+part", 310, 0], 1))
    assert found["stopped"] and found["runs"] <= 5 and found["repeats"], found
    assert repeat(found["command"]) == (1, found["hash"])


def too_many_faults_for_a_list():
    found = only(run_json(["--seed", 42, "--faults", "random many"], ["needs", "slow+part", 310, 0], 1))
    assert found["faults"] == ["random many"] and found["choices"] == 310 and found["faults_before"] == 4096, found
    assert "too many for a list" in run(["--seed", 42, "--faults", "random many"], ["needs", "slow+part", 310, 0], 1)[0]


def commands_are_quoted_for_the_shell():
    strange = "a'b \"c\" $HOME `id` \\ *\n;"
    found = only(run_json(["--seed", 9], ["needs", "", 0, 0, strange, "", "-x"], 1))
    words = shlex.split(found["command"])
    assert words == ["TROUPE_SIMULATE=9; choices 0", fake, "needs", "", "0", "0", strange, "", "-x"], words
    assert repeat(found["command"]) == (1, found["hash"])


def the_text_for_people_says_it_all():
    out, error = run(["--seeds", 7, "--faults", "random", "--jobs", 1], ["needs", "crash worker-1", 310, 0], 1)
    assert error == ""
    for wanted in (r"^seeds +1  of 7, 1 to 7$", r"^failed +1$", r"^faults +12  crash \d", r"^hashes +1  different",
                   r"^FAILED  seed 1: at step 120 there were 2 leaders, not \"one\"$",
                   r"^  \| seed 1$", r"^    1 of 12 faults:$", r"^      at \S+  crash worker-1 for ",
                   r"first 310 choices of the schedule are random, of 1,000; the smallest number found$",
                   r"done twice: the same failure, hash [0-9a-f]{16}"):
        assert re.search(wanted, out, re.MULTILINE), (wanted, out)
    command = out.splitlines()[-1].strip()
    assert command.startswith("TROUPE_SIMULATE='1; choices 310; at ") and repeat(command)[0] == 1, command


def all_failures_where_that_is_wanted():
    result = run_json(["--seeds", 100, "--keep-going"], ["random"], 1)
    failure = only(result)
    assert result["seeds"] == 100 and failure["count"] == result["failed"] == len(failure["seeds"]) > 3
    assert failure["seeds"] == sorted(failure["seeds"]) and failure["seed"] == failure["seeds"][0]
    assert failure["choices"] == 0 and failure["faults"] == []
    first = run_json(["--seeds", 100, "--jobs", 4], ["random"], 1)
    assert only(first)["seed"] == failure["seed"] and first["seeds"] < 100, first


def however_it_ends():
    for program, kind, number, wanted in (
        (["status", 3, 2], "status", 3, "exit status 3"),
        (["signal", int(signal.SIGSEGV), 2], "signal", 11, "ended by signal 11, Segmentation fault"),
        (["signal", int(signal.SIGKILL), 2], "signal", 9, "ended by signal 9, Killed"),
        (["sanitizer"], "status", 1, "SUMMARY: AddressSanitizer: heap-use-after-free shop.c:12 in sell (exit status 1)"),
        (["signal", int(signal.SIGABRT)], "signal", 6, "ended by signal 6, Aborted"),  # each seed at once
        (["overlong"], "check", None, "?[31mred?[0m"),
    ):
        found = only(run_json(["--seeds", 3, "--minimise-runs", 10], program, 1))
        assert (found["kind"], found.get("number"), found["what"]) == (kind, number, wanted), found
        assert found["repeats"], found
    assert all(len(line) <= 4096 for line in found["output"]) and "no end" in found["output"], found
    assert "its last line is another then: no shop\n" in run(["--seed", 1], ["moody"], 1)[0]
    assert "is it linked with troupe?" in run(["--seed", 1, "--no-minimise"], ["signal", 6], 1)[0]


def a_run_that_does_not_end():
    began = time.monotonic()
    found = only(run_json(["--seed", 1, "--timeout", "200ms", "--minimise-runs", 3], ["hang"], 1))
    assert found["kind"] == "timeout" and found["runs"] <= 3 and found["repeats"], found
    assert 0.8 < time.monotonic() - began < 60 and not left_behind()


def a_run_that_writes_without_end():
    process = subprocess.Popen(arguments_of(["--json", "--seed", 1, "--timeout", "700ms", "--no-minimise"], ["flood"]),
                               stdout=subprocess.PIPE)
    found = only(json.loads(process.stdout.read()))
    process.stdout.close()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 1 and found["kind"] == "timeout" and len(found["output"]) == 12
    assert used.ru_maxrss < 200_000, used.ru_maxrss  # KiB; a sanitizer takes most of it
    assert not left_behind()


def children_are_not_left_behind():
    for jobs in (1, 3):
        result = run_json(["--seeds", 6, "--jobs", jobs], ["children"], 0)
        assert result["passed"] == 6 and not left_behind()


def nobody_waits_for_standard_input():
    read, write = os.pipe()
    done = subprocess.run(arguments_of(["--seeds", 2], ["deaf"]), stdin=read, capture_output=True, timeout=PATIENCE, check=False)
    os.close(read)
    os.close(write)
    assert done.returncode == 0, done


def without_standard_descriptors():
    command = f"exec {shlex.join(arguments_of(['--seeds', 3], ['needs', 'x', 0, 0]))} <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], timeout=PATIENCE, check=False).returncode == 0
    if os.path.exists("/dev/full"):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(arguments_of(["--seeds", 1], ["needs", "x", 0, 0]), stdout=full, stderr=subprocess.PIPE,
                                  timeout=PATIENCE, check=False)
        assert done.returncode == 3 and b"standard output" in done.stderr, done


def what_is_not_deterministic_is_found():
    assert run_json(["--seeds", 3], ["unsteady"], 0)["hashes_checked"] is False
    result = run_json(["--seeds", 3, "--check-hash"], ["unsteady"], 1)
    assert result["failures"][0]["kind"] == "two hashes" and result["failures"][0]["repeats"] is False
    assert "TWO RUNS, TWO HASHES" in run(["--seed", 3, "--check-hash"], ["unsteady"], 1)[0]
    assert run_json(["--seeds", 20, "--check-hash"], ["needs", "x", 0, 0], 0)["hashes_checked"] is True
    with tempfile.TemporaryDirectory() as directory:
        found = only(run_json(["--seed", 3], ["once", directory + "/1"], 1))
        assert found["repeats"] is False and found["hash"] is None and not found["minimised"], found
        assert "IT DOES NOT REPEAT" in run(["--seed", 3], ["once", directory + "/2"], 1)[0]


def what_cannot_be_simulated():
    for program, wanted in (
        ([fake, "unlinked"], "linked with troupe"),
        ([fake, "unlinked", "1"], "exit status 1, and no trace line, with each of"),
        ([fake, "picky"], "TROUPE_SIMULATE: there is no fault"),
        (["/nonexistent/program"], "/nonexistent/program: No such file"),
        (["no-such-program-anywhere"], "not in PATH"),
        (["/"], "it is no file"),
        ([__file__.rsplit("/", 1)[0] + "/meson.build"], "not executable"),
    ):
        done = subprocess.run([troupe, "simulate", "--", *program], capture_output=True, timeout=PATIENCE, check=False)
        assert done.returncode == 3 and wanted in done.stderr.decode() and not done.stdout, (program, done)
    _, error = run(["--faults", "explode"], ["picky"], 2)
    assert "there is no fault 'explode'" in error, error
    with tempfile.TemporaryDirectory() as directory:
        path = directory + "/text"
        with open(path, "w", encoding="ascii") as file:
            file.write("echo this has no #!\n")
        os.chmod(path, 0o755)
        done = subprocess.run([troupe, "simulate", "--", path], capture_output=True, timeout=PATIENCE, check=False)
        assert done.returncode == 3 and b"no program, nor a script" in done.stderr, done
        os.symlink(fake, directory + "/in-path")
        environment = dict(os.environ, PATH=f"/nonexistent::{directory}")
        done = subprocess.run([troupe, "simulate", "--seed", "1", "--", "in-path", "needs", "x", "0", "0"],
                              env=environment, capture_output=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0, done


def arguments_without_sense_are_refused():
    for arguments, wanted in (
        ([], "what shall it do?"),
        (["simulat"], "there is no verb 'simulat'"),
        (["simulate"], "which program?"),
        (["simulate", "--"], "which program?"),
        (["simulate", fake], "put -- before the program"),
        (["simulate", "--seeds", "0", "--", fake], "--seeds wants how many"),
        (["simulate", "--seeds", "5-3", "--", fake], "not '5-3'"),
        (["simulate", "--seeds", "-5", "--", fake], "not '-5'"),
        (["simulate", "--seeds", "many", "--", fake], "not 'many'"),
        (["simulate", "--seeds", "1000000000", "--", fake], "at most 10000000 at a time, such as --seeds 1-10000000"),
        (["simulate", "--seeds", "99999999999999999999", "--", fake], "--seeds wants"),
        (["simulate", "--seed", "0", "--", fake], "--seed wants a number from 1 on"),
        (["simulate", "--jobs=0", "--", fake], "--jobs wants a number from 1 to 1024, not '0'"),
        (["simulate", "--timeout", "60", "--", fake], "--timeout wants a time"),
        (["simulate", "--timeout", "0s", "--", fake], "--timeout wants a time"),
        (["simulate", "--limit", "soon", "--", fake], "--limit wants a time"),
        (["simulate", "--faults", " ;", "--", fake], "--faults is empty"),
        (["simulate", "--faults", "a\nb", "--", fake], "not line ends"),
        (["simulate", "--what", "--", fake], "no option '--what'"),
        (["simulate", "-j2", "--", fake], "no option '-j2'"),
        (["simulate", "--json=yes", "--", fake], "--json takes no value"),
        (["simulate", "--seeds"], "--seeds lacks its N"),
    ):
        done = subprocess.run([troupe, *arguments], capture_output=True, timeout=PATIENCE, check=False)
        error = done.stderr.decode()
        assert done.returncode == 2 and wanted in error and "--help" in error and not done.stdout, (arguments, done)
    long = "at 1s heal;" * 11900  # one argument may have 128 KiB, and so may TROUPE_SIMULATE
    assert "too long" in run(["--faults", long], ["random"], 2)[1]
    for arguments in (["--help"], ["simulate", "--help"], ["--version"]):
        done = subprocess.run([troupe, *arguments], capture_output=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0 and b"troupe" in done.stdout and not done.stderr, done


def interrupted_there_is_still_a_summary():
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = subprocess.Popen(arguments_of(["--json", "--seeds", 1000000], ["needs", "x", 0, 0]), stdout=subprocess.PIPE)
        time.sleep(0.5)
        process.send_signal(number)
        out = process.communicate(timeout=PATIENCE)[0]
        result = json.loads(out)
        assert process.returncode == status and result["interrupted"] and result["seeds"] < 1000000, out
        assert result["failures"] == [] and not left_behind()
    process = subprocess.Popen(arguments_of(["--seed", 1, "--timeout", "300ms"], ["hang"]), stdout=subprocess.PIPE)
    out = b""
    while b"FAILED" not in out:  # now it minimises
        out += process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out += process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 1 and b"TROUPE_SIMULATE=1 " in out and b"interrupted" in out, out
    assert not left_behind()


def on_a_terminal_it_shows_how_far_it_is():
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(TERM="xterm")
        os.environ.pop("NO_COLOR", None)
        command = arguments_of(["--seeds", 1000000], ["random"])
        command[2:2] = ["--keep-going"]
        os.execv(troupe, command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 50, 0, 0))
    out, began, is_stopped = b"", time.monotonic(), False
    while time.monotonic() - began < PATIENCE:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                out += os.read(terminal, 65536)
            except OSError:
                break
        if out.count(b"\033[K") > 5 and not is_stopped:
            os.write(terminal, b"\x03")  # Ctrl-C, as from the keyboard
            is_stopped = True
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    lines = [line for line in out.split(b"\r") if b" of 1,000,000 seeds" in line]
    assert lines and all(len(line.split(b"\033")[0]) <= 80 for line in lines), out
    assert any(len(line.split(b"\033")[0]) == 49 for line in lines), lines
    assert os.waitstatus_to_exitcode(status) == 1 and b"\033[31m\033[1mFAILED" in out, (status, out)
    assert b"interrupted" in out and not left_behind(), out


troupe, fake = map(os.path.abspath, sys.argv[1:3])
os.environ.pop("TROUPE_SIMULATE", None)
for test in (
    seeds_that_pass,
    exactly_the_needed_faults_and_choices_are_found,
    many_jobs_find_what_one_does,
    times_become_short_and_round,
    faults_that_were_given_are_minimised_as_well,
    the_search_is_bounded,
    too_many_faults_for_a_list,
    commands_are_quoted_for_the_shell,
    the_text_for_people_says_it_all,
    all_failures_where_that_is_wanted,
    however_it_ends,
    a_run_that_does_not_end,
    a_run_that_writes_without_end,
    children_are_not_left_behind,
    nobody_waits_for_standard_input,
    without_standard_descriptors,
    what_is_not_deterministic_is_found,
    what_cannot_be_simulated,
    arguments_without_sense_are_refused,
    interrupted_there_is_still_a_summary,
    on_a_terminal_it_shows_how_far_it_is,
):
    print(test.__name__.replace("_", " "), flush=True)
    test()
