package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"slices"
	"strings"
	"testing"

	"weightlock.dev/e2e/cluster/internal/cluster"
	"weightlock.dev/e2e/cluster/internal/progress"
)

func testApp() *app { return &app{name: cluster.DefaultName, log: progress.New(io.Discard)} }

func TestTakeNameLeavesTheRestAlone(t *testing.T) {
	for _, test := range []struct{ args, rest []string }{
		{[]string{"--name", "dev", "get", "--name", "x"}, []string{"get", "--name", "x"}},
		{[]string{"--name=dev", "-n", "y"}, []string{"-n", "y"}},
		{[]string{"-name=dev"}, nil},
	} {
		a := testApp()
		rest, err := a.takeName(test.args)
		if err != nil || a.name != "dev" || !slices.Equal(rest, test.rest) {
			t.Errorf("%v: name %q, rest %v, %v", test.args, a.name, rest, err)
		}
	}
	if _, err := testApp().takeName([]string{"--name"}); err == nil {
		t.Error("--name without a name is accepted")
	}
}

func TestParseTakesFlagsAnywhere(t *testing.T) {
	a := testApp()
	fs := a.flags("component")
	node := fs.Int("node", 0, "")
	rest, err := parse(fs, []string{"kill", "--node", "2", "kubelet", "--name=dev"}, 2, 2)
	if err != nil || *node != 2 || a.name != "dev" || !slices.Equal(rest, []string{"kill", "kubelet"}) {
		t.Errorf("%v, node %d, name %s, %v", rest, *node, a.name, err)
	}
}

func TestUsageErrors(t *testing.T) {
	for args, want := range map[string]string{
		"fly":                           `"fly" is not a verb`,
		"up --nodes 0":                  "--nodes 0: use 1 to 9",
		"up --nodes many":               "invalid value",
		"up --policy-enforcement=maybe": "use default or never",
		"up now":                        `up takes no argument "now"`,
		"node stop":                     "node wants at least 2 argument(s)",
		"node stop first":               "the node is a number",
		"node burn 1":                   `node "burn": use stop, start, partition, heal or path`,
		"component restart kubelet":     `component "restart": use kill or start`,
		"load":                          "load wants at least 1 argument(s)",
		"status --verbose":              "flag provided but not defined",
	} {
		err := run(context.Background(), strings.Fields(args))
		var usage usageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want a usage error with %q", args, err, want)
		}
	}
}

func TestUpFlags(t *testing.T) {
	a, o := testApp(), cluster.DefaultOptions()
	fs := upFlags(a, &o)
	args := strings.Fields("--nodes 3 --name dev --policy-enforcement=never --webhook-port 9443 --audit-log --api-port 7000 --dual-stack")
	if _, err := parse(fs, args, 0, 0); err != nil {
		t.Fatal(err)
	}
	want := cluster.Options{Name: cluster.DefaultName, Nodes: 3, PolicyEnforcement: "never", WebhookPort: 9443, AuditLog: true, APIPort: 7000, DualStack: true}
	if o != want || a.name != "dev" {
		t.Errorf("%+v for %s, want %+v for dev", o, a.name, want)
	}
	if _, err := parse(a.flags("up"), []string{"--help"}, 0, 0); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("--help gives %v", err)
	}
}

func TestHelpNamesEveryVerb(t *testing.T) {
	var text strings.Builder
	writeHelp(&text)
	for _, v := range verbs() {
		if !strings.Contains(text.String(), "  "+v.name) {
			t.Errorf("the help text lacks %s", v.name)
		}
	}
}
