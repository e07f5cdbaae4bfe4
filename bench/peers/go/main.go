// The workloads of bench/ in Go.
//
//	GOMAXPROCS=2 bench WORKLOAD THREADS ACTORS MESSAGES WIDTH
//
// An actor is a goroutine, its mailbox a buffered channel of plain values, its address the channel.
// What differs from actors: a full channel blocks its sender, a channel has no limit on who reads it,
// and a goroutine that waits keeps its stack. The garbage collector runs with its defaults.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// A run is what one workload is asked to do; the meaning of the sizes is said in bench_actors.c.
type run struct {
	actors, messages, width int64
}

// A result is how many messages were delivered in what time, and further pairs to print.
type result struct {
	count int64
	took  time.Duration
	more  string
}

var workloads = map[string]func(run) result{
	"ping-pong":        pingPong,
	"ping-pong-forced": pingPongForced,
	"ring":             ring,
	"ring-64":          ring,
	"random":           randomHops,
	"fan-in":           fanIn,
	"big":              big,
	"skynet":           skynet,
	"spawn":            spawnIdle,
	"timers":           timers,
	"timer-cancel":     timerCancel,
	"parallel":         parallel,
	"call":             call,
}

func main() {
	if len(os.Args) != 6 || workloads[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: bench WORKLOAD THREADS ACTORS MESSAGES WIDTH")
		os.Exit(2)
	}
	var sizes [4]int64
	for i := range sizes {
		sizes[i], _ = strconv.ParseInt(os.Args[2+i], 10, 64)
	}
	runtime.GOMAXPROCS(int(sizes[0]))
	r := workloads[os.Args[1]](run{sizes[1], sizes[2], sizes[3]})
	seconds := r.took.Seconds()
	fmt.Printf("workload=%s threads=%d actors=%d messages=%d width=%d seconds=%.6f per_second=%.0f%s\n",
		os.Args[1], sizes[0], sizes[1], r.count, sizes[3], seconds, float64(r.count)/seconds, r.more)
}

// expect ends the program when a count is not what it must be.
func expect(what string, found, expected int64) {
	if found != expected {
		fmt.Fprintf(os.Stderr, "%s: %d instead of %d\n", what, found, expected)
		os.Exit(1)
	}
}

// await waits for n counts and returns their sum.
func await(finished <-chan int64, n int64) int64 {
	var sum int64
	for ; n > 0; n-- {
		sum += <-finished
	}
	return sum
}

// random is xorshift32, as in bench.c.
func random(x uint32) uint32 {
	x ^= x << 13
	x ^= x >> 17
	x ^= x << 5
	return x
}

func resident() int64 {
	text, _ := os.ReadFile("/proc/self/statm")
	var size, pages int64
	fmt.Sscan(string(text), &size, &pages)
	return pages * int64(os.Getpagesize())
}

func cpuTime() time.Duration {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
