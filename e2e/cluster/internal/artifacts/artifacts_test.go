package artifacts

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"weightlock.dev/e2e/cluster/internal/progress"
)

// checkout copies what the keys are made from into a directory of its own and sets an empty cache.
func checkout(t *testing.T) string {
	t.Helper()
	src := t.TempDir()
	t.Setenv("WEIGHTLOCK_E2E_CACHE", filepath.Join(t.TempDir(), "cache"))
	shell := filepath.Join(t.TempDir(), "busybox")
	edit(t, shell, "shell")
	old := busybox
	busybox = shell
	t.Cleanup(func() { busybox = old })
	for _, dir := range []string{"modules", "pause", "modelserver"} {
		if err := os.CopyFS(filepath.Join(src, dir), os.DirFS(filepath.Join("..", "..", dir))); err != nil {
			t.Fatal(err)
		}
	}
	edit(t, filepath.Join(src, "go.mod"), "module x\n\ngo 1.26.0\n")
	return src
}

// edit appends text to a file.
func edit(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// keys returns the key of every component, and that of the set under the name "set".
func keys(t *testing.T, src string) map[string]string {
	t.Helper()
	b, err := newBuilder(context.Background(), src, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{"set": filepath.Base(b.set().Root)}
	for _, c := range b.components {
		all[c.name] = c.key
	}
	return all
}

func TestAChangeRebuildsOnlyWhatItTouches(t *testing.T) {
	src := checkout(t)
	for _, c := range []struct {
		file string
		want []string
	}{
		{"modules/containerd/go.sum", []string{"containerd", "containerd-shim-runc-v2", "ctr"}},
		{"modules/cilium/go.mod", []string{"cilium-agent", "cilium-bpf", "cilium-cni", "cilium-crds", "policy-api-crds"}},
		{"modules/kubernetes/fakegpu/plugin.go", []string{"fakegpu"}},
		{"modules/kubernetes/coredns/main.go", []string{"coredns", "coredns-image"}},
		{"modules/netpol/netpol_test.go", nil},
		{"pause/main.go", []string{"pause", "pause-image"}},
		{"pause/new_test.go", nil},
		{"modelserver/main.go", []string{"model-server", "model-server-image"}},
		{busybox, []string{"agnhost-image"}},
	} {
		before := keys(t, src)
		path := c.file
		if !filepath.IsAbs(path) {
			path = filepath.Join(src, path)
		}
		edit(t, path, "\n")
		var changed []string
		for name, key := range keys(t, src) {
			if key != before[name] {
				changed = append(changed, name)
			}
		}
		slices.Sort(changed)
		want := slices.Clone(c.want)
		if want != nil {
			want = append(want, "set")
			slices.Sort(want)
		}
		if !reflect.DeepEqual(changed, want) {
			t.Errorf("a change of %s changed the keys of %v, want %v", c.file, changed, want)
		}
	}
}

func TestKeysDoNotDependOnWhereTheCheckoutLies(t *testing.T) {
	a, b := keys(t, checkout(t)), keys(t, checkout(t))
	if !reflect.DeepEqual(a, b) {
		t.Errorf("two equal checkouts have different keys:\n%v\n%v", a, b)
	}
}

func TestSourceKeyCoversWhatAClusterIsMadeFrom(t *testing.T) {
	src := checkout(t)
	for name, want := range map[string]bool{
		"main.go": true, "modules/netpol/netpol_test.go": true, "modules/cilium/go.sum": true,
		"README.md": false, "internal_test.go": false,
	} {
		before, err := SourceKey(src)
		if err != nil {
			t.Fatal(err)
		}
		edit(t, filepath.Join(src, name), "\n")
		after, err := SourceKey(src)
		if err != nil {
			t.Fatal(err)
		}
		if (before != after) != want {
			t.Errorf("a change of %s changed the key: %t, want %t", name, before != after, want)
		}
	}
}

func TestFieldsOfAKeyDoNotRunTogether(t *testing.T) {
	a, b := newKeyer(), newKeyer()
	a.add("ab", "c")
	b.add("a", "bc")
	if a.sum() == b.sum() {
		t.Error(`("ab", "c") and ("a", "bc") have the same key`)
	}
}

// stub is a component that counts how often it is made.
func stub(name string, made *int, err error) *component {
	return &component{name: name, estimate: time.Second,
		inputs: func(k *keyer) error { return nil },
		make: func(out string) error {
			*made++
			if e := os.WriteFile(filepath.Join(out, name), []byte(name), 0o644); e != nil {
				return e
			}
			return err
		}}
}

func TestBuildIsAllOrNothingAndHappensOnce(t *testing.T) {
	var out bytes.Buffer
	b := &builder{ctx: context.Background(), cache: t.TempDir(), log: progress.New(&out), byName: map[string]*component{}}
	var good, bad int
	broken := errors.New("broken")
	if err := b.add(stub("good", &good, nil), stub("bad", &bad, broken)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.buildMissing(b.components); !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "build bad: ") {
			t.Errorf("got %v, want build bad: broken", err)
		}
	}
	if good != 1 || bad != 2 {
		t.Errorf("good was made %d times, bad %d times; want 1 and 2", good, bad)
	}
	left, err := os.ReadDir(filepath.Join(b.cache, "components"))
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 1 || left[0].Name() != "good-"+b.byName["good"].key {
		t.Errorf("the cache holds %v, want good alone", left)
	}
	for _, want := range []string{"building 2 of 2 components", "build good (1 of 2) (about 1.0 s)", "build bad (1 of 1): FAILED"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the progress lacks %q:\n%s", want, out.String())
		}
	}
}

