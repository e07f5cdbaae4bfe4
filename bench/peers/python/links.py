"""The workloads of two processes with Python's multiprocessing.

    links.py WORKLOAD MESSAGES

rtt-queue, oneway-queue   two processes and a Queue for each direction
rtt-pipe, oneway-pipe     the same with a Pipe and bytes, which multiprocessing does not pickle
blob-64k, -1m, -16m       a Pipe and large bytes, filled by the sender and read by the receiver
fds-send-handle           reduction.send_handle: SCM_RIGHTS on the pipe
fds-dupfd                 reduction.DupFd: a token is sent, the receiver fetches the descriptor with it
"""

import multiprocessing
import os
import sys
import time
from multiprocessing import reduction

MESSAGE = bytes(64)
WARM_UP = 200


def percentile(times, part):
    return sorted(times)[min(len(times) - 1, int(len(times) * part))] / 1e3


def report(workload, messages, ns, more=""):
    print(f"workload={workload} messages={messages} seconds={ns / 1e9:.6f} per_second={messages * 1e9 / ns:.0f}{more}")


def time_trips(workload, messages, trip):
    for _ in range(WARM_UP):
        trip()
    times = []
    begin = before = time.monotonic_ns()
    for _ in range(messages):
        trip()
        after = time.monotonic_ns()
        times.append(after - before)
        before = after
    report(workload, messages, before - begin,
           f" p50_us={percentile(times, 0.5):.1f} p99_us={percentile(times, 0.99):.1f}")


def time_until_counted(workload, messages, send, hear):
    """Send them all; the time ends when the far side says how many it has got."""
    begin = time.monotonic_ns()
    for _ in range(messages):
        send()
    count = hear()
    if count != messages:
        sys.exit(f"{workload}: {count} of {messages} arrived")
    report(workload, messages, time.monotonic_ns() - begin)


def echo(get, put, messages):
    for _ in range(messages + WARM_UP):
        put(get())


def count(get, tell, messages):
    tell(sum(len(get()) == len(MESSAGE) for _ in range(messages)))


def start(function, *arguments):
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments, daemon=True)
    process.start()
    return process


def rtt_queue(workload, messages):
    there, back = multiprocessing.Queue(), multiprocessing.Queue()
    far = start(echo, there.get, back.put, messages)

    def trip():
        there.put(MESSAGE)
        back.get()

    time_trips(workload, messages, trip)
    far.join()


def oneway_queue(workload, messages):
    there, back = multiprocessing.Queue(), multiprocessing.Queue()
    far = start(count, there.get, back.put, messages)
    time_until_counted(workload, messages, lambda: there.put(MESSAGE), back.get)
    far.join()


def rtt_pipe(workload, messages):
    here, there = multiprocessing.Pipe()
    far = start(echo, there.recv_bytes, there.send_bytes, messages)

    def trip():
        here.send_bytes(MESSAGE)
        here.recv_bytes()

    time_trips(workload, messages, trip)
    far.join()


def oneway_pipe(workload, messages):
    here, there = multiprocessing.Pipe()
    far = start(count, there.recv_bytes, there.send, messages)
    time_until_counted(workload, messages, lambda: here.send_bytes(MESSAGE), here.recv)
    far.join()


def blobs_of(size):
    def blobs(workload, messages):
        here, there = multiprocessing.Pipe()
        far = start(read_each, there, messages)
        numbers = iter(range(messages))
        time_until_counted(workload, messages, lambda: here.send_bytes(bytes([next(numbers) % 256]) * size), here.recv)
        far.join()
    return blobs


def read_each(pipe, messages):
    good = 0
    for number in range(messages):
        blob = pipe.recv_bytes()
        good += blob.count(number % 256) == len(blob)
    pipe.send(good)


def close_each(take, tell, messages):
    for _ in range(messages):
        os.close(take())
    tell(messages)


def fds_send_handle(workload, messages):
    here, there = multiprocessing.Pipe()
    fd = os.open("/dev/null", os.O_RDONLY)
    far = start(close_each, lambda: reduction.recv_handle(there), there.send, messages)
    time_until_counted(workload, messages, lambda: reduction.send_handle(here, fd, far.pid), here.recv)
    far.join()


def fds_dupfd(workload, messages):
    here, there = multiprocessing.Pipe()
    fd = os.open("/dev/null", os.O_RDONLY)
    far = start(close_each, lambda: there.recv().detach(), there.send, messages)
    time_until_counted(workload, messages, lambda: here.send(reduction.DupFd(fd)), here.recv)
    far.join()


WORKLOADS = {
    "rtt-queue": rtt_queue,
    "rtt-pipe": rtt_pipe,
    "oneway-queue": oneway_queue,
    "oneway-pipe": oneway_pipe,
    "blob-64k": blobs_of(1 << 16),
    "blob-1m": blobs_of(1 << 20),
    "blob-16m": blobs_of(1 << 24),
    "fds-send-handle": fds_send_handle,
    "fds-dupfd": fds_dupfd,
}

if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: links.py {'|'.join(WORKLOADS)} MESSAGES")
    if sys.argv[1] not in WORKLOADS:
        print(f"links.py has no workload '{sys.argv[1]}'", file=sys.stderr)
        sys.exit(77)
    WORKLOADS[sys.argv[1]](sys.argv[1], int(sys.argv[2]))
