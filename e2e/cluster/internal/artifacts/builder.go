package artifacts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"weightlock.dev/e2e/cluster/internal/logged"
	"weightlock.dev/e2e/cluster/internal/progress"
)

// component is one unit of the cache: a directory of files made from known inputs.
type component struct {
	name string
	// dest is the directory of the set into which the component's files go; empty for what is not part of a set.
	dest string
	// estimate is the usual time on two cores when neither the module cache nor the build cache holds anything.
	estimate time.Duration
	// inputs adds to the key everything that the result depends on, other components by their keys.
	inputs func(k *keyer) error
	// make writes the files into out.
	make func(out string) error

	key string
}

// builder builds the components of one checkout into one cache.
type builder struct {
	ctx        context.Context
	src, cache string
	goVersion  string
	log        *progress.Log
	components []*component
	byName     map[string]*component
}

func newBuilder(ctx context.Context, srcDir string, log *progress.Log) (*builder, error) {
	src, err := filepath.Abs(srcDir)
	if err != nil {
		return nil, err
	}
	cache, err := CacheRoot()
	if err != nil {
		return nil, err
	}
	b := &builder{ctx: ctx, src: src, cache: cache, log: log, byName: map[string]*component{}}
	if b.goVersion, err = goVersion(ctx, src); err != nil {
		return nil, err
	}
	if err := b.add(setComponents(b)...); err != nil {
		return nil, err
	}
	return b, nil
}

// add registers components after those that their inputs refer to, and computes their keys.
func (b *builder) add(components ...*component) error {
	for _, c := range components {
		k := newKeyer()
		k.add(c.name, c.dest)
		if err := c.inputs(k); err != nil {
			return fmt.Errorf("read the inputs of %s (is %s the directory e2e/cluster of a complete checkout?): %w", c.name, b.src, err)
		}
		c.key = k.sum()
		b.components = append(b.components, c)
		b.byName[c.name] = c
	}
	return nil
}

func goVersion(ctx context.Context, dir string) (string, error) {
	if _, err := exec.LookPath("go"); err != nil {
		return "", errors.New("`go` is not on PATH: install Go 1.26 or newer (https://go.dev/dl/) and put its bin directory on PATH")
	}
	cmd := exec.CommandContext(ctx, "go", "env", "GOVERSION")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("`go env GOVERSION` in %s: %w", dir, err)
	}
	return strings.TrimSpace(string(out)), nil
}

func (b *builder) path(c *component) string {
	return filepath.Join(b.cache, "components", c.name+"-"+c.key)
}

// file is the path of a built component's file.
func (b *builder) file(component, name string) string {
	return filepath.Join(b.path(b.byName[component]), name)
}

func (b *builder) build(c *component) error {
	parent := filepath.Join(b.cache, "components")
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(parent, ".building-"+c.name+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	if err := c.make(tmp); err != nil {
		return err
	}
	return os.Rename(tmp, b.path(c))
}

// set names the set that all components of a set give together.
func (b *builder) set() *Set {
	k := newKeyer()
	k.add(layoutVersion)
	for _, c := range b.components {
		if c.dest != "" {
			k.add(c.name, c.key)
		}
	}
	return newSet(b.src, filepath.Join(b.cache, "sets", k.sum()))
}

// assemble links the components into the directories of the set. Hard links cost no space and keep a set whole even
// when a component is later removed from the cache.
func (b *builder) assemble(set *Set) error {
	parent := filepath.Dir(set.Root)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(parent, ".assembling-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	for _, c := range b.components {
		if c.dest == "" {
			continue
		}
		if err := linkTree(b.path(c), filepath.Join(tmp, c.dest)); err != nil {
			return err
		}
	}
	clang, err := exec.LookPath("clang-19")
	if err != nil {
		return err
	}
	links := map[string]string{"clang": clang}
	for _, name := range hyperkubeNames {
		links[name] = "hyperkube"
	}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(tmp, binDir, name)); err != nil {
			return err
		}
	}
	return os.Rename(tmp, set.Root)
}

func linkTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		return os.Link(path, filepath.Join(to, rel))
	})
}

// run executes a program with its output in a log of the given name.
func (b *builder) run(name, dir string, env, args []string) error {
	return logged.Run(b.ctx, logged.Command{Log: logPath(b.cache, name), Dir: dir, Env: env, Args: args})
}

func logPath(cache, name string) string { return filepath.Join(cache, "logs", name+".log") }
