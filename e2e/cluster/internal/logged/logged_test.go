package logged

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestFailureShowsTheEndOfTheLogAndItsPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "logs", "x.log")
	err := Run(context.Background(), Command{Log: path, Dir: "/", Env: []string{"GREETING=hello"},
		Args: []string{"sh", "-c", "seq 100; echo $GREETING >&2; exit 3"}})
	if err == nil {
		t.Fatal("exit status 3 was taken for success")
	}
	for _, want := range []string{"exit status 3; the end of " + path + ":\n", "\n    100\n    hello"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not contain %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "    81\n") {
		t.Errorf("error shows more than the last %d lines: %q", tail, err)
	}
	data, readErr := os.ReadFile(path)
	if readErr != nil || !strings.Contains(string(data), "\n81\n") {
		t.Errorf("the log lacks the output (%v)", readErr)
	}
}

func TestCancellationEndsTheWholeGroup(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		// The shell and its child both ignore SIGTERM; the child writes its process id.
		done <- Run(ctx, Command{Log: filepath.Join(dir, "log"), Dir: dir, Grace: 100 * time.Millisecond,
			Args: []string{"sh", "-c", `trap "" TERM; sh -c 'echo $$ > pid.new; mv pid.new pid; sleep 60 & wait'; sleep 60`}})
	}()
	var pid int
	for deadline := time.Now().Add(10 * time.Second); pid == 0; time.Sleep(5 * time.Millisecond) {
		if data, err := os.ReadFile(filepath.Join(dir, "pid")); err == nil {
			pid, _ = strconv.Atoi(strings.TrimSpace(string(data)))
		}
		if time.Now().After(deadline) {
			t.Fatal("the program did not start")
		}
	}
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want an error that wraps %v", err, context.Canceled)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Run did not return")
	}
	for deadline := time.Now().Add(10 * time.Second); !gone(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("child %d still runs", pid)
		}
	}
}

// gone tells whether a process has ended; one that nobody has waited for yet counts as ended.
func gone(pid int) bool {
	if syscall.Kill(pid, 0) == syscall.ESRCH {
		return true
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(stat), ") Z ")
}
