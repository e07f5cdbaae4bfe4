"""program - a program that a test has started, in a run directory of its own, and files for it to read"""

import os
import subprocess
import tempfile


class Program:
    def __init__(self, path, *arguments, **options):
        self.home = tempfile.TemporaryDirectory(dir="/tmp")  # short: sockets have short names
        if "user" in options:
            os.chown(self.home.name, options["user"], -1)
        environment = dict(os.environ, XDG_RUNTIME_DIR=self.home.name)
        environment.pop("TROUPE_SIMULATE", None)
        self.said = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [path, *map(str, arguments)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.said, env=environment, **options)

    def says(self):
        """What it has written to its standard error until now."""
        return os.pread(self.said.fileno(), 1 << 20, 0).decode(errors="replace")

    def children(self):
        """The processes that it has started and that are still there."""
        found = []
        for name in os.listdir("/proc"):
            try:
                with open(f"/proc/{int(name)}/stat", encoding="ascii", errors="replace") as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
            except (ValueError, OSError):
                continue  # no process, or it has just ended
            if parent == self.process.pid:
                found.append(int(name))
        return sorted(found)

    def forget(self):
        """It has ended, somehow."""
        self.said.close()
        self.home.cleanup()

    def expect_nothing_left(self):
        """It has ended in good order."""
        left = [os.path.join(at, name) for at, _, names in os.walk(self.home.name) for name in names]
        assert not [name for name in left if not name.endswith(".lock")], left
        self.forget()


def write(directory, name, data):
    path = os.path.join(directory, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
    return path
