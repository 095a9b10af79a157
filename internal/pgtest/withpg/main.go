//go:build unix

// Command withpg runs a command with an empty PostgreSQL database, of a server that it
// starts before and stops after, or of the one that ROLLFORWARD_TEST_POSTGRES names. The
// command finds the connection string in the variable DSN:
//
//	go run ./internal/pgtest/withpg sh -c 'go run ./examples/quickstart -store "postgres:$DSN"'
//
// Its exit status is the command's.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/rollforward/rollforward/internal/pgtest"
)

func main() {
	// Who is interrupted stops the server all the same.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "withpg:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, command []string) (err error) {
	if len(command) == 0 {
		return errors.New("say which command to run")
	}
	dsn, end, err := pgtest.Serve()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "DSN="+dsn)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd.Run()
}
