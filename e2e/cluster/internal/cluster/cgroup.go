package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// hierarchy is one mounted cgroup tree: one per controller with cgroup v1, a single one with cgroup v2.
type hierarchy struct {
	dir string
	v2  bool
}

// kubeletControllers are what the kubelet needs of cgroup v2.
var kubeletControllers = []string{"cpu", "cpuset", "memory", "pids"}

func hierarchies() ([]hierarchy, error) {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	found := parseHierarchies(string(raw))
	if len(found) == 0 {
		return nil, errors.New("no cgroup hierarchy is mounted below /sys/fs/cgroup: the kubelet needs cgroups")
	}
	return found, nil
}

// parseHierarchies finds the cgroup mounts in the text of /proc/PID/mountinfo, each mount point once.
func parseHierarchies(mountinfo string) []hierarchy {
	var found []hierarchy
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		fields, types := strings.Fields(before), strings.Fields(after)
		const mountPoint = 4
		if !ok || len(fields) <= mountPoint || len(types) == 0 {
			continue
		}
		h := hierarchy{dir: fields[mountPoint], v2: types[0] == "cgroup2"}
		if h.v2 || types[0] == "cgroup" {
			if strings.HasPrefix(h.dir, "/sys/fs/cgroup") && !slices.Contains(found, h) {
				found = append(found, h)
			}
		}
	}
	return found
}

// joins tells whether processes of the cluster move into this hierarchy: into all of v1, and into v2 only where it is
// the one in use. (Beside v1 a v2 mount has no controllers and nothing would come of it.)
func joins(h hierarchy, all []hierarchy) bool { return !h.v2 || len(all) == 1 }

// makeCgroup creates the group path (relative, for example "wl-weightlock/node1") in every hierarchy, ready for
// processes or for the kubelet's own groups below it, and gives its directories.
func makeCgroup(path string, below bool) ([]string, error) {
	all, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, h := range all {
		dir := h.dir
		parts := strings.Split(path, "/")
		for i, part := range parts {
			parent := dir
			dir = filepath.Join(dir, part)
			if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, fmt.Errorf("make cgroup: %w", err)
			}
			if h.v2 && len(all) == 1 && (below || i < len(parts)-1) {
				if err := delegate(h.dir, parent, dir); err != nil {
					return nil, err
				}
			}
			if err := inheritCPUSet(parent, dir); err != nil {
				return nil, err
			}
		}
		if joins(h, all) {
			dirs = append(dirs, dir)
		}
	}
	return dirs, nil
}

// delegate passes the controllers that the kubelet needs on to the children of dir (cgroup v2).
func delegate(root, parent, dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for _, c := range kubeletControllers {
		if !slices.Contains(strings.Fields(string(raw)), c) {
			return fmt.Errorf("cgroup %s lacks the controller %s: echo +%s > %s (from %s downwards)", dir, c, c,
				filepath.Join(parent, "cgroup.subtree_control"), root)
		}
	}
	return os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+strings.Join(kubeletControllers, " +")), 0o644)
}

// inheritCPUSet gives a new v1 cpuset group the processors and memory nodes of its parent: with none, no process can
// join it. It does nothing elsewhere.
func inheritCPUSet(parent, dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		from, err := os.ReadFile(filepath.Join(parent, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		have, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(have)) != "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, file), from, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// joinCgroup moves the calling thread, and so what it starts, into a v1 group. In v2 threads cannot move by
// themselves: moveToCgroup does it afterwards.
func joinCgroup(dir string) error {
	err := os.WriteFile(filepath.Join(dir, "tasks"), []byte(strconv.Itoa(unix.Gettid())), 0o644)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}

// moveToCgroup moves a process into a v2 group.
func moveToCgroup(dir string, pid int) error {
	if _, err := os.Stat(filepath.Join(dir, "tasks")); err == nil {
		return nil
	}
	return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644)
}

// removeCgroup removes the group path and all below it from every hierarchy. The processes in them must have ended;
// the kernel may need a moment longer.
func removeCgroup(path string) error {
	all, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range all {
		top := filepath.Join(h.dir, path)
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			err := removeTree(top)
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("remove cgroup: %w: see its cgroup.procs", err)
			}
		}
	}
	return nil
}

// removeTree removes a directory of directories, children first. The files in a cgroup go with it.
func removeTree(top string) error {
	var dirs []string
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	for _, dir := range slices.Backward(dirs) {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
