package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// hostSysctls are the settings of the whole machine that the kubelet and Cilium write, with the value they want. Each
// node sees a file of its own in their place; some, once raised, could not be lowered again.
var hostSysctls = map[string]string{
	"kernel/keys/root_maxbytes":        "25000000",
	"kernel/keys/root_maxkeys":         "1000000",
	"kernel/panic":                     "10",
	"kernel/panic_on_oops":             "1",
	"kernel/timer_migration":           "0",
	"kernel/unprivileged_bpf_disabled": "2",
	"net/core/bpf_jit_enable":          "1",
	"vm/overcommit_memory":             "1",
	"vm/panic_on_oom":                  "0",
}

// readSysctls gives the value of each of hostSysctls that this kernel has.
func readSysctls() map[string]string {
	values := map[string]string{}
	for key := range hostSysctls {
		if raw, err := os.ReadFile(filepath.Join("/proc/sys", key)); err == nil {
			values[key] = strings.TrimSpace(string(raw))
		}
	}
	return values
}

// restoreSysctls sets back what differs from the saved values. Nothing should: the nodes write to files of their own.
func restoreSysctls(saved map[string]string) error {
	var failed []error
	for key, now := range readSysctls() {
		want, ok := saved[key]
		if !ok || now == want {
			continue
		}
		if err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(want), 0o644); err != nil {
			failed = append(failed, fmt.Errorf("sysctl %s is %s and was %s: %w", strings.ReplaceAll(key, "/", "."), now, want, err))
		}
	}
	return errors.Join(failed...)
}

// raisedSysctls are limits of the machine that a few clusters together exceed, and what all of them need. Each kubelet,
// API server and controller-manager watches some files; root has 128 such watchers by default.
var raisedSysctls = map[string]int{"fs/inotify/max_user_instances": 1024}

// raisedFile keeps, for as long as any cluster exists, what the raised limits were before the first.
func (c *Cluster) raisedFile() string { return filepath.Join(filepath.Dir(c.dir), ".sysctls.json") }

// raiseSysctls raises the limits that are lower than clusters need. The cluster's state must exist already: by it
// another cluster's down knows that they are still needed.
func (c *Cluster) raiseSysctls(ctx context.Context) error {
	f, err := lockFile(ctx, c.raisedFile(), nil)
	if err != nil {
		return err
	}
	original := map[string]string{}
	if raw, err := io.ReadAll(f); err == nil && len(raw) > 0 {
		if err := json.Unmarshal(raw, &original); err != nil {
			unlock(f, false)
			return fmt.Errorf("%s: %w: remove it", f.Name(), err)
		}
	}
	for key, want := range raisedSysctls {
		path := filepath.Join("/proc/sys", key)
		raw, err := os.ReadFile(path)
		if err != nil {
			continue // this kernel has no such limit
		}
		now := strings.TrimSpace(string(raw))
		if n, err := strconv.Atoi(now); err != nil || n >= want {
			continue
		}
		if err := os.WriteFile(path, []byte(strconv.Itoa(want)), 0o644); err != nil {
			c.log.Printf("sysctl %s stays %s (%v): several clusters at once may not start", strings.ReplaceAll(key, "/", "."), now, err)
			continue
		}
		if _, ok := original[key]; !ok {
			original[key] = now
		}
	}
	if len(original) == 0 {
		unlock(f, true)
		return nil
	}
	raw, err := json.Marshal(original)
	if err == nil {
		_, err = f.WriteAt(raw, 0)
	}
	unlock(f, false)
	return err
}

// lowerSysctls sets the limits back once no cluster is left.
func (c *Cluster) lowerSysctls() error {
	if _, err := os.Stat(c.raisedFile()); err != nil {
		return nil
	}
	f, err := lockFile(context.Background(), c.raisedFile(), nil)
	if err != nil {
		return err
	}
	names, err := List()
	if err != nil || len(names) > 0 {
		unlock(f, false)
		return err
	}
	defer unlock(f, true)
	original := map[string]string{}
	if err := json.NewDecoder(f).Decode(&original); err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	var failed []error
	for key, value := range original {
		failed = append(failed, os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0o644))
	}
	return errors.Join(failed...)
}

// coverSysctls mounts a file of the node over each of hostSysctls. It must run in the node's mount namespace.
func coverSysctls(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for key, value := range hostSysctls {
		target := filepath.Join("/proc/sys", key)
		if _, err := os.Stat(target); err != nil {
			continue // this kernel has no such setting
		}
		file := filepath.Join(dir, strings.ReplaceAll(key, "/", "."))
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := unix.Mount(file, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("cover sysctl %s: %w", key, err)
		}
	}
	return nil
}
