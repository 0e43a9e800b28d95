package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Down removes the cluster with everything that belongs to it. A cluster that does not exist is no error.
func (c *Cluster) Down(ctx context.Context) error {
	unlock, err := c.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if !c.remains() {
		c.log.Printf("cluster %s does not exist", c.name)
		return nil
	}
	if err := c.teardown(); err != nil {
		return err
	}
	c.log.Printf("cluster %s is gone", c.name)
	return nil
}

// remains tells whether anything of the cluster is there: its state, or holders whose state somebody removed.
func (c *Cluster) remains() bool { return c.exists || len(findHolders(c.dir)) > 0 }

// teardown removes everything of the cluster, whatever state it is in.
func (c *Cluster) teardown() error {
	if err := c.endProcesses(); err != nil {
		return err
	}
	failed := []error{restoreSysctls(c.state.Sysctls), unmountBelow(c.dir)}
	// With a mount left below, removing the directory would remove what is mounted.
	if errors.Join(failed...) == nil {
		failed = append(failed, os.RemoveAll(c.dir), c.lowerSysctls())
	}
	c.exists, c.client = false, nil
	return errors.Join(failed...)
}

// endProcesses kills every holder of the cluster, which ends all that ran in its namespaces, and removes the cgroups.
func (c *Cluster) endProcesses() error {
	holders := findHolders(c.dir)
	c.mu.Lock()
	for _, m := range c.state.Members {
		if !slices.Contains(holders, m.Holder) {
			holders = append(holders, m.Holder)
		}
	}
	c.mu.Unlock()
	var work []func() error
	for _, h := range holders {
		work = append(work, h.kill)
	}
	if err := parallel(work...); err != nil {
		return err
	}
	return removeCgroup(c.cgroup())
}

// unmountBelow detaches mounts of the host below dir. This program makes none; somebody else may have.
func unmountBelow(dir string) error {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var failed []error
	for line := range strings.Lines(string(raw)) {
		fields := strings.Fields(line)
		const mountPoint = 4
		if len(fields) <= mountPoint || !strings.HasPrefix(fields[mountPoint], dir+"/") {
			continue
		}
		if err := unix.Unmount(fields[mountPoint], unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			failed = append(failed, fmt.Errorf("unmount %s: %w", fields[mountPoint], err))
		}
	}
	return errors.Join(failed...)
}
