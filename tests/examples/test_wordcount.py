#!/usr/bin/env python3
"""test_wordcount - does examples/wordcount count right, whoever dies?

usage: test_wordcount.py WORDCOUNT

The counts are compared with those of a few lines of Python. Each run has a run directory of its own, and leaves
neither processes nor sockets behind.
"""

import collections
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

from program import Program, write

PATIENCE = 120  # seconds for what must happen; only a failing test waits that long


def python_count(*texts):
    """The same definition of a word, in another language."""
    counts = collections.Counter()
    for text in texts:
        for word in re.findall(rb"[A-Za-z0-9\x80-\xff]+", text):
            if not word[:63].isdigit():
                counts[word[:63].lower()] += 1  # both know ASCII only, as we want
    return counts


class Run(Program):
    """One run of the program, started; its result by finish()."""

    def __init__(self, *arguments, **options):
        super().__init__(program, *arguments, **options)

    def finish(self, status=0):
        out = self.process.communicate(timeout=PATIENCE)[0]
        self.error = self.says()
        assert self.process.returncode == status, (self.process.returncode, self.error)
        self.expect_nothing_left()
        return out.decode()

    def json(self):
        return json.loads(self.finish())


def run_json(*arguments):
    return Run("--json", *arguments).json()


def is_alive(pid):
    """Not so one that has ended, and whose heir has not looked yet."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def expect(result, counts):
    """Every single word."""
    top = {entry["word"].encode(): entry["count"] for entry in result["top"]}
    assert top == dict(counts), (len(top), len(counts), dict(list(set(top.items()) ^ set(counts.items()))[:5]))
    assert result["words"] == sum(counts.values()) and result["different"] == len(counts)


def make_text(chaos, size):
    """Words of all lengths and scripts, so that pieces of any size end within them."""
    letters = ["a", "B", "c", "Z", "0", "ä", "Ж", "語"]
    vocabulary = ["".join(chaos.choices(letters, k=int(chaos.expovariate(0.15)) + 1)) for _ in range(3000)]
    vocabulary += ["x" * 62, "y" * 63, "z" * 64, "w" * 65, "v" * 200, "u" * 5000]
    parts, length = [], 0
    while length < size:
        part = chaos.choice(vocabulary).encode() + chaos.choice([b" ", b"\n", b", ", b"'", b"\0", b"--"])
        parts.append(part)
        length += len(part)
    return b"".join(parts)


# A cut at 63 bytes may split a character: the program prints such bytes as '?'.
def shown(word):
    return re.sub("[\ufffd\udc80-\udcff]", "?", word.decode(errors="surrogateescape")).encode()


def as_shown(counts):
    result = collections.Counter()
    for word, count in counts.items():
        result[shown(word)] += count
    return result


# ---- tests ----------------------------------------------------------------------------------------


def every_word_is_counted_however_the_text_is_cut():
    chaos = random.Random(4)
    text = make_text(chaos, 200_000)
    with tempfile.TemporaryDirectory() as directory:
        path = write(directory, "text", text)
        counts = python_count(text)
        for arguments in (["--processes", 0], ["--processes", 1, "--chunk", 1], ["--processes", 2, "--chunk", 7],
                          ["--processes", 2, "--threads", 3, "--chunk", 1], ["--processes", 0, "--threads", 2]):
            print("   ", *arguments, flush=True)
            result = run_json(*arguments, "--top", 10000, "--verify", path)
            assert result["verified"] is True and result["bytes"] == len(text) and result["files"] == 1
            assert result["different"] == len(counts) and result["words"] == sum(counts.values())
            got = collections.Counter()
            for entry in result["top"]:
                got[entry["word"].encode()] += entry["count"]
            assert got == as_shown(counts)
            assert sum(process["bytes"] for process in result["processes"]) == len(text)


def a_tree_of_small_and_large_files():
    chaos = random.Random(5)
    with tempfile.TemporaryDirectory() as directory:
        texts = []
        for i in range(300):
            words = [chaos.choice(["tea", "Tea", "cup", "pot", "leaf"]) for _ in range(chaos.randrange(200))]
            texts.append(" ".join(words).encode())
            write(directory, f"{i % 7}/{i % 11}/{i}", texts[-1])
        texts.append(b"milk " * 60_000)
        write(directory, "large", texts[-1])
        texts.append(b"")
        write(directory, "empty", b"")
        os.symlink(directory, os.path.join(directory, "1", "loop"))
        os.symlink("large", os.path.join(directory, "again"))
        os.symlink("nowhere", os.path.join(directory, "broken"))
        os.mkfifo(os.path.join(directory, "fifo"))
        result = run_json("--processes", 2, "--chunk", 16, "--verify", directory)
        expect(result, python_count(*texts))
        assert result["files"] == len(texts) and result["unreadable"] == 0, result
        some = run_json("--processes", 1, "--skip", "[0-9]*", "--verify", directory)
        assert some["verified"] is True and some["files"] == 2 and some["different"] == 1, some
        twice = run_json("--processes", 1, directory + "/again", directory + "/large")  # a link that is given is meant
        expect(twice, python_count(texts[-2], texts[-2]))


def nothing_is_also_a_text():
    with tempfile.TemporaryDirectory() as directory:
        result = run_json("--processes", 1, "--verify", directory)
        assert result["words"] == 0 and result["files"] == 0 and result["top"] == [] and result["verified"] is True
        out = Run("--processes", 1, write(directory, "none", b" \n\t--\n")).finish()
        assert "0 words, 0 different ones, in 1 files" in out, out


def what_cannot_be_read_is_reported_and_skipped():
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        write(directory, "good", b"one two two")
        for i in range(15):
            os.chmod(write(directory, f"closed{i}", b"three"), 0)
        os.mkdir(os.path.join(directory, "shut"), 0)
        options = {}
        if os.geteuid() == 0:  # whom nothing is closed to
            if subprocess.run([program, "--top"], user=65534, capture_output=True).returncode != 2:
                print("    skipped: root, and nobody else may run the program")
                return
            options["user"] = 65534
        run = Run("--json", "--processes", 1, "--verify", directory, **options)
        result = run.json()
        expect(result, python_count(b"one two two"))
        assert result["unreadable"] == 16 and result["files"] == 1 and result["verified"] is True, result
        assert run.error.count("Permission denied (skipped)") == 10 and "and 6 more" in run.error, run.error
        os.chmod(os.path.join(directory, "shut"), 0o700)


def bytes_that_are_no_text_are_printed_as_question_marks():
    with tempfile.TemporaryDirectory() as directory:
        data = random.Random(6).randbytes(300_000) + b" \xc2\x9b[2J \xff\xfe \"quoted\\\" "
        result = run_json("--processes", 1, "--chunk", 2, "--top", 10000, "--verify", write(directory, "noise", data))
        counts = python_count(data)
        assert result["words"] == sum(counts.values()) and result["different"] == len(counts)
        assert all(ord(letter) >= 32 and not 0x7F <= ord(letter) < 0xA0 for e in result["top"] for letter in e["word"])


def a_killed_process_costs_nothing_but_time():
    text = make_text(random.Random(7), 3_000_000)
    with tempfile.TemporaryDirectory() as directory:
        path = write(directory, "text", text)
        counts = python_count(text)
        for processes in (1, 3):
            redone = 0
            for _ in range(20):  # what it had may all have been answered just before
                run = Run("--json", "--processes", processes, "--chunk", 16, "--kill-one", "--verify", path)
                result = run.json()
                assert result["verified"] is True and result["words"] == sum(counts.values()), result
                redone = result["redone"]
                if redone > 0:
                    break
            assert redone > 0, result
            assert sum(p["deaths"] for p in result["processes"]) <= 1, result
        run = Run("--processes", 1, "--kill-one", write(directory, "short", b"one two"))
        assert "2 words" in run.finish() and "nobody was killed" in run.error, run.error


def whoever_is_killed_whenever():
    chaos = random.Random()
    text = make_text(random.Random(8), 200_000)
    with tempfile.TemporaryDirectory() as directory:
        for i in range(150):
            write(directory, str(i), text)
        killed = 0
        run = Run("--json", "--progress", "--processes", 3, "--threads", 2, "--chunk", 64, "--verify", directory)
        while run.process.poll() is None and "counters" not in run.says():
            time.sleep(0.001)  # one that dies before it has begun is an error, which says so
        while run.process.poll() is None and killed < 6:
            time.sleep(chaos.uniform(0.02, 0.2))  # any moment will do
            victims = run.children()
            if len(victims) == 3:
                os.kill(chaos.choice(victims), signal.SIGKILL)
                killed += 1
        result = run.json()
        counts = python_count(text)
        print(f"    killed {killed}, chunks given away again {result['redone']}")
        assert result["verified"] is True and result["words"] == 150 * sum(counts.values()), result


def two_at_a_time_do_not_meet():
    with tempfile.TemporaryDirectory() as directory:
        path = write(directory, "text", b"so many words " * 1000)
        runs = [Run("--json", "--processes", 1, path) for _ in range(2)]
        assert all(run.json()["words"] == 3000 for run in runs)


def progress_is_shown_when_it_is_asked_for():
    text = make_text(random.Random(9), 200_000)
    with tempfile.TemporaryDirectory() as directory:
        for i in range(60):
            write(directory, str(i), text)
        run = Run("--processes", 1, "--chunk", 16, "--progress", directory)
        run.finish()
        assert re.search(r"MB  \d+ files  \d+ MB/s  1 counters", run.error), run.error
        quiet = Run("--processes", 1, "--chunk", 64, directory)
        quiet.finish()
        assert "MB/s" not in quiet.error, quiet.error


def its_processes_end_with_it():
    text = make_text(random.Random(10), 400_000)
    with tempfile.TemporaryDirectory() as directory:
        for i in range(200):
            write(directory, str(i), text)
        run = Run("--processes", 2, "--chunk", 4, directory)
        children = []
        while len(children) < 2 and run.process.poll() is None:
            children = run.children()
        assert len(children) == 2
        run.process.kill()
        run.process.communicate()
        end = time.monotonic() + PATIENCE
        for child in children:
            while is_alive(child):
                assert time.monotonic() < end, "a worker process outlives its launcher"
                time.sleep(0.01)
        run.forget()


def arguments_without_sense_are_refused():
    for arguments, wanted in (
        ([], "which files?"),
        (["/nonexistent"], "/nonexistent: No such file"),
        (["--processes", "-1", "/"], "--processes wants a number from 0 to 64, not '-1'"),
        (["--processes", "1000", "/"], "from 0 to 64, not '1000'"),
        (["--threads", "0", "/"], "--threads wants a number from 1"),
        (["--top", "many", "/"], "--top wants a number"),
        (["--chunk", "0", "/"], "--chunk wants a number from 1 to 4096"),
        (["--processes"], "'--processes' is no option, or lacks its number"),
        (["--what", "/"], "'--what' is no option"),
        (["--kill-one", "--processes", "0", "/etc/passwd"], "--kill-one needs a process"),
    ):
        run = Run(*arguments)
        assert run.finish(2) == ""
        assert wanted in run.error and "usage: wordcount" in run.error, (arguments, run.error)


program = sys.argv[1]
for test in (
    every_word_is_counted_however_the_text_is_cut,
    a_tree_of_small_and_large_files,
    nothing_is_also_a_text,
    what_cannot_be_read_is_reported_and_skipped,
    bytes_that_are_no_text_are_printed_as_question_marks,
    a_killed_process_costs_nothing_but_time,
    whoever_is_killed_whenever,
    two_at_a_time_do_not_meet,
    progress_is_shown_when_it_is_asked_for,
    its_processes_end_with_it,
    arguments_without_sense_are_refused,
):
    print(test.__name__.replace("_", " "), flush=True)
    test()
