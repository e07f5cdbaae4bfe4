// Workloads in which messages travel.

package main

import (
	"runtime"
	"time"
)

// mailbox is the room in the channel of an actor that may get many messages: troupe's default limit.
const mailbox = 4096

// ---- ping-pong ---------------------------------------------------------------------------------

func play(messages int64, prepare func()) result {
	first, second := make(chan int64, 1), make(chan int64, 1)
	finished := make(chan int64)
	player := func(inbox <-chan int64, opponent chan<- int64) {
		prepare()
		for left := range inbox {
			if left == 0 {
				finished <- 1
				return
			}
			opponent <- left - 1
		}
	}
	go player(first, second)
	go player(second, first)
	begin := time.Now()
	first <- messages - 1
	await(finished, 1)
	return result{messages, time.Since(begin), ""}
}

func pingPong(r run) result {
	return play(r.messages, func() {})
}

// Go has no other way to put two goroutines on two threads than to lock each to its own. It also
// makes each switch of goroutines a switch of threads.
func pingPongForced(r run) result {
	return play(r.messages, runtime.LockOSThread)
}

// ---- ring --------------------------------------------------------------------------------------

func ring(r run) result {
	finished := make(chan int64, r.width)
	runner := func(inbox <-chan int64, next chan<- int64) {
		for left := range inbox {
			if left == 0 {
				finished <- 1
			} else {
				next <- left - 1
			}
		}
	}
	inboxes := make([]chan int64, r.actors)
	for i := range inboxes {
		inboxes[i] = make(chan int64, r.width)
	}
	for i := range inboxes {
		go runner(inboxes[i], inboxes[(i+1)%len(inboxes)])
	}
	inboxes[0] <- r.actors - 1 // one lap that is not timed
	await(finished, 1)

	laps := r.messages / r.width
	begin := time.Now()
	for i := int64(0); i < r.width; i++ {
		inboxes[i*r.actors/r.width] <- laps - 1
	}
	await(finished, r.width)
	return result{laps * r.width, time.Since(begin), ""}
}

// ---- random ------------------------------------------------------------------------------------

type token struct {
	left   int64
	random uint32
}

func randomHops(r run) result {
	finished := make(chan int64, r.width)
	inboxes := make([]chan token, r.actors)
	hopper := func(inbox <-chan token) {
		for t := range inbox {
			if t.left == 0 {
				finished <- 1
				continue
			}
			t.random = random(t.random)
			t.left--
			inboxes[int64(t.random)%r.actors] <- t
		}
	}
	for i := range inboxes {
		inboxes[i] = make(chan token, r.width)
	}
	for i := range inboxes {
		go hopper(inboxes[i])
	}
	hops := r.messages / r.width
	begin := time.Now()
	for i := int64(0); i < r.width; i++ {
		inboxes[i*r.actors/r.width] <- token{hops - 1, uint32(i) + 1}
	}
	await(finished, r.width)
	return result{hops * r.width, time.Since(begin), ""}
}

// ---- fan-in ------------------------------------------------------------------------------------

func fanIn(r run) result {
	each := r.messages / r.actors
	total := each * r.actors
	finished := make(chan int64)
	inbox := make(chan int64, mailbox)
	sink := func() {
		for seen := int64(1); ; seen++ {
			<-inbox
			if seen == total {
				finished <- seen
				return
			}
		}
	}
	source := func(self chan struct{}) {
		for left := each; left > 0; {
			<-self
			for i := int64(0); i < r.width && left > 0; i++ {
				inbox <- left
				left--
			}
			self <- struct{}{}
		}
	}
	go sink()
	begin := time.Now()
	for i := int64(0); i < r.actors; i++ {
		self := make(chan struct{}, 1)
		go source(self)
		self <- struct{}{}
	}
	expect("samples", await(finished, 1), total)
	return result{total, time.Since(begin), ""}
}

// ---- big ---------------------------------------------------------------------------------------

const (
	beginPinging = -2
	pong         = -1 // anything above is the index of somebody who pings
)

func big(r run) result {
	each := r.messages / 2 / r.actors
	finished := make(chan int64, r.actors)
	// Room for a ping from everybody: with less, a circle of actors could block each other for ever.
	inboxes := make([]chan int32, r.actors)
	for i := range inboxes {
		inboxes[i] = make(chan int32, r.actors+1)
	}
	pinger := func(index int32, inbox <-chan int32) {
		seed := uint32(index) + 1
		pongs := int64(0)
		pingSomebody := func() {
			seed = random(seed)
			other := int32(seed % uint32(r.actors-1))
			if other >= index {
				other++
			}
			inboxes[other] <- index
		}
		for msg := range inbox {
			switch {
			case msg >= 0:
				inboxes[msg] <- pong
			case msg == beginPinging:
				pingSomebody()
			default:
				pongs++
				if pongs < each {
					pingSomebody()
				} else {
					finished <- pongs
				}
			}
		}
	}
	for i := range inboxes {
		go pinger(int32(i), inboxes[i])
	}
	begin := time.Now()
	for i := range inboxes {
		inboxes[i] <- beginPinging
	}
	expect("pongs", await(finished, r.actors), each*r.actors)
	return result{2 * each * r.actors, time.Since(begin), ""}
}

// ---- call: the asker is a goroutine like any other, so no thread has to wake --------------------

func call(r run) result {
	type question struct {
		number int64
		answer chan<- int64
	}
	oracle := make(chan question, 1)
	go func() {
		for q := range oracle {
			q.answer <- q.number
		}
	}()
	right := int64(0)
	answer := make(chan int64, 1)
	begin := time.Now()
	for i := int64(0); i < r.messages; i++ {
		oracle <- question{i, answer}
		if <-answer == i {
			right++
		}
	}
	took := time.Since(begin)
	expect("right answers", right, r.messages)
	return result{r.messages, took, ""}
}
