package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// tailLines is how many of a log's last lines an error repeats.
const tailLines = 12

// failure is an error that names the log to look at and repeats its end.
type failure struct {
	what string
	err  error
	log  string
}

func (f *failure) Unwrap() error { return f.err }

func (f *failure) Error() string {
	text := fmt.Sprintf("%s: %v\nlook at %s", f.what, f.err, f.log)
	if end := tail(f.log, tailLines); end != "" {
		text += ", which ends with\n" + end
	} else {
		text += ", which is empty"
	}
	return text
}

// tail gives the last lines of a file, each indented, cut to a readable length.
func tail(file string, lines int) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	const most = 64 << 10
	if info, err := f.Stat(); err == nil && info.Size() > most {
		if _, err := f.Seek(-most, 2); err != nil {
			return ""
		}
	}
	raw := make([]byte, most)
	n, _ := readFull(f, raw)
	return lastLines(string(raw[:n]), lines)
}

func readFull(f *os.File, buf []byte) (int, error) {
	total := 0
	for total < len(buf) {
		n, err := f.Read(buf[total:])
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

func lastLines(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	const width = 300
	for i, line := range all {
		if len(line) > width {
			line = line[:width] + "…"
		}
		all[i] = "  | " + line
	}
	if len(all) == 1 && all[0] == "  | " {
		return ""
	}
	return strings.Join(all, "\n")
}

// waitFor repeats check until it succeeds. It gives up when the component ends, when the time is over, or with ctx.
func (c *Cluster) waitFor(ctx context.Context, member string, comp component, limit time.Duration, check func(context.Context) error) error {
	what := comp.name + " on " + member
	return c.poll(ctx, what, limit, func(ctx context.Context) error {
		if err := check(ctx); err != nil {
			if !c.member(member).Processes[comp.name].alive() {
				return &failure{what: what, err: errEnded, log: c.logFile(member, comp.name)}
			}
			return err
		}
		return nil
	}, c.logFile(member, comp.name))
}

// errEnded ends a wait: what it waited for cannot come.
var errEnded = errors.New("the program has ended")

// poll repeats check until it succeeds, ends with errEnded, or the limit is over; then the error names log.
func (c *Cluster) poll(ctx context.Context, what string, limit time.Duration, check func(context.Context) error, log string) error {
	deadline := time.Now().Add(limit)
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, errEnded) {
			return err
		}
		if time.Now().After(deadline) {
			return &failure{what: what, err: fmt.Errorf("not well after %.0f s: %w", limit.Seconds(), err), log: log}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// parallel runs all functions at once and gives all their errors.
func parallel(work ...func() error) error {
	var wg sync.WaitGroup
	failed := make([]error, len(work))
	for i, fn := range work {
		wg.Go(func() { failed[i] = fn() })
	}
	wg.Wait()
	return errors.Join(failed...)
}

// dialInside gives a dialer whose connections are made in namespaces of the process pid.
func dialInside(pid, namespaces int) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = inside(pid, namespaces, func() (err error) {
			conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}
}
