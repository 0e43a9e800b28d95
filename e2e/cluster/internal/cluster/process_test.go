package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestParseStat(t *testing.T) {
	line := "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 200 rest"
	state, start, err := parseStat([]byte(line))
	if err != nil || state != 'S' || start != 98765 {
		t.Errorf("state %c, start %d, %v; want S, 98765", state, start, err)
	}
	for _, bad := range []string{"", "42 (x", "42 (x) S 1 2"} {
		if _, _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestProcessIdentity(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if !p.alive() {
		t.Error("a running process is not alive")
	}
	other := p
	other.Start++
	if other.alive() {
		t.Error("another process with the same pid is taken for the first")
	}
	other = p
	other.Boot = "before"
	if other.alive() {
		t.Error("a process of an earlier boot is taken for a running one")
	}
	if p.ended() {
		t.Error("a running process has ended")
	}
	if err := p.kill(); err != nil {
		t.Error(err)
	}
	if !p.ended() {
		t.Error("a killed process has not ended")
	}
	// Nobody has waited for it yet: it is a zombie.
	if p.alive() {
		t.Error("a killed process is alive")
	}
	_ = cmd.Wait()
	if (process{}).alive() {
		t.Error("no process is alive")
	}
}

func TestParseHierarchies(t *testing.T) {
	const v1 = `25 20 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw
26 25 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
27 25 0:24 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
28 25 0:25 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
29 1 0:25 / /elsewhere rw - cgroup2 cgroup2 rw
`
	got := parseHierarchies(v1)
	want := []hierarchy{{"/sys/fs/cgroup/cpu,cpuacct", false}, {"/sys/fs/cgroup/memory", false}, {"/sys/fs/cgroup/unified", true}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if joins(want[2], want) || !joins(want[0], want) {
		t.Error("beside v1 hierarchies, processes move into those and not into v2")
	}
	got = parseHierarchies("30 20 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n")
	if !reflect.DeepEqual(got, []hierarchy{{"/sys/fs/cgroup", true}}) || !joins(got[0], got) {
		t.Errorf("v2 alone gives %v", got)
	}
}

func TestRemoveTree(t *testing.T) {
	top := filepath.Join(t.TempDir(), "a")
	if err := os.MkdirAll(filepath.Join(top, "b", "c"), 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to do
		if err := removeTree(top); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(top); !errors.Is(err, os.ErrNotExist) {
			t.Fatal("it is still there")
		}
	}
}

func TestFailureShowsTheLog(t *testing.T) {
	log := filepath.Join(t.TempDir(), "x.log")
	if err := os.WriteFile(log, []byte(strings.Repeat("early\n", 50)+"the reason\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	text := (&failure{what: "etcd", err: errEnded, log: log}).Error()
	if !strings.HasPrefix(text, "etcd: the program has ended\nlook at "+log+", which ends with\n") || !strings.HasSuffix(text, "  | the reason") {
		t.Error(text)
	}
	if n := strings.Count(text, "  | "); n != tailLines {
		t.Errorf("%d lines of the log, want %d", n, tailLines)
	}
	text = (&failure{what: "etcd", err: errEnded, log: log + ".none"}).Error()
	if !strings.HasSuffix(text, ", which is empty") {
		t.Error(text)
	}
}

func wrapCanceled() error { return fmt.Errorf("node2: %w", context.Canceled) }

func TestOnlyTheCauseIsShown(t *testing.T) {
	cause := errors.New("cause")
	err := withoutCanceled(errors.Join(cause, wrapCanceled()))
	if !errors.Is(err, cause) || strings.Contains(err.Error(), "canceled") {
		t.Error(err)
	}
	if err := withoutCanceled(errors.Join(wrapCanceled())); err == nil {
		t.Error("the only error is lost")
	}
	if err := withoutCanceled(nil); err != nil {
		t.Error(err)
	}
}
