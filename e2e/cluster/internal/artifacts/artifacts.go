// Package artifacts builds everything that the local cluster runs, from package registries only: Kubernetes, etcd,
// containerd, runc, Cilium and the test images from the Go module proxy, a few host tools from Debian.
//
// What is built lies in a content-keyed cache outside the checkout. Each component has a key of its own over the
// module files, sources and flags that it is made from, so a change rebuilds only what it touches. A component and
// the assembled set are made under a temporary name and renamed, so an interrupted build leaves nothing half-made.
package artifacts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"weightlock.dev/e2e/cluster/internal/progress"
)

// Set is one complete collection of what a cluster needs. All paths are absolute. The directories belong to the
// cache: read them, never write into them.
type Set struct {
	// Source is the directory of this Go module (e2e/cluster) that the set was built from.
	Source string
	// Root holds the directories below and is named after the key of the whole set.
	Root string
	// Bin holds the programs by the name they are called by, kube-apiserver to kubelet as links to hyperkube,
	// and clang as a link to the clang-19 of the machine.
	Bin string
	// CNI holds the CNI plugins: loopback, portmap and cilium-cni.
	CNI string
	// Images holds OCI archives: pause.tar, agnhost.tar, coredns.tar and model-server.tar.
	Images string
	// CiliumBPF is the source of Cilium's datapath, which each agent compiles from a writable copy.
	CiliumBPF string
	// CiliumCRDs and PolicyAPICRDs hold the YAML of the custom resources that the Cilium agent reads.
	CiliumCRDs, PolicyAPICRDs string
}

// The images of a Set, by the name that containerd knows them by after an import.
const (
	PauseImage       = "registry.invalid/e2e/pause:1"
	AgnhostImage     = "registry.invalid/e2e/agnhost:2.63.0"
	CoreDNSImage     = "registry.invalid/e2e/coredns:1.14.7"
	ModelServerImage = "registry.invalid/e2e/model-server:1"
)

func newSet(source, root string) *Set {
	dir := func(name string) string { return filepath.Join(root, name) }
	return &Set{Source: source, Root: root, Bin: dir(binDir), CNI: dir(cniDir), Images: dir(imagesDir),
		CiliumBPF: dir(bpfDir), CiliumCRDs: dir(ciliumCRDDir), PolicyAPICRDs: dir(policyCRDDir)}
}

// CacheRoot is the directory under which all sets and components lie: $WEIGHTLOCK_E2E_CACHE, else
// $XDG_CACHE_HOME/weightlock-e2e, else ~/.cache/weightlock-e2e.
func CacheRoot() (string, error) {
	dir := os.Getenv("WEIGHTLOCK_E2E_CACHE")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("no place for the cache (%w): set WEIGHTLOCK_E2E_CACHE to a directory", err)
		}
		dir = filepath.Join(base, "weightlock-e2e")
	}
	return filepath.Abs(dir)
}

// Lookup returns the set that belongs to the sources in srcDir if all of it is already built. It builds nothing,
// installs nothing and reads no network.
func Lookup(srcDir string) (*Set, bool) {
	b, err := newBuilder(context.Background(), srcDir, nil)
	if err != nil {
		return nil, false
	}
	set := b.set()
	_, err = os.Stat(set.Root)
	return set, err == nil
}

// Ensure returns the set that belongs to the sources in srcDir (the directory e2e/cluster), after it installed the
// missing Debian packages and built the missing components. Cold it takes about a quarter of an hour on two cores,
// with everything cached well under a second. Errors say what to do and name the log of the build that failed.
func Ensure(ctx context.Context, srcDir string, log *progress.Log) (*Set, error) {
	if err := ensureDebianPackages(ctx, log); err != nil {
		return nil, err
	}
	b, err := newBuilder(ctx, srcDir, log)
	if err != nil {
		return nil, err
	}
	set := b.set()
	if _, err := os.Stat(set.Root); err == nil {
		return set, nil
	}
	unlock, err := b.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := b.buildMissing(b.components); err != nil {
		return nil, err
	}
	if err := b.assemble(set); err != nil {
		return nil, fmt.Errorf("assemble %s from its components: %w", set.Root, err)
	}
	return set, nil
}

// buildMissing builds, in order, those of the given components that the cache does not hold.
func (b *builder) buildMissing(components []*component) error {
	var missing []*component
	var total time.Duration
	for _, c := range components {
		if _, err := os.Stat(b.path(c)); errors.Is(err, os.ErrNotExist) {
			missing = append(missing, c)
			total += c.estimate
		} else if err != nil {
			return err
		}
	}
	if len(missing) == 0 {
		return nil
	}
	b.log.Printf("building %d of %d components into %s: about %.0f min on 2 cores with empty Go caches, less otherwise",
		len(missing), len(components), b.cache, max(1, total.Minutes()))
	for i, c := range missing {
		step := b.log.Step(fmt.Sprintf("build %s (%d of %d)", c.name, i+1, len(missing)), c.estimate)
		err := b.build(c)
		step.Done(err)
		if err != nil {
			return fmt.Errorf("build %s: %w", c.name, err)
		}
	}
	return nil
}

// lock keeps two builds out of each other's way; the second then finds everything ready.
func (b *builder) lock() (func(), error) {
	if err := os.MkdirAll(b.cache, 0o755); err != nil {
		return nil, fmt.Errorf("%w: set WEIGHTLOCK_E2E_CACHE to a directory that can be written", err)
	}
	f, err := os.OpenFile(filepath.Join(b.cache, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("%w: set WEIGHTLOCK_E2E_CACHE to a directory that can be written", err)
	}
	try := func() error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }
	if err = try(); errors.Is(err, syscall.EWOULDBLOCK) {
		step := b.log.Step("wait for another build that holds "+f.Name(), 0)
		for errors.Is(err, syscall.EWOULDBLOCK) {
			select {
			case <-b.ctx.Done():
				err = b.ctx.Err()
			case <-time.After(200 * time.Millisecond):
				err = try()
			}
		}
		step.Done(err)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}
