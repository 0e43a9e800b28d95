// Package progress writes the lines by which a long operation shows that it is alive: every line starts with the
// time since the operation began, and a running step repeats how long it has taken of how long it usually takes.
package progress

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// heartbeat is how often a running step repeats itself: often enough that nobody takes it for hung, seldom enough
// that a CI log of a cold build stays readable.
const heartbeat = 15 * time.Second

// Log is a stream of progress lines. It is safe for concurrent use.
type Log struct {
	mu    sync.Mutex
	w     io.Writer
	start time.Time
	now   func() time.Time
	every time.Duration
}

// New returns a Log that writes to w and counts elapsed time from now on.
func New(w io.Writer) *Log { return newLog(w, time.Now, heartbeat) }

func newLog(w io.Writer, now func() time.Time, every time.Duration) *Log {
	return &Log{w: w, start: now(), now: now, every: every}
}

// Printf writes one line, or several when the text holds line breaks. A trailing line break is not needed.
func (l *Log) Printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	stamp := fmt.Sprintf("[%7.1f s] ", l.now().Sub(l.start).Seconds())
	text := strings.TrimRight(fmt.Sprintf(format, args...), "\n")
	for i, line := range strings.Split(text, "\n") {
		if i > 0 {
			stamp = strings.Repeat(" ", len(stamp))
		}
		fmt.Fprintf(l.w, "%s%s\n", stamp, line)
	}
}

// Step announces a piece of work, for example "build etcd", and repeats its name until Done is called.
// estimate is how long it usually takes; zero means that nobody knows, or that it is short.
func (l *Log) Step(name string, estimate time.Duration) *Step {
	s := &Step{log: l, name: name, estimate: estimate, begin: l.now(), stop: make(chan struct{})}
	if estimate > 0 {
		l.Printf("%s (about %s)", name, seconds(estimate))
	} else {
		l.Printf("%s", name)
	}
	s.wg.Add(1)
	go s.beat()
	return s
}

// Step is one running piece of work.
type Step struct {
	log      *Log
	name     string
	estimate time.Duration
	begin    time.Time
	stop     chan struct{}
	once     sync.Once
	wg       sync.WaitGroup
}

func (s *Step) beat() {
	defer s.wg.Done()
	t := time.NewTicker(s.log.every)
	defer t.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-t.C:
			s.log.Printf("%s: still working, %s", s.name, s.spent())
		}
	}
}

func (s *Step) spent() string {
	took := seconds(s.log.now().Sub(s.begin))
	if s.estimate > 0 {
		return fmt.Sprintf("%s of about %s", took, seconds(s.estimate))
	}
	return took
}

// Done ends the step and writes how it went. Only the first call counts, so that a deferred Done(err) may follow an
// earlier one.
func (s *Step) Done(err error) {
	s.once.Do(func() {
		close(s.stop)
		s.wg.Wait()
		took := seconds(s.log.now().Sub(s.begin))
		if err != nil {
			s.log.Printf("%s: FAILED after %s", s.name, took)
			return
		}
		s.log.Printf("%s: done in %s", s.name, took)
	})
}

// seconds renders a duration the way the lines want it: tenths while it is short, whole seconds later.
func seconds(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%.0f s", d.Seconds())
}
