// Workloads about birth, death, time and work.

package main

import (
	"fmt"
	"math"
	"sort"
	"sync"
	"time"
)

// ---- skynet: a goroutine runs as soon as it is made, so there is no order to grow ---------------

func skynet(r run) result {
	leaves := int64(1)
	for leaves < r.actors {
		leaves *= r.width
	}
	begin := time.Now()
	sum := make(chan int64, 1)
	go tree(sum, 0, leaves, r.width)
	value := <-sum
	took := time.Since(begin)
	expect("the sum", value, leaves*(leaves-1)/2)
	return result{leaves, took, ""}
}

func tree(parent chan<- int64, first, leaves, children int64) {
	if leaves == 1 {
		parent <- first
		return
	}
	inbox := make(chan int64, children)
	leaves /= children
	for i := int64(0); i < children; i++ {
		go tree(inbox, first+i*leaves, leaves, children)
	}
	parent <- await(inbox, children)
}

// ---- spawn -------------------------------------------------------------------------------------

func spawnIdle(r run) result {
	// Channels are the only addresses there are, so somebody has to keep them: not counted.
	inboxes := make([]chan int64, r.actors)
	for i := range inboxes {
		inboxes[i] = nil
	}
	var starting, alive sync.WaitGroup
	starting.Add(int(r.actors))
	alive.Add(int(r.actors))
	idler := func(inbox <-chan int64, a, b int64) {
		starting.Done()
		for msg := range inbox {
			a, b = b, a+msg
		}
		alive.Done()
	}
	before := resident()
	begin := time.Now()
	for i := range inboxes {
		inboxes[i] = make(chan int64, 1)
		go idler(inboxes[i], int64(i), int64(i))
	}
	starting.Wait()
	took := time.Since(begin)
	bytes := (resident() - before) / r.actors

	begin = time.Now()
	for i := range inboxes {
		close(inboxes[i])
	}
	alive.Wait()
	return result{r.actors, took, fmt.Sprintf(" bytes_per_actor=%d stop_seconds=%.6f", bytes,
		time.Since(begin).Seconds())}
}

// ---- timers: each firing starts a goroutine, which is how Go delivers a timer as a message -------

func timers(r run) result {
	inbox := make(chan time.Time, mailbox)
	late := make([]time.Duration, 0, r.messages)
	begin, cpu := time.Now(), cpuTime()
	go func() {
		seed := uint32(1)
		for i := int64(0); i < r.messages; i++ {
			seed = random(seed)
			delay := time.Duration(1+seed%1000) * time.Millisecond
			due := time.Now().Add(delay)
			time.AfterFunc(delay, func() { inbox <- due })
		}
	}()
	for i := int64(0); i < r.messages; i++ {
		due := <-inbox
		late = append(late, time.Since(due))
	}
	took := time.Since(begin)
	cpu = cpuTime() - cpu

	sort.Slice(late, func(i, j int) bool { return late[i] < late[j] })
	n := int64(len(late))
	return result{n, took, fmt.Sprintf(" late_p50_us=%d late_p99_us=%d late_max_us=%d cpu_us=%.3f",
		late[n/2].Microseconds(), late[n-1-n/100].Microseconds(), late[n-1].Microseconds(),
		float64(cpu.Nanoseconds())/float64(n)/1e3)}
}

func timerCancel(r run) result {
	finished := make(chan int64)
	self := make(chan int64, 1)
	batch := make([]*time.Timer, r.width)
	go func() {
		cancelled := int64(0)
		for left := range self {
			n := left
			if n > r.width {
				n = r.width
			}
			for i := range batch[:n] {
				batch[i] = time.AfterFunc(time.Minute, func() { self <- 0 })
			}
			for _, timer := range batch[:n] {
				if timer.Stop() {
					cancelled++
				}
			}
			if left == n {
				finished <- cancelled
				return
			}
			self <- left - n
		}
	}()
	begin := time.Now()
	self <- r.messages
	expect("timers cancelled", await(finished, 1), r.messages)
	return result{r.messages, time.Since(begin), ""}
}

// ---- parallel ----------------------------------------------------------------------------------

func compute(value uint32, steps int64) uint32 {
	for ; steps > 0; steps-- {
		value = value*1664525 + 1013904223
	}
	return value
}

var keep uint32 // so that the work is not optimised away

// calibrate returns the steps in 100 us on this machine, at its best.
func calibrate() int64 {
	const steps = 1000000
	best := int64(math.MaxInt64)
	for i := 0; i < 20; i++ {
		begin := time.Now()
		keep = compute(keep, steps)
		if ns := time.Since(begin).Nanoseconds(); ns < best {
			best = ns
		}
	}
	return steps * 100000 / best
}

func parallel(r run) result {
	steps, each := calibrate(), r.messages/r.actors
	finished := make(chan int64, r.actors)
	values := make([]uint32, r.actors)
	worker := func(index int64, self chan int64) {
		value, pieces := uint32(1), int64(0)
		for left := range self {
			value = compute(value, steps)
			pieces++
			if left == 1 {
				values[index] = value
				finished <- pieces
				return
			}
			self <- left - 1
		}
	}
	begin := time.Now()
	for i := int64(0); i < r.actors; i++ {
		self := make(chan int64, 1)
		go worker(i, self)
		self <- each
	}
	expect("pieces of work", await(finished, r.actors), each*r.actors)
	return result{each * r.actors, time.Since(begin), ""}
}
