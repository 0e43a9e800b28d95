package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// memberNamespaces are the kinds of namespaces that a member has of its own.
const memberNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET

// startHolder starts the process that keeps a new set of namespaces. pause is the static program that becomes
// process 1 in there: it reaps what is orphaned and does nothing else.
func startHolder(pause, stateDir string) (process, error) {
	cmd := exec.Command(pause)
	cmd.Dir = "/"
	cmd.Env = []string{holderMark + "=" + stateDir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: memberNamespaces, Setsid: true}
	if err := cmd.Start(); err != nil {
		return process{}, fmt.Errorf("make namespaces with %s: %w (this needs root)", pause, err)
	}
	go func() { _ = cmd.Wait() }() // reaps it if it ends while this program still runs
	return identify(cmd.Process.Pid)
}

// inside runs fn on a thread of its own that has entered the given namespaces of the process pid, and waits for it.
// What fn starts is inside too; goroutines that fn starts are not. A pid namespace holds only for what fn starts.
func inside(pid, namespaces int, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine instead of going back to the pool in foreign namespaces.
		runtime.LockOSThread()
		done <- enter(pid, namespaces, fn)
	}()
	return <-done
}

func enter(pid, namespaces int, fn func() error) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("process %d that holds the namespaces: %w", pid, err)
	}
	defer unix.Close(fd)
	if namespaces&unix.CLONE_NEWNS != 0 {
		// The kernel lets a thread change its mount namespace only if it shares root and working directory with no other.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return fmt.Errorf("unshare root directory: %w", err)
		}
	}
	if err := unix.Setns(fd, namespaces); err != nil {
		return fmt.Errorf("enter namespaces of process %d: %w", pid, err)
	}
	return fn()
}

// command is one program to run inside a member.
type command struct {
	Path  string // absolute
	Args  []string
	Env   []string
	Stdin io.Reader
	// Namespaces are those of the member that the program enters; 0 means all of them.
	Namespaces int
	// Extra become the file descriptors 3 and up of a program that startInside starts.
	Extra []*os.File
}

func (c command) namespaces() int {
	if c.Namespaces == 0 {
		return memberNamespaces
	}
	return c.Namespaces
}

// runInside runs a program to its end inside the holder's namespaces and gives its standard output. The error holds
// what it wrote to standard error.
func runInside(ctx context.Context, holder process, c command) ([]byte, error) {
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(ctx, c.Path, c.Args...)
	cmd.Dir, cmd.Env, cmd.Stdin = "/", c.Env, c.Stdin
	cmd.Stdout, cmd.Stderr = &out, &errOut
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = 5 * time.Second
	if err := inside(holder.Pid, c.namespaces(), cmd.Start); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(c.Path), err)
	}
	if err := cmd.Wait(); err != nil {
		text := strings.TrimSpace(errOut.String())
		if text == "" {
			text = strings.TrimSpace(out.String())
		}
		return out.Bytes(), fmt.Errorf("%s %s: %w: %s", filepath.Base(c.Path), strings.Join(c.Args, " "), err, text)
	}
	return out.Bytes(), nil
}

// launcher starts the program given by its arguments and waits to be told to go. The program's parent is thereby a
// process of the member's pid namespace; when that ends, process 1 of the namespace inherits and later reaps it.
// A direct child of this program would go to process 1 of the host, which may take its time.
const launcher = `"$@" & read -r go`

// startInside starts a long-running program in namespaces of the holder, in the cgroups given, with its output appended
// to the file log.
func startInside(holder process, c command, cgroups []string, log string) (process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return process{}, err
	}
	defer out.Close()
	cmd := exec.Command("/bin/sh", append([]string{"-c", launcher, "sh", c.Path}, c.Args...)...)
	cmd.Dir, cmd.Env = "/", c.Env
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = out, out, c.Extra
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	release, err := cmd.StdinPipe()
	if err != nil {
		return process{}, err
	}
	err = inside(holder.Pid, c.namespaces(), func() error {
		for _, dir := range cgroups {
			if err := joinCgroup(dir); err != nil {
				return err
			}
		}
		return cmd.Start()
	})
	if err != nil {
		return process{}, fmt.Errorf("start %s: %w", c.Path, err)
	}
	pid, err := onlyChild(cmd.Process.Pid)
	if err != nil {
		return process{}, errors.Join(fmt.Errorf("start %s: %w", c.Path, err), cmd.Process.Kill(), cmd.Wait())
	}
	p, err := identify(pid)
	for _, dir := range cgroups {
		err = errors.Join(err, moveToCgroup(dir, pid))
	}
	_ = release.Close()
	// The status of the launcher is that of its read, which meets the end of the pipe.
	_ = cmd.Wait()
	return p, err
}

// onlyChild waits for the first child of a process and gives its pid as the host sees it.
func onlyChild(parent int) (int, error) {
	file := fmt.Sprintf("/proc/%d/task/%d/children", parent, parent)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		raw, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		if fields := strings.Fields(string(raw)); len(fields) > 0 {
			return strconv.Atoi(fields[0])
		}
	}
	return 0, fmt.Errorf("the launcher %d started nothing within 10 s", parent)
}
