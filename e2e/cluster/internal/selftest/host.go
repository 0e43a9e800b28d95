package selftest

import (
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"weightlock.dev/e2e/cluster/internal/cluster"
	"weightlock.dev/e2e/cluster/internal/progress"
)

// hostState is what a cluster must leave on the host as it found it, one text per thing, by a name for people.
type hostState map[string][]string

// stray are the places where the programs of a node write if nothing stops them.
var stray = []string{"/etc/cni", "/etc/kubernetes", "/opt/cni", "/run/cilium", "/run/containerd", "/run/nri", "/run/runc",
	"/run/xtables.lock", "/usr/libexec/kubernetes", "/var/lib/cilium", "/var/lib/cni", "/var/lib/containerd",
	"/var/lib/etcd", "/var/lib/kubelet", "/var/log/containers", "/var/log/pods"}

// readHost reads the state of the host. Other programs change some of it at the same time, so only what could come
// from a cluster is read.
func readHost() (hostState, error) {
	state := hostState{}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 4 {
			state["mounts"] = append(state["mounts"], fields[4])
		}
	}
	links, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		state["network interfaces"] = append(state["network interfaces"], l.Name)
	}
	for _, path := range stray {
		if _, err := os.Lstat(path); err == nil {
			state["directories"] = append(state["directories"], path)
		}
	}
	if state["named network namespaces"], err = filepath.Glob("/run/netns/*"); err != nil {
		return nil, err
	}
	groups, err := filepath.Glob("/sys/fs/cgroup/*/*")
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		if info, err := os.Lstat(g); err == nil && info.IsDir() {
			state["cgroups"] = append(state["cgroups"], g)
		}
	}
	if state["listening ports"], err = listeningPorts(); err != nil {
		return nil, err
	}
	if state["sysctls"], err = readSysctls("/proc/sys/kernel", "/proc/sys/vm", "/proc/sys/fs/inotify", "/proc/sys/net/core",
		"/proc/sys/net/ipv4", "/proc/sys/net/ipv6"); err != nil {
		return nil, err
	}
	root, err := cluster.StateRoot()
	if err != nil {
		return nil, err
	}
	if state["cluster state"], err = filepath.Glob(filepath.Join(root, "*")); err != nil {
		return nil, err
	}
	others, err := otherClusters()
	if err != nil {
		return nil, err
	}
	state.without(others)
	return state, nil
}

// otherCluster is what another cluster of this program has on the host.
type otherCluster struct{ name, port string }

func otherClusters() ([]otherCluster, error) {
	names, err := cluster.List()
	if err != nil {
		return nil, err
	}
	var others []otherCluster
	for _, name := range names {
		if name == Name {
			continue
		}
		c, err := cluster.Open(name, nil, progress.New(io.Discard))
		if err != nil {
			return nil, err
		}
		others = append(others, otherCluster{name, fmt.Sprint(c.APIPort())})
	}
	return others, nil
}

// without leaves out what belongs to other clusters, which may come and go during the test.
func (s hostState) without(others []otherCluster) {
	for _, o := range others {
		s["cgroups"] = slices.DeleteFunc(s["cgroups"], func(v string) bool { return filepath.Base(v) == "wl-"+o.name })
		s["listening ports"] = slices.DeleteFunc(s["listening ports"], func(v string) bool { return v == o.port })
		s["cluster state"] = slices.DeleteFunc(s["cluster state"], func(v string) bool {
			return filepath.Base(v) == o.name || filepath.Base(v) == "."+o.name+".lock"
		})
	}
}

// listeningPorts gives the TCP ports on which something listens.
func listeningPorts() ([]string, error) {
	var ports []string
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		raw, err := os.ReadFile(table)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(raw)) {
			const local, state, listening = 1, 3, "0A"
			fields := strings.Fields(line)
			if len(fields) <= state || fields[state] != listening {
				continue
			}
			_, hex, _ := strings.Cut(fields[local], ":")
			port, err := strconv.ParseUint(hex, 16, 16)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", table, err)
			}
			ports = append(ports, fmt.Sprint(port))
		}
	}
	return ports, nil
}

// changing are sysctls that the kernel itself changes all the time.
var changing = regexp.MustCompile(`kernel/(random/|ns_last_pid|pty/nr)|vm/stat_refresh|kernel/sched_domain`)

func readSysctls(dirs ...string) ([]string, error) {
	var values []string
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || changing.MatchString(path) {
				return nil
			}
			info, err := d.Info()
			if err != nil || info.Mode().Perm()&0o222 == 0 || info.Mode().Perm()&0o444 == 0 {
				return nil
			}
			if raw, err := os.ReadFile(path); err == nil {
				values = append(values, path+" = "+strings.TrimSpace(string(raw)))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return values, nil
}

// differences gives what is in only one of two states.
func differences(before, after hostState) []string {
	var found []string
	for name := range after {
		for _, v := range after[name] {
			if !slices.Contains(before[name], v) {
				found = append(found, name+": new: "+v)
			}
		}
		for _, v := range before[name] {
			if !slices.Contains(after[name], v) {
				found = append(found, name+": gone: "+v)
			}
		}
	}
	slices.Sort(found)
	return found
}

// settled reads the host until it is as before or a few seconds have passed, and gives the last differences: other
// programs come and go, and what the kernel frees it frees a moment later.
func settled(before hostState) ([]string, error) {
	var diff []string
	for range 20 {
		after, err := readHost()
		if err != nil {
			return nil, err
		}
		if diff = differences(before, after); len(diff) == 0 {
			return nil, nil
		}
		time.Sleep(500 * time.Millisecond)
	}
	return diff, nil
}
