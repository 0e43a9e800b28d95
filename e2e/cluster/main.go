// Command cluster runs a real Kubernetes on this machine for Weightlock's tests, from package registries only.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"weightlock.dev/e2e/cluster/internal/cluster"
)

// The main goroutine keeps the process's first thread: threads that enter a member's namespaces are thrown away
// afterwards, and the first one cannot be.
func init() { runtime.LockOSThread() }

func main() {
	if len(os.Args) == 3 && os.Args[1] == cluster.ForwardVerb {
		exit(cluster.Forward(os.Args[2]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		// A second signal ends the program at once.
		stop()
	}()
	exit(run(ctx, os.Args[1:]))
}

// usageError is an error in what a person typed. The exit code tells it from one in what was asked for.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func exit(err error) {
	var usage usageError
	switch {
	case err == nil:
		os.Exit(0)
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "%v\n`cluster help` lists the verbs.\n", err)
		os.Exit(2)
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "interrupted")
		os.Exit(130)
	}
	fmt.Fprintf(os.Stderr, "cluster: %v\n", err)
	os.Exit(1)
}
