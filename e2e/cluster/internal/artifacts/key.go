package artifacts

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// keyer accumulates what a component is made from. Every field is written with its length, so that no two different
// inputs give the same bytes.
type keyer struct{ h hash.Hash }

func newKeyer() *keyer { return &keyer{h: sha256.New()} }

func (k *keyer) add(fields ...string) {
	for _, f := range fields {
		fmt.Fprintf(k.h, "%d:%s\n", len(f), f)
	}
}

// addFile adds the contents of a file under a name that does not depend on where the checkout lies.
func (k *keyer) addFile(name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	k.add(name, hex.EncodeToString(h.Sum(nil)))
	return nil
}

// addTree adds every regular file below dir, except Go's tests when they are not part of what is built.
func (k *keyer) addTree(dir string, tests bool) error {
	return k.addFiles(dir, func(name string) bool { return tests || !strings.HasSuffix(name, "_test.go") })
}

// addFiles adds the regular files below dir whose path, relative to dir, is wanted.
func (k *keyer) addFiles(dir string, wanted func(name string) bool) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil || !wanted(rel) {
			return err
		}
		return k.addFile(rel, path)
	})
}

// sum is short enough for a directory name and long enough that two inputs never share one.
func (k *keyer) sum() string { return hex.EncodeToString(k.h.Sum(nil))[:24] }

// SourceKey is a key over all that a cluster's behaviour comes from: every file of srcDir (the directory e2e/cluster)
// but the documentation and the unit tests.
func SourceKey(srcDir string) (string, error) {
	k := newKeyer()
	err := k.addFiles(srcDir, func(name string) bool {
		return !strings.HasSuffix(name, ".md") && (!strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, netpolDir+"/"))
	})
	return k.sum(), err
}
