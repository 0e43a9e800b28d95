package cluster

import (
	"archive/tar"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"weightlock.dev/e2e/cluster/internal/artifacts"
	"weightlock.dev/e2e/cluster/internal/progress"
)

func testCluster(o Options) *Cluster {
	return &Cluster{name: o.Name, dir: "/state/" + o.Name, log: progress.New(io.Discard),
		set:   &artifacts.Set{Bin: "/set/bin", CNI: "/set/cni"},
		state: state{Options: o, Phase: phaseUp}}
}

func TestOptionsValidate(t *testing.T) {
	change := func(f func(*Options)) Options {
		o := DefaultOptions()
		f(&o)
		return o
	}
	for _, test := range []struct {
		options Options
		want    string // "" accepts
	}{
		{DefaultOptions(), ""},
		{change(func(o *Options) { o.Name = "dev-1" }), ""},
		{change(func(o *Options) { o.Nodes = MaxNodes }), ""},
		{change(func(o *Options) { o.Name = "../x" }), `--name "../x": use 1 to 20`},
		{change(func(o *Options) { o.Name = strings.Repeat("a", 21) }), "use 1 to 20"},
		{change(func(o *Options) { o.Nodes = 0 }), "--nodes 0: use 1 to 9"},
		{change(func(o *Options) { o.Nodes = 10 }), "--nodes 10: use 1 to 9"},
		{change(func(o *Options) { o.PolicyEnforcement = "off" }), `--policy-enforcement "off": use default or never`},
		{change(func(o *Options) { o.WebhookPort = 70000 }), "--webhook-port 70000: use a port"},
		{change(func(o *Options) { o.WebhookPort = apiPort }), "the control plane itself listens there"},
	} {
		err := test.options.Validate()
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%+v: %v, want no error", test.options, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%+v: %v, want %q", test.options, err, test.want)
		}
	}
}

func TestStateMustBeVisibleInNodes(t *testing.T) {
	for dir, want := range map[string]bool{"/home/me/.local/state/x": true, "/var/tmp/x": true, "/running": true,
		"/var/lib/x": false, "/mnt": false, "/run/user/0": false} {
		if err := visibleInNodes(dir, "V"); (err == nil) != want {
			t.Errorf("%s: %v, want accepted: %v", dir, err, want)
		} else if err != nil && !strings.Contains(err.Error(), "set V to a directory elsewhere") {
			t.Errorf("%s: the error has no remedy: %v", dir, err)
		}
	}
}

func TestKubeletConfigBelongsToItsNode(t *testing.T) {
	o := DefaultOptions()
	o.Name = "dev"
	raw, err := testCluster(o).kubeletConfig(2)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"cgroupRoot": "/wl-dev/node2", "address": "10.99.0.12", "failCgroupV1": false, "oomScoreAdj": float64(0),
		"tlsCertFile": "/state/dev/pki/node2.crt", "resolvConf": "/state/dev/node2/etc/resolv.conf",
	} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	if anonymous := got["authentication"].(map[string]any)["anonymous"].(map[string]any)["enabled"]; anonymous != false {
		t.Errorf("anonymous access is %v, want false", anonymous)
	}
}

