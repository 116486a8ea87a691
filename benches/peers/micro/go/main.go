// The micro-benchmarks in Go, on one processor. What each does is told in benches/src/runtime_marks/ours.rs.
package main

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	message = 64
	size    = 1024
	timers  = 100_000
	pending = 1_000_000
)

func main() {
	runtime.GOMAXPROCS(1)
	if len(os.Args) < 2 {
		fail("which benchmark?")
	}
	count := 1_000_000
	if len(os.Args) > 2 {
		given, err := strconv.Atoi(os.Args[2])
		check(err)
		count = given
	}
	var figures string
	switch os.Args[1] {
	case "switch":
		figures = yield()
	case "spawn_join":
		figures = spawnJoin()
	case "ping_pong":
		figures = pingPong()
	case "echo_1":
		figures = echo(1, 50_000)
	case "echo_1000":
		figures = echo(1_000, 100)
	case "timers":
		figures = sleepers()
	case "timer_cancel":
		figures = timerCancel()
	case "parked":
		figures = parked(count)
	default:
		fail("there is no benchmark `" + os.Args[1] + "` here")
	}
	fmt.Printf("{\"runtime\":\"%s\",\"figures\":{%s}}\n", strings.Replace(runtime.Version(), "go", "Go ", 1), figures)
}

func yield() string {
	const times = 1_000_000
	var group sync.WaitGroup
	group.Add(2)
	start := cpu()
	for i := 0; i < 2; i++ {
		go func() {
			for n := 0; n < times; n++ {
				runtime.Gosched()
			}
			group.Done()
		}()
	}
	group.Wait()
	return ns(start, 2*times)
}

func spawnJoin() string {
	const times = 1_000_000
	done := make(chan struct{}, 1)
	start := cpu()
	for n := 0; n < times; n++ {
		go func() { done <- struct{}{} }()
		<-done
	}
	return ns(start, times)
}

func pingPong() string {
	const times = 1_000_000
	ping, pong := make(chan int, 1), make(chan int, 1)
	start := cpu()
	go func() {
		for value := range ping {
			pong <- value
		}
	}()
	for n := 0; n < times; n++ {
		ping <- n
		<-pong
	}
	return ns(start, times)
}

func echo(connections, times int) string {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	check(err)
	clients := make([]net.Conn, connections)
	for i := range clients {
		near, err := net.Dial("tcp4", listener.Addr().String()) // TCP_NODELAY is Go's default
		check(err)
		far, err := listener.Accept()
		check(err)
		clients[i] = near
		go func() {
			buffer := make([]byte, size)
			for {
				length, err := far.Read(buffer)
				if err != nil {
					return
				}
				_, err = far.Write(buffer[:length])
				check(err)
			}
		}()
	}
	var group sync.WaitGroup
	group.Add(connections)
	start := cpu()
	for _, near := range clients {
		go func(near net.Conn) {
			buffer := make([]byte, size)
			for n := 0; n < times; n++ {
				_, err := near.Write(buffer[:message])
				check(err)
				for missing := message; missing > 0; {
					length, err := near.Read(buffer)
					check(err)
					missing -= length
				}
			}
			group.Done()
		}(near)
	}
	group.Wait()
	return ns(start, connections*times)
}

func sleepers() string {
	var group sync.WaitGroup
	group.Add(timers)
	start := cpu()
	for n := 0; n < timers; n++ {
		go func(due time.Duration) {
			time.Sleep(due)
			group.Done()
		}(time.Duration(n*7_919%timers*1_000_000/timers) * time.Microsecond)
	}
	group.Wait()
	return ns(start, timers)
}

func timerCancel() string {
	const times = 1_000_000
	kept := make([]*time.Timer, pending)
	for i := range kept {
		kept[i] = time.AfterFunc(24*time.Hour, func() {})
	}
	start := cpu()
	for n := 0; n < times; n++ {
		time.AfterFunc(24*time.Hour, func() {}).Stop()
	}
	figures := ns(start, times)
	runtime.KeepAlive(kept)
	return figures
}

func parked(count int) string {
	before, start := resident(), cpu()
	var asleep int64
	for n := 0; n < count; n++ {
		go func() {
			atomic.AddInt64(&asleep, 1)
			time.Sleep(24 * time.Hour)
		}()
	}
	for atomic.LoadInt64(&asleep) < int64(count) {
		runtime.Gosched()
	}
	seconds := (cpu() - start).Seconds()
	return fmt.Sprintf("\"bytes\":%.6f,\"seconds\":%.6f", float64(resident()-before)/float64(count), seconds)
}

// Processor time that this process has used.
func cpu() time.Duration {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func ns(start time.Duration, times int) string {
	return fmt.Sprintf("\"ns\":%.6f", float64(cpu()-start)/float64(times))
}

func resident() int64 {
	statm, err := os.ReadFile("/proc/self/statm")
	check(err)
	pages, err := strconv.ParseInt(strings.Fields(string(statm))[1], 10, 64)
	check(err)
	return pages * int64(os.Getpagesize())
}

func check(err error) {
	if err != nil {
		fail(err.Error())
	}
}

func fail(why string) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(2)
}