func TestLookupFindsOnlyACompleteSet(t *testing.T) {
	src := checkout(t)
	set, ok := Lookup(src)
	if ok {
		t.Fatal("an empty cache holds a set")
	}
	cache, err := CacheRoot()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(set.Root, cache+"/sets/") || set.Bin != set.Root+"/bin" {
		t.Errorf("set %+v is not in %s", set, cache)
	}
	if err := os.MkdirAll(set.Root, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, ok := Lookup(src); !ok {
		t.Error("a complete set was not found")
	}
	if _, ok := Lookup(t.TempDir()); ok {
		t.Error("a directory without sources has a set")
	}
}

func TestMissingGoIsNamed(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := newBuilder(context.Background(), t.TempDir(), nil)
	if err == nil || !strings.Contains(err.Error(), "`go` is not on PATH: install Go 1.26 or newer") {
		t.Errorf("got %v", err)
	}
}

func TestDebianIsRecognized(t *testing.T) {
	for release, want := range map[string]bool{
		"NAME=x\nID=debian\nVERSION_ID=\"12\"\n": true,
		"ID=ubuntu\nID_LIKE=debian\n":            true,
		"ID=mint\nID_LIKE=\"ubuntu debian\"\n":   true,
		"ID=fedora\nNAME=debian\n":               false,
		"":                                       false,
	} {
		if got := isDebian(release); got != want {
			t.Errorf("isDebian(%q) = %t", release, got)
		}
	}
}

func TestPackagesThatAreNotInstalled(t *testing.T) {
	var status strings.Builder
	for _, p := range debianPackages {
		switch p {
		case "nftables": // never heard of
		case "clang-19":
			status.WriteString(p + " config-files\n")
		default:
			status.WriteString(p + " installed\n")
		}
	}
	if got, want := notInstalled(status.String()), []string{"nftables", "clang-19"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestVerifierSizeLimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weightlock-verify")
	edit(t, path, "")
	if err := os.Truncate(path, maxVerifierBytes-1); err != nil {
		t.Fatal(err)
	}
	if err := checkVerifierSize(path); err != nil {
		t.Errorf("one byte below the limit: %v", err)
	}
	if err := os.Truncate(path, maxVerifierBytes); err != nil {
		t.Fatal(err)
	}
	if err := checkVerifierSize(path); err == nil || !strings.Contains(err.Error(), "has 5000000 bytes, the limit is 5000000") {
		t.Errorf("at the limit: %v", err)
	}
}

func TestOnlyDefinitionsAreCopied(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	const definition = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {}\n"
	edit(t, filepath.Join(from, "things.yaml"), definition)
	edit(t, filepath.Join(from, "kustomizeconfig.yaml"), "nameReference:\n- kind: Service\n  fieldSpecs:\n  - group: x\n    kind: CustomResourceDefinition\n")
	if err := copyCRDs(from, to); err != nil {
		t.Fatal(err)
	}
	copied, err := os.ReadDir(to)
	if err != nil {
		t.Fatal(err)
	}
	if len(copied) != 1 || copied[0].Name() != "things.yaml" {
		t.Errorf("copied %v, want things.yaml alone", copied)
	}
	if err := copyCRDs(from, to); err == nil || !strings.Contains(err.Error(), "things.yaml: a file of this name was already copied") {
		t.Errorf("the same name again: got %v", err)
	}
	if err := copyCRDs(t.TempDir(), to); err == nil || !strings.Contains(err.Error(), "no custom resource definitions in ") {
		t.Errorf("an empty directory: got %v", err)
	}
}

func TestAMendIsForOneLineThatIsThere(t *testing.T) {
	m := mend{file: "f.go", old: "a - b", new: "b - a"}
	if text, err := m.apply([]byte("x\na - b\n")); err != nil || string(text) != "x\nb - a\n" {
		t.Errorf("got %q, %v", text, err)
	}
	for _, text := range []string{"", "b - a", "a - b a - b"} {
		if _, err := m.apply([]byte(text)); err == nil || !strings.Contains(err.Error(), "mended upstream") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
