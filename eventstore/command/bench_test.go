package command_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rollforward/rollforward/eventstore"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/memory"
)

// compare runs ours and the limit in turns and reports how near ours comes: 1 is
// the limit itself, 0.5 takes twice its time.
func compare(b *testing.B, limit, ours func()) {
	var atLimit, atOurs time.Duration
	for b.Loop() {
		begin := time.Now()
		limit()
		middle := time.Now()
		ours()
		atLimit, atOurs = atLimit+middle.Sub(begin), atOurs+time.Since(middle)
	}
	b.ReportMetric(float64(atLimit)/float64(atOurs), "x-limit")
	b.ReportMetric(float64(atOurs.Nanoseconds())/float64(b.N), "ours-ns/op")
}

// BenchmarkDo: one command on a new stream. Limit: a bare Update of the same events.
func BenchmarkDo(b *testing.B) {
	for _, keyed := range []bool{false, true} {
		for name, authorizer := range map[string]command.Authorizer{
			"allow all": command.AllowAll,
			"roles":     command.Policy{Table: command.Table{"librarian": {{Actions: []string{"book.*"}}}}, Roles: command.Roles{"ann": {"librarian"}}},
			"own":       authorizerFunc(func(context.Context, command.Request) error { return nil }),
		} {
			if keyed && name != "roles" {
				continue
			}
			b.Run(fmt.Sprintf("%s/keyed=%t", name, keyed), func(b *testing.B) {
				ctx, bare := context.Background(), memory.New()
				registry, err := eventstore.NewRegistry(append(command.Types(), eventstore.Type[Lent]("book.lent", 1))...)
				require.NoError(b, err)
				door, err := command.Open(command.Config{Store: memory.New(), Registry: registry, Authorizer: authorizer})
				require.NoError(b, err)
				defer func() { require.NoError(b, door.Close(ctx)) }()
				n := 0
				compare(b, func() {
					_, err := eventstore.Update(ctx, bare, registry, func(tx *eventstore.Tx) error {
						tx.Meta = eventstore.Metadata{Actor: "ann", Command: "book.lend", OccurredAt: time.Now().UTC()}
						if _, err := books.Do(tx, fmt.Sprintf("book-%d", n), Lend{To: "cleo"}); err != nil || !keyed {
							return err
						}
						key := fmt.Sprintf("key-%032d", n)
						if _, err := tx.Check(key); err != nil {
							return err
						}
						return tx.Record(key, command.CommandDone{Key: "order-7", Action: "book.lend", Target: "book-7", Digest: fmt.Sprintf("%064d", n)})
					})
					if err != nil {
						b.Fatal(err)
					}
				}, func() {
					call := command.Call{Actor: command.As("ann"), Action: "book.lend", Target: fmt.Sprintf("book-%d", n), Content: Lend{To: "cleo"}}
					if keyed {
						call.Key = fmt.Sprintf("order-%d", n)
					}
					_, err := door.Do(ctx, call, func(tx *command.Tx) error {
						if err := tx.Authorize(call.Action, call.Target, nil); err != nil {
							return err
						}
						_, err := books.Do(tx.Tx, call.Target, Lend{To: "cleo"})
						return err
					})
					if err != nil {
						b.Fatal(err)
					}
					n++
				})
			})
		}
	}
}

type authorizerFunc func(context.Context, command.Request) error

func (f authorizerFunc) Authorize(ctx context.Context, r command.Request) error { return f(ctx, r) }
