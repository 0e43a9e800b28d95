package selftest

import (
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
)

func TestDifferences(t *testing.T) {
	before := hostState{"mounts": {"/", "/proc"}, "cgroups": {"/a"}}
	after := hostState{"mounts": {"/", "/x"}, "cgroups": {"/a"}, "listening ports": {"80"}}
	got := differences(before, after)
	want := []string{"listening ports: new: 80", "mounts: gone: /proc", "mounts: new: /x"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := differences(before, before); len(got) != 0 {
		t.Errorf("equal states differ: %q", got)
	}
}

func TestListeningPortsSeesANewOne(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	ports, err := listeningPorts()
	if err != nil || !slices.Contains(ports, port) {
		t.Errorf("%v, %v, want port %s among them", ports, err, port)
	}
	l.Close()
}

func TestContainsWantsTheRightFailure(t *testing.T) {
	if err := contains(errors.New("timed out"), "timed out"); err != nil {
		t.Error(err)
	}
	if err := contains(nil, "timed out"); err == nil || !strings.Contains(err.Error(), "should have failed") {
		t.Errorf("success gives %v", err)
	}
	if err := contains(errors.New("no route"), "timed out"); err == nil {
		t.Error("another failure is accepted")
	}
}

func TestInFamilies(t *testing.T) {
	for _, test := range []struct {
		got       string
		dualStack bool
		want      bool
	}{
		{"10.244.1.2", false, true},
		{"10.244.1.2 fd00::2", true, true},
		{"10.244.1.0/24 fd00::/64", true, true},
		{"10.244.1.2 fd00::2", false, false},
		{"10.244.1.2", true, false},
		{"fd00::2 10.244.1.2", true, false},
		{"", false, false},
	} {
		if err := inFamilies(strings.Fields(test.got), test.dualStack); (err == nil) != test.want {
			t.Errorf("%q, dual-stack %v: %v", test.got, test.dualStack, err)
		}
	}
}

func TestOtherClustersAreLeftOut(t *testing.T) {
	state := hostState{"cgroups": {"/c/wl-dev", "/c/wl-selftest"}, "listening ports": {"1", "2"}, "cluster state": {"/s/dev", "/s/.dev.lock", "/s/selftest"}}
	state.without([]otherCluster{{"dev", "1"}})
	left := differences(hostState{}, state)
	want := []string{"cgroups: new: /c/wl-selftest", "cluster state: new: /s/selftest", "listening ports: new: 2"}
	if !slices.Equal(left, want) {
		t.Errorf("%q, want %q", left, want)
	}
}
