package conformance

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"weightlock.dev/e2e/cluster/internal/artifacts"
)

// Which of the two runs a proof is about.
const (
	enforced = "netpol"
	negative = "netpol-negative"
)

// Proved tells whether the complete suite, or the three specs of NetpolNegative, passed before on this machine's
// kernel with the very sources that e2e/cluster now has, and says when. A run takes minutes, and nothing that it
// depends on has changed then.
func Proved(set *artifacts.Set, withoutEnforcement bool) (when string, ok bool, err error) {
	name := enforced
	if withoutEnforcement {
		name = negative
	}
	path, err := proofPath(set, name)
	if err != nil {
		return "", false, err
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	return strings.TrimSpace(string(data)), err == nil, err
}

// prove records that the named run came out as it must.
func prove(set *artifacts.Set, name string, r result) error {
	path, err := proofPath(set, name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	text := fmt.Sprintf("%s at %s\n", r, time.Now().UTC().Format(time.RFC3339))
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func proofPath(set *artifacts.Set, name string) (string, error) {
	sources, err := artifacts.SourceKey(set.Source)
	if err != nil {
		return "", err
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "", err
	}
	cache, err := artifacts.CacheRoot()
	if err != nil {
		return "", err
	}
	file := strings.Join([]string{name, sources, filepath.Base(set.Root), strings.TrimSpace(string(kernel))}, "_")
	return filepath.Join(cache, "proofs", file), nil
}
