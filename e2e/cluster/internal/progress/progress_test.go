package progress

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"
)

// clock is a settable time source.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.t }
func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func TestStepTellsEstimateDurationAndOutcome(t *testing.T) {
	var out bytes.Buffer
	c := &clock{t: time.Unix(1000, 0)}
	l := newLog(&out, c.now, time.Hour)
	c.add(2 * time.Second)
	s := l.Step("build etcd", 90*time.Second)
	c.add(42 * time.Second)
	s.Done(nil)
	s.Done(errors.New("a second call must change nothing"))
	f := l.Step("build helm", 0)
	c.add(1500 * time.Millisecond)
	f.Done(errors.New("broken"))
	want := "[    2.0 s] build etcd (about 90 s)\n" +
		"[   44.0 s] build etcd: done in 42 s\n" +
		"[   44.0 s] build helm\n" +
		"[   45.5 s] build helm: FAILED after 1.5 s\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestRunningStepRepeatsItself(t *testing.T) {
	lines := make(chan string, 100)
	l := newLog(writerFunc(func(p []byte) (int, error) { lines <- string(p); return len(p), nil }), time.Now, time.Millisecond)
	s := l.Step("build etcd", 90*time.Second)
	defer s.Done(nil)
	for i, want := range [][2]string{{"build etcd (about", "90 s)\n"}, {"build etcd: still working, ", " s of about 90 s\n"}} {
		select {
		case got := <-lines:
			if !strings.Contains(got, want[0]) || !strings.HasSuffix(got, want[1]) {
				t.Errorf("line %d: got %q, want it to contain %q and to end with %q", i, got, want[0], want[1])
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("line %d: nothing within 10 s, want %q", i, want[0])
		}
	}
}

func TestPrintfIndentsFollowingLines(t *testing.T) {
	var out bytes.Buffer
	c := &clock{t: time.Unix(1000, 0)}
	newLog(&out, c.now, time.Hour).Printf("one\ntwo %d\n", 2)
	if want := "[    0.0 s] one\n            two 2\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