func TestContainerdConfig(t *testing.T) {
	text := containerdConfig("/cni dir", "/bin/runc")
	for _, want := range []string{
		"[plugins.'io.containerd.nri.v1.nri'.default_validator]\n    enable = true",
		"restrict_oom_score_adj = true",
		`bin_dirs = ["/cni dir"]`, `BinaryName = "/bin/runc"`,
		`sandbox = "registry.invalid/e2e/pause:1"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("containerd's configuration lacks %q:\n%s", want, text)
		}
	}
}

func TestCiliumFollowsThePolicyOption(t *testing.T) {
	for _, mode := range []string{"default", "never"} {
		o := DefaultOptions()
		o.PolicyEnforcement = mode
		cmd, err := ciliumCommand(testCluster(o), "node1")
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(cmd.Args, "--enable-policy="+mode) || !slices.Contains(cmd.Env, "K8S_NODE_NAME=node1") {
			t.Errorf("mode %s: %v %v", mode, cmd.Args, cmd.Env)
		}
	}
}

func TestControlPlaneOnlyHasNoNodes(t *testing.T) {
	o := DefaultOptions()
	o.ControlPlaneOnly, o.WebhookPort = true, 9443
	c := testCluster(o)
	if got := c.memberNames(); !slices.Equal(got, []string{controlPlane}) {
		t.Errorf("members %v, want the control plane only", got)
	}
	var names []string
	for _, comp := range c.controlPlaneComponents() {
		names = append(names, comp.name)
	}
	want := []string{"etcd", "apiserver", "api-forward", "webhook-forward", "controller-manager"}
	if !slices.Equal(names, want) {
		t.Errorf("components %v, want %v", names, want)
	}
}

func TestFindComponent(t *testing.T) {
	c := testCluster(DefaultOptions())
	for _, test := range []struct {
		name string
		node int
		want []string
	}{
		{"etcd", 0, []string{controlPlane}},
		{"kubelet", 0, []string{"node1", "node2"}},
		{"kubelet", 2, []string{"node2"}},
	} {
		if _, members, err := c.find(test.name, test.node); err != nil || !slices.Equal(members, test.want) {
			t.Errorf("%s on %d: %v, %v, want %v", test.name, test.node, members, err, test.want)
		}
	}
	if _, _, err := c.find("docker", 0); err == nil || !strings.Contains(err.Error(), `component "docker": use one of etcd, apiserver,`) {
		t.Errorf("an unknown component gives %v", err)
	}
}

func TestSameOptionsNamesTheDifference(t *testing.T) {
	c := testCluster(DefaultOptions())
	o := DefaultOptions()
	o.Nodes = 3
	if err := c.sameOptions(o, map[string]bool{}); err != nil {
		t.Errorf("an option that nobody gave is compared: %v", err)
	}
	err := c.sameOptions(o, map[string]bool{"nodes": true})
	if err == nil || !strings.Contains(err.Error(), "cluster weightlock runs with --nodes=2, not 3: run `down --name weightlock` first") {
		t.Errorf("another number of nodes gives %v", err)
	}
}

func TestSplitCRDs(t *testing.T) {
	text := "# head\n---\nkind: Kustomization\n---\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata:\n  annotations: {}\n  name: a.example.org\nspec:\n  names:\n    kind: A\n"
	docs := documentBreak.Split(text, -1)
	if len(docs) != 3 || crdKind.MatchString(docs[1]) || !crdKind.MatchString(docs[2]) {
		t.Fatalf("split into %q", docs)
	}
	if got := crdName.FindStringSubmatch(docs[2]); got == nil || got[1] != "a.example.org" {
		t.Errorf("name %q, want a.example.org", got)
	}
}

func TestImageNames(t *testing.T) {
	write := func(name, content string) string {
		path := filepath.Join(t.TempDir(), "image.tar")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		w := tar.NewWriter(f)
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return path
	}
	oci := write("index.json", `{"manifests":[{"annotations":{"io.containerd.image.name":"r.invalid/a:1"}}]}`)
	docker := write("./manifest.json", `[{"RepoTags":["r.invalid/b:1","r.invalid/b:2"]}]`)
	for path, want := range map[string][]string{oci: {"r.invalid/a:1"}, docker: {"r.invalid/b:1", "r.invalid/b:2"}} {
		if got, err := imageNames(path); err != nil || !slices.Equal(got, want) {
			t.Errorf("%v, %v, want %v", got, err, want)
		}
	}
	if _, err := imageNames(write("etc/passwd", "")); err == nil || !strings.Contains(err.Error(), "names no image") {
		t.Errorf("an archive without images gives %v", err)
	}
}

func TestNodeReadyCountsOnlyReportsSinceTheBoot(t *testing.T) {
	var n nodeInfo
	raw := `{"status":{"conditions":[{"type":"DiskPressure","status":"True"},
		{"type":"Ready","status":"True","lastHeartbeatTime":"2026-01-01T10:00:05Z"}]}}`
	if err := json.Unmarshal([]byte(raw), &n); err != nil {
		t.Fatal(err)
	}
	at := func(second int) time.Time { return time.Date(2026, 1, 1, 10, 0, second, 0, time.UTC) }
	if ready, why := n.ready(at(5)); !ready {
		t.Errorf("a report of the second of the boot does not count: %s", why)
	}
	if ready, why := n.ready(at(6)); ready || why != "the kubelet has not reported since the node booted" {
		t.Errorf("a report from before the boot counts: %v, %q", ready, why)
	}
	if ready, _ := (nodeInfo{}).ready(at(0)); ready {
		t.Error("a node that never reported is Ready")
	}
}
