package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/rollforward/rollforward/eventstore/memory"
)

func main() {
	ctx := context.Background()
	h, err := readHistory(os.Args[1])
	if err != nil {
		panic(err)
	}
	a := newAgenda(h)
	fmt.Println(h.read, h.skipped, h.files, len(h.weeks), len(a.jobs), a.skipped, a.early)
	store := memory.New()
	c := &clock{}
	c.follow(a.events[0].at)
	eng, err := openEngine(ctx, store, h, c.Now)
	if err != nil {
		panic(err)
	}
	t := time.Now()
	r := newReplay(eng, h, c)
	if err := r.run(ctx, a); err != nil {
		panic(err)
	}
	d := time.Since(t)
	head, _ := store.Head(ctx)
	fmt.Println(r.refused, d, head, float64(head)/d.Seconds(), r.spent)
	cs, err := checks(ctx, eng.CMDB, h, a, 20)
	if err != nil {
		panic(err)
	}
	for _, c := range cs {
		fmt.Println(c.at, c.matches, c.of)
	}
	fmt.Println(time.Since(t) - d)
}
