// Command embed is a deploy tool that asks "may I deploy now?" and prints yes, or
// every rule that stands in the way and what to do. It exits with 0 for yes, 1 for
// no, and 2 where it could not be found out, which is not a yes.
//
//	go run ./examples/embed -log changes.db -as deploy-bot CHG-000042
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/rollforward/rollforward"
	"github.com/rollforward/rollforward/change"
	"github.com/rollforward/rollforward/eventstore/command"
	"github.com/rollforward/rollforward/eventstore/sqlite"
)

func main() {
	file := flag.String("log", "changes.db", "the log, an SQLite file")
	as := flag.String("as", "deploy-bot", "who asks")
	flag.Parse()
	may, err := mayDeploy(context.Background(), os.Stdout, *file, *as, flag.Arg(0))
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "could not be found out:", err)
		os.Exit(2)
	case !may:
		os.Exit(1)
	}
}

func mayDeploy(ctx context.Context, out io.Writer, file, actor, id string) (bool, error) {
	store, err := sqlite.Open(file)
	if err != nil {
		return false, err
	}
	defer store.Close()
	engine, err := rollforward.Open(ctx, store, rollforward.Config{
		Authorizer: command.Roles{actor: {command.Implementer}},
	})
	if err != nil {
		return false, err
	}
	defer engine.Close()

	why, err := engine.Changes.Why(ctx, command.As(actor), id, change.Start{})
	if err != nil {
		return false, err
	}
	if len(why) == 0 {
		fmt.Fprintln(out, "yes")
	}
	for _, rule := range why {
		fmt.Fprintln(out, "no:", rule)
	}
	return len(why) == 0, nil
}
