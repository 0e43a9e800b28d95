package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
