package artifacts

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// mend is a change of one line of a dependency whose fault would hide whether Weightlock is right. Each has a place in the
// documentation that tells users of the fault.
type mend struct {
	file     string // in the module
	old, new string
}

// ciliumMends: the tiers of ClusterNetworkPolicies are numbers without a sign, so their difference does not sort them, and what a
// new pod changes in a policy map is applied in the wrong order (docs/network-policies.md).
var ciliumMends = []mend{{
	file: "pkg/policy/mapstate.go",
	old:  "return int(a.Tier - b.Tier)",
	new:  "return int(a.Tier) - int(b.Tier)",
}}

func (m mend) apply(text []byte) ([]byte, error) {
	if found := bytes.Count(text, []byte(m.old)); found != 1 {
		return nil, fmt.Errorf("%s has the line %q %d times, not once: look whether it was mended upstream, and remove or adapt the mend",
			m.file, m.old, found)
	}
	return bytes.Replace(text, []byte(m.old), []byte(m.new), 1), nil
}

// mended makes a copy of a dependency of the module in dir with its mends in tmp, and returns the arguments by which `go build`
// takes it.
func (b *builder) mended(dir, module string, mends []mend, tmp string) ([]string, error) {
	from, err := b.moduleDir(dir, module)
	if err != nil {
		return nil, err
	}
	to := filepath.Join(tmp, "source")
	if linkTree(from, to) != nil {
		// The module cache may be on another disk.
		if err := errors.Join(os.RemoveAll(to), copyTree(from, to)); err != nil {
			return nil, err
		}
	}
	for _, m := range mends {
		path := filepath.Join(to, filepath.FromSlash(m.file))
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if text, err = m.apply(text); err != nil {
			return nil, fmt.Errorf("%s: %w", module, err)
		}
		// Anew: the file is the one of the module cache.
		if err := os.Remove(path); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return nil, err
		}
	}
	modfile := filepath.Join(tmp, "go.mod")
	requirements, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return nil, err
	}
	replaced := fmt.Sprintf("%s\nreplace %s => %s\n", strings.TrimRight(string(requirements), "\n"), module, to)
	if err := os.WriteFile(modfile, []byte(replaced), 0o644); err != nil {
		return nil, err
	}
	return []string{"-modfile=" + modfile}, copyFile(filepath.Join(dir, "go.sum"), filepath.Join(tmp, "go.sum"))
}
