package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	ipProgram   = "/sbin/ip"
	networkOnly = unix.CLONE_NEWNET
)

// startMember makes the namespaces and cgroups of a member and registers its holder.
func (c *Cluster) startMember(name string) (process, error) {
	if err := os.MkdirAll(c.path(name, "log"), 0o755); err != nil {
		return process{}, err
	}
	for _, group := range []string{c.componentCgroup(name), c.kubeletCgroup(name)} {
		if _, err := makeCgroup(group, group == c.kubeletCgroup(name)); err != nil {
			return process{}, err
		}
	}
	holder, err := startHolder(filepath.Join(c.set.Bin, "pause"), c.dir)
	if err != nil {
		return process{}, err
	}
	return holder, c.updateMember(name, func(m *memberState) {
		*m = memberState{Holder: holder, Processes: map[string]process{}, Booted: time.Now().Truncate(time.Second)}
	})
}

// cgroup is the group that holds all of the cluster.
func (c *Cluster) cgroup() string { return "wl-" + c.name }

// componentCgroup is the group of a member's own programs, kubeletCgroup that of its pods. They are apart because
// cgroup v2 has no group that holds processes and groups at once.
func (c *Cluster) componentCgroup(member string) string {
	return c.cgroup() + "/" + member + "-components"
}

func (c *Cluster) kubeletCgroup(member string) string { return c.cgroup() + "/" + member }

// stopMember ends everything that runs in a member, and with it its namespaces and mounts, and removes its cgroups.
func (c *Cluster) stopMember(name string) error {
	if err := c.member(name).Holder.kill(); err != nil {
		return err
	}
	for _, group := range []string{c.componentCgroup(name), c.kubeletCgroup(name)} {
		if err := removeCgroup(group); err != nil {
			return err
		}
	}
	return nil
}

// start runs a component in its member and registers it. It does nothing if the component runs already.
func (c *Cluster) start(member string, comp component) error {
	m := c.member(member)
	if m.Processes[comp.name].alive() {
		return nil
	}
	cmd, err := comp.command(c, member)
	if err != nil {
		return err
	}
	for _, f := range cmd.Extra {
		defer f.Close()
	}
	groups, err := makeCgroup(c.componentCgroup(member), false)
	if err != nil {
		return err
	}
	p, err := startInside(m.Holder, cmd, groups, c.logFile(member, comp.name))
	if err != nil {
		return fmt.Errorf("%s on %s: %w", comp.name, member, err)
	}
	return c.updateMember(member, func(m *memberState) { m.Processes[comp.name] = p })
}

// settle gives a new member its host name and mounts of its own: nothing mounted in there reaches the host, and /proc
// shows the processes of the member.
func settle(ctx context.Context, holder process, hostname string) error {
	err := inside(holder.Pid, memberNamespaces, func() error {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("make mounts private: %w", err)
		}
		if err := unix.Sethostname([]byte(hostname)); err != nil {
			return fmt.Errorf("set host name: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	// A program of its own: a thread that entered a pid namespace is not in it, and would mount the host's /proc.
	_, err = runInside(ctx, holder, command{Path: "/bin/mount", Args: []string{"-t", "proc", "-o", "nosuid,nodev,noexec", "proc", "/proc"}})
	return err
}
