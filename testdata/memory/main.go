// Command memory imports users into a directory, pushes to them, reads them all, and prints by how many bytes the live
// heap has grown each time. It is a program of its own so that neither the race detector nor other tests disturb its heap.
package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/fanfare-im/fanfare"
)

// Arguments: the directory, how many users, and DeltaBytes.
func main() {
	users, err := strconv.ParseInt(os.Args[2], 10, 64)
	check(err)
	delta, err := strconv.ParseInt(os.Args[3], 10, 64)
	check(err)
	ctx := context.Background()
	before := liveHeap()
	report := func(what string) { fmt.Printf("%s: %d\n", what, liveHeap()-before) }

	p, err := fanfare.Open(os.Args[1], fanfare.Options{DeltaBytes: delta})
	check(err)
	highest := int64(0)
	_, err = p.Import(ctx, func(yield func(fanfare.User, error) bool) {
		for i := range users {
			u := fanfare.User{
				ID:   fmt.Sprintf("user-%08d-with-an-ID-of-a-usual-length", i),
				Tags: []string{fmt.Sprintf("tag %d", i%100), fmt.Sprintf("group %d", i%1000)},
			}
			if !yield(u, nil) {
				return
			}
		}
	}, &fanfare.ImportOptions{Progress: func(s fanfare.ImportStats) {
		if s.Users%(users/20) == 0 {
			highest = max(highest, liveHeap()-before)
		}
	}})
	check(err)
	fmt.Printf("during the import: %d\n", highest)
	report("after the import")

	for i := range 20 {
		_, err := p.Push(ctx, fanfare.Message{Body: []byte("x"), To: fanfare.Tag(fmt.Sprintf("tag %d", i)).Not(), Lifetime: time.Hour})
		check(err)
	}
	report("with pushes to nearly all")

	n := int64(0)
	for _, err := range p.Members(ctx, fanfare.All()) {
		check(err)
		n++
	}
	if n != users {
		panic(n)
	}
	report("after reading all")
	check(p.Close(ctx))
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func liveHeap() int64 {
	runtime.GC()
	runtime.GC() // what pools held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
