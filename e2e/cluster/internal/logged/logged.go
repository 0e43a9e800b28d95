// Package logged runs external programs whose output is too long for a terminal: it goes to a file, and a failure
// shows the end of it and says where the rest is.
package logged

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// tail is how many lines of a log an error shows.
const tail = 20

// Command is one program to run.
type Command struct {
	// Log is the path of the file that receives the output. It is replaced; its directory is made.
	Log string
	// Dir is the working directory.
	Dir string
	// Env is added to the environment of this process and wins over it.
	Env []string
	// Args are the program and its arguments.
	Args []string
	// Grace is how long the program may take to end after a cancellation before it is killed; 5 s when zero.
	Grace time.Duration
}

// Run executes c. The error of a program that failed holds the last lines of its output and the path of the log.
// When ctx ends, the program and all of its children are ended before Run returns.
func Run(ctx context.Context, c Command) error {
	if err := os.MkdirAll(filepath.Dir(c.Log), 0o755); err != nil {
		return err
	}
	out, err := os.Create(c.Log)
	if err != nil {
		return err
	}
	defer out.Close()
	fmt.Fprintf(out, "# in %s\n# %s %s\n", c.Dir, strings.Join(c.Env, " "), strings.Join(c.Args, " "))
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.Dir, out, out
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = c.Grace
	if c.Grace == 0 {
		cmd.WaitDelay = 5 * time.Second
	}
	err = cmd.Run()
	if ctx.Err() != nil {
		if cmd.Process != nil {
			// Children that ignored SIGTERM; that there are none is the good case.
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
		return fmt.Errorf("%s stopped: %w", filepath.Base(c.Args[0]), context.Cause(ctx))
	}
	if err != nil {
		return fmt.Errorf("`%s`: %w; the end of %s:\n%s", strings.Join(c.Args, " "), err, c.Log, lastLines(c.Log))
	}
	return nil
}

func lastLines(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimRight(data, "\n"), []byte("\n"))
	return "    " + string(bytes.Join(lines[max(0, len(lines)-tail):], []byte("\n    ")))
}
