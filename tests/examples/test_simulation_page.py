#!/usr/bin/env python3
"""test_simulation_page - does docs/simulation.md tell the truth?

usage: test_simulation_page.py PAGE SOURCES TROUPE REPLICATED
       test_simulation_page.py --update PAGE SOURCES TROUPE REPLICATED

Each block of C in the page is found, as it stands, in a file of the directory SOURCES. Each command in a block `console` is
run, and what it prints is compared with the lines behind it. Which seed fails, and when, changes with each change of troupe:
numbers are not compared, nor which faults were needed. That a failure repeats is: the command that the page gives for it is
replaced by the one that was printed just now.

--update runs all and writes what is printed into the page: read then whether the text around it is still right.
"""

import os
import re
import subprocess
import sys
import tempfile

PATIENCE = 600  # seconds for one command; only a failing test waits that long
FINDING = "no longer so: no replica shows more than was added"
NOISE = r"^minimising|^\d+ of \d+ seeds|WARNING: ASan doesn't fully support"  # progress, and a sanitizer's excuse
BRIEF = [("replicated 2 300", "replicated 2 10"), ("--seeds 200 --check-hash", "--seeds 10 --check-hash")]

is_update = sys.argv[1] == "--update"
page, sources, troupe, replicated = sys.argv[1 + is_update:]


def run(command, where):
    """Its output, both of it, and its exit status as the shell would show it."""
    if not is_update:
        for long, short in BRIEF:
            command = command.replace(long, short)
    environment = dict(os.environ, PATH=f"{where}:{os.environ['PATH']}")
    environment.pop("TROUPE_SIMULATE", None)
    done = subprocess.run(["sh", "-c", command], cwd=where, env=environment, stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE, check=False)
    wanted = 1 if re.search(r"replicated 1\b", command) else 0
    assert done.returncode == wanted, (command, done.returncode, done.stdout)
    return [line for line in done.stdout.splitlines() if not re.search(NOISE, line)]


def plain(lines):
    """What is the same whatever the numbers, and whatever the weather between the nodes."""
    out = []
    for line in lines:
        line = re.sub(r"TROUPE_SIMULATE=('[^']*'|\d+)", "TROUPE_SIMULATE=...", line)
        line = re.sub(r"\b[0-9a-f]{16}\b", "HASH", line)
        line = re.sub(r"\d[\d,.]*( (ns|us|ms|s|min|h)\b)?", "N", line)
        line = re.sub(r"\s+", " ", line)
        line = re.sub(r"^ (the first N choices|none of the schedule|all choices of).*", "CHOICES", line)
        line = re.sub(r"^faults N .*", "faults N", line)
        if not re.match(r"( \|)? ?(trace: at|simulated: at|troupe: node|at N)", line):
            out.append(line)
    told = iter(sorted(line for line in out if line.startswith(" |")))  # two streams of one program: either may be first
    return [next(told) if line.startswith(" |") else line for line in out]


def same(command, wanted, got):
    if plain(wanted) == plain(got):
        return
    print(f"$ {command}\nthe page says:", *wanted, "it printed:", *got, sep="\n")
    print("compared were:", *plain(wanted), "with:", *plain(got), sep="\n")
    sys.exit(1)


def check_console(block, where, repeat):
    """The same block with what was printed now, and the value of TROUPE_SIMULATE that was printed last."""
    out, lines = [], block.splitlines()
    while lines:
        shown = lines.pop(0)
        assert shown.startswith("$ "), shown
        command, wanted = shown[2:], []
        while lines and not lines[0].startswith("$ "):
            wanted.append(lines.pop(0))
        if command.startswith("TROUPE_SIMULATE=") and repeat:
            trace = "; trace" if "; trace" in command else ""
            command = re.sub(r"^TROUPE_SIMULATE=('[^']*'|\d+)", lambda match: f"TROUPE_SIMULATE='{repeat}{trace}'", command)
        got = run(command, where)
        if re.search(r"replicated 1\b", command):
            assert any(FINDING in line for line in got), (command, got)
        if not is_update:
            same(command, wanted, got)
        for line in got:
            found = re.search(r"TROUPE_SIMULATE='?([^']*?)'? \./", line)
            if found and "trace" not in found[1]:
                repeat = found[1]
        out += ["$ " + command, *got]
    return "\n".join(out), repeat


def main():
    with open(page, encoding="utf-8") as file:
        text = file.read()
    files = {name: open(os.path.join(sources, name), encoding="utf-8").read()
             for name in os.listdir(sources) if name.endswith((".c", ".h"))}
    for block in re.findall(r"^```c\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        assert any(block in source for source in files.values()), "in no source: " + block
    with tempfile.TemporaryDirectory() as where:
        os.symlink(os.path.realpath(troupe), os.path.join(where, "troupe"))
        os.symlink(os.path.realpath(replicated), os.path.join(where, "replicated"))
        repeat, n = None, 0
        for block in re.findall(r"^```console\n(.*?)\n```", text, re.MULTILINE | re.DOTALL):
            now, repeat = check_console(block, where, repeat)
            text = text.replace(block, now, 1)
            n += 1
        assert n > 0 and repeat, "no commands in the page"
    if is_update:
        with open(page, "w", encoding="utf-8") as file:
            file.write(text)
    print(f"{n} blocks of commands print what {os.path.basename(page)} says")


main()
